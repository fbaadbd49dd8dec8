"""A command as a process of its own. Knows no job."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT, Popen
from typing import Any

from fashion_lightning.errors import WorkError

PYTHON = (sys.executable, "-u", "-m")  # unbuffered: lines arrive in their order


def start(
    command: Sequence[str], variables: Mapping[str, str], folder: Path | None = None, output: int = PIPE
) -> Popen[bytes]:
    """Starts `python -m COMMAND` in `folder` (default: the current one), with `variables` in its environment."""
    return _started(command, variables, cwd=folder, stdin=DEVNULL, stdout=output)


def start_tied(command: Sequence[str], variables: Mapping[str, str], log: Path) -> Popen[bytes]:
    """As `start`, but it gets SIGTERM when this process ends, and no Ctrl-C; its output is added to `log`."""
    with open(log, "ab") as output:
        return _started(
            ["fashion_lightning.jobs.tied", *command], variables, stdin=PIPE, stdout=output, process_group=0
        )


def _started(command: Sequence[str], variables: Mapping[str, str], **options: Any) -> Popen[bytes]:
    return Popen([*PYTHON, *command], env={**os.environ, **variables}, stderr=STDOUT, **options)


def last_line(output: bytes) -> str:
    *_, last = ["", *output.decode(errors="replace").strip().splitlines()]
    return last.removeprefix("error: ")


def check(name: str, status: int, output: bytes) -> None:
    """Raises WorkError, with the last line of its output, if the process `name` failed."""
    if status:
        raise WorkError(f"{name} ended with exit {status}: {last_line(output)}")

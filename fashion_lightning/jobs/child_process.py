"""A command as a process of its own. Knows no job."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT, Popen

from fashion_lightning.errors import WorkError


def start(
    command: Sequence[str], variables: Mapping[str, str], folder: Path | None = None, output: int = PIPE
) -> Popen[bytes]:
    """Starts `python -m COMMAND` in `folder` (default: the current one), with `variables` in its environment."""
    environment = {**os.environ, **variables}
    arguments = [sys.executable, "-u", "-m", *command]  # unbuffered: lines arrive in their order
    return Popen(arguments, cwd=folder, env=environment, stdin=DEVNULL, stdout=output, stderr=STDOUT)


def check(name: str, status: int, output: bytes) -> None:
    """Raises WorkError, with the last line of its output, if the process `name` failed."""
    if status:
        *_, last = ["", *output.decode(errors="replace").strip().splitlines()]
        raise WorkError(f"{name} ended with exit {status}: {last.removeprefix('error: ')}")

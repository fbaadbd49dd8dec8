"""A command as a process of its own. Knows no job."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from fashion_lightning.errors import WorkError


def start(
    command: Sequence[str], variables: Mapping[str, str], folder: Path | None = None, output: int = subprocess.PIPE
) -> subprocess.Popen[bytes]:
    """Starts `python -m COMMAND` in `folder` (default: the current one), with `variables` in its environment."""
    environment = {**os.environ, **variables}
    arguments = [sys.executable, "-m", *command]
    return subprocess.Popen(
        arguments, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
    )


def check(process: subprocess.Popen[bytes], output: bytes) -> None:
    """Raises WorkError, with the last line of its output, if the ended process failed."""
    if process.returncode:
        *_, last = ["", *output.decode(errors="replace").strip().splitlines()]
        raise WorkError(f"{process.args!r} ended with exit {process.returncode}: {last.removeprefix('error: ')}")


def wait(process: subprocess.Popen[bytes], timeout: float) -> None:
    """Waits `timeout` seconds for the end. Raises WorkError, see `check`, and subprocess.TimeoutExpired."""
    output, _ = process.communicate(timeout=timeout)
    check(process, output)

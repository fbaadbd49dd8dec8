"""Runs a command as a user at a terminal would, and says what it took. Shared by the benchmarks."""

import contextlib
import json
import os
import platform
import pty
import re
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from fashion_lightning.jobs import child_process
from fashion_lightning.storage.run_folders import runs

ROOT = Path(__file__).parent.parent


def measure(
    command: list[str], environment: dict[str, str] | None = None, folder: str | Path | None = None
) -> dict[str, Any]:
    """Runs `python -m command` in `folder`, or an empty one, with a terminal of its own.

    Returns what it wrote to `results.json`, or printed as JSON in its last line, and `process_seconds` and
    `peak_bytes` (resident, of its largest process). Raises WorkError, with its last line, if it fails.
    """
    with contextlib.nullcontext(folder) if folder else tempfile.TemporaryDirectory() as place:
        terminal, its_terminal = pty.openpty()
        start = time.perf_counter()
        variables = {"PYTHONPATH": str(ROOT), **(environment or {})}
        process = child_process.start(command, variables, Path(place), its_terminal)
        os.close(its_terminal)
        output = b"".join(_chunks(terminal))
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        child_process.check(" ".join(command), process.returncode, output)
        written = [run.results.read_text() for run in runs(Path(place)) if run.results.is_file()]
        results = json.loads(written[0] if written else re.findall(r"^\{.*\}", output.decode(), re.M)[-1])
    return {**results, "process_seconds": seconds, "peak_bytes": usage.ru_maxrss * 1024}


def _chunks(terminal: int) -> Iterator[bytes]:
    """What is printed, until the other end is closed."""
    with contextlib.suppress(OSError):  # which says that
        while chunk := os.read(terminal, 65536):
            yield chunk
    os.close(terminal)


def matrix_product_gflops(size: int = 2048, repeats: int = 9) -> float:
    """Median GFLOP/s of a float32 product of two (size, size) matrices: what this machine can do."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        a @ b
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / statistics.median(seconds) / 1e9


def where_and_with_what(packages: Iterable[str] = ("torch", "torchvision", "pytorch-lightning")) -> str:
    """Machine and versions, in a line."""
    cpuinfo = Path("/proc/cpuinfo")
    names = re.findall(r"^model name\s*: (.*)", cpuinfo.read_text(), re.M) if cpuinfo.exists() else []
    versions = ", ".join(f"{package} {version(package)}" for package in packages)
    cpu = names[0] if names else platform.processor()
    return f"{cpu}, {torch.get_num_threads()} threads, Python {platform.python_version()}, {versions}"

"""Runs a command as a user at a terminal would, and says what it took. Shared by the benchmarks."""

import contextlib
import json
import os
import platform
import pty
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parent.parent


def measure(
    command: list[str], environment: dict[str, str] | None = None, folder: str | Path | None = None
) -> dict[str, Any]:
    """Runs `python -m command` in `folder`, or an empty one, with a terminal of its own.

    Returns what it wrote to `results.json`, or printed as JSON in its last line, and `process_seconds` and
    `peak_bytes` (resident, of its largest process).
    """
    with contextlib.nullcontext(folder) if folder else tempfile.TemporaryDirectory() as folder:
        terminal, its_terminal = pty.openpty()
        start = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=its_terminal,
            stderr=its_terminal,
        )
        os.close(its_terminal)
        printed: list[bytes] = []
        reader = threading.Thread(target=_read, args=(terminal, printed))
        reader.start()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        reader.join()
        output = b"".join(printed).decode()
        if process.returncode:
            raise RuntimeError(f"{' '.join(command)} failed:\n{output}")
        written = [path.read_text() for path in Path(folder).glob("lightning_logs/*/results.json")]
        results = json.loads(written[0] if written else re.findall(r"^\{.*\}", output, re.M)[-1])
    return {**results, "process_seconds": seconds, "peak_bytes": usage.ru_maxrss * 1024}


def _read(terminal: int, printed: list[bytes]) -> None:
    while True:
        try:
            printed.append(os.read(terminal, 65536))
        except OSError:  # its other end is closed
            os.close(terminal)
            return


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

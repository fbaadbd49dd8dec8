"""Runs of real processes that kill themselves at a chosen point: forked from one that has imported everything."""

import importlib
import multiprocessing
import os
import signal
import sys
from pathlib import Path

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["fashion_lightning.fit", "fashion_lightning.jobs", "torch.utils.tensorboard"])


def run(folder: Path, args: list[str], kill: tuple[str, int, str] | None = None, timeout: float = 60) -> int:
    """Exit status of `fit` with `args` in `folder`, negative for a signal; output goes to `folder/out` and `err`.

    Args:
        kill: The full name of a function, the number of its call to kill the process at, and whether `before` it,
            `after` it, or `half` way of what it should write.
    """
    process = CONTEXT.Process(target=_fit, args=(folder, args, kill))
    process.start()
    process.join(timeout)
    if process.is_alive():
        process.kill()
        raise TimeoutError(f"{args}, {kill}: {(folder / 'err').read_text()[-2000:]}")
    return process.exitcode


def _fit(folder: Path, args: list[str], kill: tuple[str, int, str] | None) -> None:
    from fashion_lightning import fit

    os.chdir(folder)
    for descriptor, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    if kill:
        _arm(*kill)
    try:
        fit.main(args)
    finally:
        sys.stdout.flush()


def _arm(name: str, count: int, when: str) -> None:
    path, attribute = name.rsplit(".", 1)
    try:
        owner = importlib.import_module(path)
    except ModuleNotFoundError:
        module, owner_name = path.rsplit(".", 1)
        owner = getattr(importlib.import_module(module), owner_name)
    original, calls = getattr(owner, attribute), 0

    def wrapper(*args, **kwargs):
        nonlocal calls
        calls += 1
        if calls == count and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*args, **kwargs)
        if calls == count and when == "half":
            content = bytes(result)
            Path("half").write_bytes(content[: len(content) // 2])
            stream = next(path for path in Path().rglob("*.part"))
            stream.write_bytes(content[: len(content) // 2])
        if calls == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, attribute, wrapper)

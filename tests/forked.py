"""Real processes of the commands, forked from one that has imported everything; they may be told to go wrong."""

import contextlib
import importlib
import multiprocessing
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["fashion_lightning.command_line.build", "torch.utils.tensorboard"])

Kill = tuple[str, int, str]


def start(
    folder: Path,
    args: list[str],
    kill: Kill | None = None,
    patch: Callable[[], None] | None = None,
    job: str = "fit",
    env: dict[str, str] | None = None,
) -> BaseProcess:
    """Begins `python -m fashion_lightning.<job> args` in `folder`; its output goes to `folder/out` and `folder/err`.

    Args:
        kill: The full name of a function, the number of its call in which the process kills itself, and whether
            `before` it, `after` it, or `half` way of the file that is being written.
        patch: What to change in the process before it begins.
    """
    folder.mkdir(exist_ok=True)
    process = CONTEXT.Process(target=_main, args=(folder, args, kill, patch, job, env or {}))
    process.start()
    return process


def wait(process: BaseProcess, timeout: float = 90) -> int:
    """Exit status, negative for the signal that ended the process."""
    process.join(timeout)
    if process.is_alive():
        process.kill()
        raise TimeoutError(f"{process} did not end in {timeout} s")
    return process.exitcode


def run(folder: Path, args: list[str], **kwargs: Any) -> int:
    return wait(start(folder, args, **kwargs))


def run_ranks(folder: Path, args: list[str], world_size: int, **kwargs: Any) -> list[int]:
    """Exit statuses of `world_size` processes that a launcher, as on several machines, has started."""
    world = {"WORLD_SIZE": str(world_size), "LOCAL_WORLD_SIZE": str(world_size), "MASTER_ADDR": "127.0.0.1"}
    world |= {"TORCHELASTIC_RUN_ID": "test", "GROUP_RANK": "0"}
    flags = ["--trainer.devices", str(world_size), "--trainer.strategy", "ddp" if world_size > 1 else "auto"]
    with reserved_port() as port:
        ranks = [
            start(
                folder,
                [*args, *flags],
                env={**world, "MASTER_PORT": port, "RANK": str(rank), "LOCAL_RANK": str(rank)},
                **kwargs,
            )
            for rank in range(world_size)
        ]
        return [wait(rank) for rank in ranks]


@contextlib.contextmanager
def reserved_port() -> Iterator[str]:
    """A free TCP port that nobody else is given meanwhile, though a server that reuses addresses can bind it.

    It stays bound, without listening, while the processes run; a port that was let go could be taken by another test.
    """
    with socket.socket() as reserved:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.bind(("127.0.0.1", 0))
        yield str(reserved.getsockname()[1])


def _main(
    folder: Path, args: list[str], kill: Kill | None, patch: Callable[[], None] | None, job: str, env: dict[str, str]
) -> None:
    os.environ.update(env)
    os.chdir(folder)
    suffix = env.get("RANK", "0").replace("0", "")
    for descriptor, name in ((1, f"out{suffix}"), (2, f"err{suffix}")):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    # The steps of checkpoints must not depend on how fast this machine is at the moment.
    importlib.import_module("fashion_lightning.training.checkpointing").SECONDS_BETWEEN = 3600
    if patch:
        patch()
    if kill:
        _arm(*kill)
    try:
        importlib.import_module(f"fashion_lightning.{job}").main(args)
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

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == count and when == "half":
            for part in Path().rglob("*.part"):
                os.truncate(part, part.stat().st_size // 2)
        if calls == count and when != "after":
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*args, **kwargs)
        if calls == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, attribute, wrapper)

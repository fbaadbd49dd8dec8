"""A lock on a run folder, held by one fit and released by the system when its process ends, however it ends."""

import contextlib
import errno
import fcntl
import os
import socket
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

from fashion_lightning.errors import UserError
from fashion_lightning.storage.run_folders import Run

SECONDS_TO_WAIT = 0.2  # for a holder that has just begun to write who it is, or for `is_locked` elsewhere
UNSUPPORTED = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)


@contextlib.contextmanager
def locked(run: Run) -> Iterator[None]:
    """Raises UserError, which names the process that works in the folder, if there is one.

    The file that is locked is removed at the end.
    """
    descriptor = _wait_for_lock(run)
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()} {socket.gethostname()}\n".encode(), 0)
        yield
    finally:
        if _is_at(run.lock, descriptor):  # and not of a fit that has made the folder again
            run.lock.unlink()
        os.close(descriptor)


def is_locked(run: Run) -> bool:
    try:
        with open(run.lock) as stream:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _wait_for_lock(run: Run) -> int:
    """A descriptor of the locked file."""
    for seconds in (SECONDS_TO_WAIT, 0):
        descriptor = _lock(run)
        if descriptor is not None:
            return descriptor
        time.sleep(seconds)
    raise UserError(f"{run.folder} is in use by {_holder(run)}: wait for it or stop it, or start a new run")


def _holder(run: Run) -> str:
    try:
        pid, host = run.lock.read_text().split()
    except (OSError, ValueError):  # it ends at this moment
        return "another fit"
    return f"the fit with process id {pid}" + (f" on {host}" if host != socket.gethostname() else "")


def _lock(run: Run) -> int | None:
    """A descriptor of the locked file, or None if another process has locked it."""
    descriptor = os.open(run.lock, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_at(run.lock, descriptor):  # a holder removes the file when it ends
            return descriptor
    except BlockingIOError:
        pass
    except OSError as error:
        if error.errno in UNSUPPORTED:
            warnings.warn(f"cannot lock {run.folder} ({error.strerror}): use no other fit in it", stacklevel=2)
            return descriptor
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False

"""A lock on a folder, held by one process and released by the system when that ends, however it ends."""

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

SECONDS_TO_WAIT = 0.2  # for a holder that has just begun to write who it is, or for `is_locked` elsewhere
SECONDS_BETWEEN = 0.05  # attempts
UNSUPPORTED = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)


@contextlib.contextmanager
def locked(lock: Path, work: str = "fit", seconds: float = SECONDS_TO_WAIT) -> Iterator[None]:
    """For `work` in the folder of the file `lock`, which is removed at the end.

    Raises UserError, which names the process that works in the folder, if there is one for these seconds.
    """
    descriptor = _wait_for_lock(lock, work, seconds)
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()} {socket.gethostname()}\n".encode(), 0)
        yield
    finally:
        if _is_at(lock, descriptor):  # and not of another that has made the folder again
            lock.unlink()
        os.close(descriptor)


def is_locked(lock: Path) -> bool:
    try:
        with open(lock) as stream:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _wait_for_lock(lock: Path, work: str, seconds: float) -> int:
    """A descriptor of the locked file."""
    end = time.monotonic() + seconds
    while (descriptor := _lock(lock, work)) is None:
        if time.monotonic() > end:
            holder = _holder(lock, work)
            raise UserError(f"{lock.parent} is in use by {holder}: wait for it or stop it, or start another {work}")
        time.sleep(SECONDS_BETWEEN)
    return descriptor


def _holder(lock: Path, work: str) -> str:
    try:
        pid, host = lock.read_text().split()
    except (OSError, ValueError):  # it ends at this moment
        return f"another {work}"
    return f"the {work} with process id {pid}" + (f" on {host}" if host != socket.gethostname() else "")


def _lock(lock: Path, work: str) -> int | None:
    """A descriptor of the locked file, or None if another process has locked it."""
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_at(lock, descriptor):  # a holder removes the file when it ends
            return descriptor
    except BlockingIOError:
        pass
    except OSError as error:
        if error.errno in UNSUPPORTED:
            warnings.warn(f"cannot lock {lock.parent} ({error.strerror}): start no other {work} in it", stacklevel=2)
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

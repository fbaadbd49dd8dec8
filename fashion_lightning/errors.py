"""Errors that a user can correct, printed as one line. Knows how they are printed, not what they are about."""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator


class UserError(ValueError):
    """Bad input. The message is one line: what was expected, what was got, what to do."""

    status = 2  # of the process


# What settings that cannot be used raise, where no one checks them before.
OF_SETTINGS = (ValueError, TypeError, OSError, ImportError, RuntimeError)


class CheckpointError(UserError):
    """A checkpoint is missing, damaged, or not of the expected kind."""


class WorkError(UserError):
    """The work itself went wrong: training diverged, a checkpoint could not be saved, a promise does not hold."""

    status = 1


class Stopped(BaseException):
    """A signal ended the work; not an Exception, so that nothing handles it as a failure."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status  # of the process


@contextlib.contextmanager
def reported() -> Iterator[None]:
    """Prints user errors and stops by signal as one line on stderr, without a traceback, and exits."""
    try:
        yield
    except UserError as error:
        # Errors that every process hits (status 2) are printed by local rank 0, others by the process that hit them.
        if error.status != UserError.status or _local_rank() == "0":
            print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        raise SystemExit(error.status) from error
    except Stopped as stopped:
        if stopped.status:
            print(stopped, file=sys.stderr)
        raise SystemExit(stopped.status) from None
    except KeyboardInterrupt:
        print("stopped by SIGINT", file=sys.stderr)
        raise SystemExit(128 + signal.SIGINT) from None


def _local_rank() -> str:
    """That of a process started by Lightning or torchrun, or else by SLURM."""
    return os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID", "0"))

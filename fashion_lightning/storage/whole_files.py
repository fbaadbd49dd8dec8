"""Files that are either complete or as they were before, whatever interrupts the writing."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

PART = ".part"


def part_of(path: Path) -> Path:
    """Where a file is until it is complete: another folder may be another file system, where a move is a copy."""
    return path.with_name(path.name + PART)


@contextlib.contextmanager
def replacing(path: Path, previous: Path | None = None) -> Iterator[BinaryIO]:
    """A file to write, which replaces `path` at the end, once it is flushed to the disk.

    The file that was at `path` goes to `previous`. Raises OSError if it cannot be written; nothing is left of it then.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = part_of(path)
    try:
        with open(temporary, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        if previous and path.exists():
            os.replace(path, previous)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)

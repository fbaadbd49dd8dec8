"""Users' picture files: found by the names given, and opened. Knows files and formats, not garments."""

import contextlib
import glob
import math
import os
import stat
import sys
import threading
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from fashion_lightning.data.photographs import LEAST_SIDE
from fashion_lightning.errors import UserError

MAX_SIDE = 512  # pixels of an opened picture
DEEP_MODES = ("I", "F")  # 16 or 32 bits a pixel
# Bytes that a pixel takes, at most: of modes, with their conversion, and of formats whose decoders take more. Measured.
OF_MODES = {"L": 1, "RGB": 4, "CMYK": 4}
OF_OTHER_MODES = 8
OF_FORMATS = {"WEBP": 16, "JPEG2000": 20, "AVIF": 10}
OF_PROGRESSIVE = 6  # JPEG, before it is reduced
SOFTWARE = "fashion_lightning"  # metadata of a PNG that this program wrote
NAMES = {stat.S_IFIFO: "named pipe", stat.S_IFSOCK: "socket", stat.S_IFCHR: "device", stat.S_IFBLK: "device"}

_lock = threading.Lock()


class PictureError(ValueError):
    """A file is no picture that can be used. The message is one line."""


@dataclass(frozen=True)
class Found:
    files: list[Path]  # each once
    problems: list[tuple[str, str]]  # name and reason of what was named, or is in a named folder, and is no file


def find(names: Iterable[str]) -> Found:
    """The files that are named, are in or below a named folder, match a pattern, or are listed on stdin for `-`.

    Links are followed. Raises UserError if there are no names.
    """
    problems: list[tuple[str, str]] = []
    named = [path for name in names for path in _expanded(name, problems)]
    if not named and not problems:
        example = "python -m fashion_lightning.predict photo.jpg"
        raise UserError(f"expected pictures or folders of pictures, got none: {example}")
    files = [file for path in named for file in _files(path, problems)]
    unique: dict[tuple[str, str], Path] = {}
    for file in files:  # links to a folder, and `..`, lead to the same file: it gets its shortest name
        place = os.path.realpath(file.parent), file.name
        unique[place] = min(unique.get(place, file), file, key=lambda path: len(path.parts))
    return Found(list(unique.values()), problems)


def _expanded(name: str, problems: list[tuple[str, str]]) -> list[str]:
    """Names of files and folders."""
    if name == "-":
        lines = [os.fsdecode(line.rstrip(b"\r\n")) for line in (sys.stdin.buffer if sys.stdin else ())]
        paths, problem = [line for line in lines if line], "no paths on standard input"
    elif os.path.lexists(name) or glob.escape(name) == name:
        paths, problem = [name], ""
    else:
        paths, problem = sorted(glob.glob(name, recursive=True)), "no file has this name or matches this pattern"
    if not paths:
        problems.append((name, problem))
    return paths


def _files(path: str, problems: list[tuple[str, str]]) -> list[Path]:
    """The file, or the files in and below the folder, sorted."""
    try:
        kind = stat.S_IFMT(os.stat(path).st_mode)  # a named pipe must not be opened: that would wait for its other end
    except (OSError, ValueError) as error:  # the latter, for a name that cannot be one
        problems.append((path, getattr(error, "strerror", None) or str(error)))
        return []
    if kind == stat.S_IFREG:
        return [Path(path)]
    if kind != stat.S_IFDIR:
        problems.append((path, f"expected a file or folder, got a {NAMES.get(kind, 'special file')}"))
        return []
    found: list[Path] = []
    visited = set()  # links may lead back
    for folder, folders, files in os.walk(
        path, onerror=lambda error: problems.append((error.filename, error.strerror or str(error))), followlinks=True
    ):
        place = os.path.realpath(folder)
        if place in visited:
            folders.clear()
            continue
        visited.add(place)
        folders.sort()
        if not folders and not files:
            problems.append((folder, "the folder is empty"))
        found += [file for name in sorted(files) for file in _files(os.path.join(folder, name), problems)]
    return sorted(found)


def opened(path: Path) -> Image.Image:
    """The picture of a file, as `read` gives it."""
    try:
        # Not by its name: Pillow 13 would map a rotated TIFF to memory with width and height exchanged.
        with open(path, "rb") as stream:
            return read(stream, str(path))
    except OSError as error:
        raise PictureError(f"cannot be read: {error.strerror}") from error


def read(stream: BinaryIO, name: str) -> Image.Image:
    """The picture, upright and reduced to MAX_SIDE, in mode RGB, or RGBA where it has transparency.

    Of an animation or several pages, the first. Raises PictureError. Warns of what Pillow finds odd, as in metadata.
    """
    with _unlimited() as odd:
        try:
            with Image.open(stream) as image:
                picture = _reduced(image)
        except PictureError:
            raise
        except UnidentifiedImageError as error:
            raise PictureError("not a picture" if stream.seek(0, os.SEEK_END) else "the file is empty") from error
        except Exception as error:  # Pillow's readers of formats raise anything on damaged files
            text = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise PictureError(f"cannot be read: {' '.join(text.split())}") from error
    for text in dict.fromkeys(" ".join(str(warning.message).split()) for warning in odd):
        warnings.warn(f"{name}: {text}", stacklevel=2)
    return picture


@contextlib.contextmanager
def _unlimited() -> Iterator[list[warnings.WarningMessage]]:
    """Without Pillow's limit of pixels, which does not know the memory; yields Pillow's warnings.

    Both are settings of the process: threads wait for each other.
    """
    with _lock, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield caught
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _reduced(image: Image.Image) -> Image.Image:
    if image.info.get("Software") == SOFTWARE:
        raise PictureError("a sheet of predictions, not a picture")
    if min(image.size) < LEAST_SIDE:
        raise PictureError(f"too small: expected {LEAST_SIDE} or more pixels a side, got {_size(image)}")
    _check_memory(image)
    if image.mode.startswith(DEEP_MODES):
        image = _shallow(image)
    if image.mode in ("1", "P", "PA") or "transparency" in image.info:  # single colours cannot be averaged
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    image.thumbnail((MAX_SIDE, MAX_SIDE))
    image = ImageOps.exif_transpose(image)
    return image.convert("RGBA" if image.has_transparency_data else "RGB")


def _shallow(image: Image.Image) -> Image.Image:
    """Mode L, with the brightest pixel white, of an image of mode I or F."""
    image = image.convert("F")
    low, high = cast(tuple[float, float], image.getextrema())
    image.thumbnail((MAX_SIDE, MAX_SIDE))
    pixels = np.asarray(ImageOps.exif_transpose(image))
    if not np.isfinite([low, high]).all() or not np.isfinite(pixels).all():  # the latter sees what extrema leave out
        raise PictureError("has values that are not finite")
    if low < 0:
        raise PictureError(f"has negative values: expected 0 or more, got {low:g}")
    return Image.fromarray((pixels * (255 / max(high, 1))).clip(0, 255).astype(np.uint8))


def _check_memory(image: Image.Image) -> None:
    """Raises PictureError if the image needs more memory than there is; lets a JPEG be decoded reduced."""
    size, pixels = _size(image), math.prod(image.size)
    needed = pixels * OF_PROGRESSIVE if image.info.get("progressive") else 0
    image.draft(None, (2 * MAX_SIDE, 2 * MAX_SIDE))
    of_pixel = max(OF_MODES.get(image.mode, OF_OTHER_MODES), OF_FORMATS.get(image.format or "", 0))
    needed = max(needed, math.prod(image.size) * of_pixel)
    if needed > (available := available_memory()):
        needs = f"needs {needed / 1e9:,.1f} GB of memory, of which {available / 1e9:,.1f} GB are available"
        raise PictureError(f"too large: {size} pixels; {needs}")


def available_memory() -> float:
    """In bytes; all memory where the system does not tell, and infinity where it tells nothing."""
    with contextlib.suppress(OSError, StopIteration):  # not Linux
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(1024.0 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    with contextlib.suppress(AttributeError, ValueError, OSError):  # Windows
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    return math.inf


def _size(image: Image.Image) -> str:
    return f"{image.width:,} x {image.height:,}"

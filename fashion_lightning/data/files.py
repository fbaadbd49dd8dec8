"""The four files of Fashion-MNIST: found, verified, or downloaded. Knows bytes and folders, not training."""

import contextlib
import gzip
import hashlib
import http.client
import itertools
import math
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, cast

import torch
from torch import Tensor

from fashion_lightning.data.labels import CLASSES, IMAGE_SIZE
from fashion_lightning.errors import UserError

DEBIAN_PACKAGE = "dataset-fashion-mnist"
DEBIAN_DIR = Path("/usr/share/datasets/fashion-mnist")
NETWORK_TIMEOUT_SECONDS = 30
DOWNLOAD_ATTEMPTS = 3
MAX_BYTES = 2**31  # of a file that is not the published one: a small file may unpack to a very large one
PART_BYTES = 2**20  # read at once where content is only counted
VALUE_BYTES = {0x08: 1, 0x09: 1, 0x0B: 2, 0x0C: 4, 0x0D: 4, 0x0E: 8}  # of a value, by the type code of the IDX format

DAMAGE = (gzip.BadGzipFile, EOFError, zlib.error)  # raised while a `.gz` file is read

# Size in bytes and SHA-256 of the raw content: every distributor compresses it differently.
FILES = {
    "train-images-idx3-ubyte": (47040016, "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"),
    "train-labels-idx1-ubyte": (60008, "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"),
    "t10k-images-idx3-ubyte": (7840016, "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"),
    "t10k-labels-idx1-ubyte": (10008, "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"),
}


def load(data_dir: str | Path, verify: bool = True, parts: Sequence[str] = ("train", "t10k")) -> dict[str, Tensor]:
    """File name to uint8 tensor: images (N, 28, 28), labels (N,).

    Reads the images and labels of `parts`, of which `t10k` is the test set, in place from `data_dir` or Debian's
    package, and downloads into `data_dir` what neither has; it does not look for the rest. A file may be raw or `.gz`,
    in the folder itself or in torchvision's `FashionMNIST/raw` below it. A damaged file is renamed to `.bad`, and
    another one takes its place. Without `verify`, content need not match the published SHA-256: any IDX files of these
    names in `data_dir` are accepted, and nothing is renamed or downloaded. Raises UserError if a file is missing and
    cannot be downloaded, or is not what its name says: of another data set, which is not changed.
    """
    data_dir, rejected = Path(data_dir), dict[Path, bool]()
    names = [name for name in FILES if name.startswith(tuple(parts))]
    try:
        found = {name: _find(name, data_dir, verify, rejected) for name in names}
        _refuse_other_data(rejected)
        for path in rejected:
            _set_aside(path, keep=path.parent == DEBIAN_DIR)
        contents = {name: content for name, content in found.items() if content is not None}
        missing = [name for name in names if name not in contents]
        if missing and not verify:
            raise UserError(f"expected {', '.join(missing)} (or .gz) in {data_dir}/, found none: put them there")
        if missing:
            contents |= _download(missing, data_dir)
    except OSError as error:
        raise UserError(f"cannot use the data in {data_dir}/: {error}") from error
    tensors = {name: _parse(name, contents[name]) for name in names}
    for part in parts:
        images, labels = f"{part}-images", f"{part}-labels"
        _check(tensors[f"{images}-idx3-ubyte"], tensors[f"{labels}-idx1-ubyte"], f"{images} and {labels}")
    return tensors


def _find(name: str, data_dir: Path, verify: bool, rejected: dict[Path, bool]) -> bytearray | None:
    """The content of the first `name` that can be used.

    Adds to `rejected` which files before it do not have the published content, and whether they may be another data
    set: whole IDX files that are not Debian's.
    """
    folders = [data_dir, data_dir / "FashionMNIST" / "raw"]
    size, sha256 = FILES[name]
    for folder in [*folders, DEBIAN_DIR] if verify else folders:
        for path in (folder / name, folder / f"{name}.gz"):
            if not path.is_file():
                continue
            content = _read(path, limit=(size if verify else MAX_BYTES) + 1)
            if not verify and len(content) > MAX_BYTES:
                raise UserError(f"{path}: expected at most {MAX_BYTES:,} bytes, got more")
            if not verify or hashlib.sha256(content).hexdigest() == sha256:
                return content
            rejected[path] = folder != DEBIAN_DIR and _is_whole(path)
    return None


def _read(path: Path, limit: int) -> bytearray:
    """Raw content of a raw or `.gz` file, up to `limit` bytes."""
    with _open(path) as stream:
        try:
            return bytearray(stream.read(limit))
        except DAMAGE:
            return bytearray()


def _open(path: Path) -> BinaryIO:
    return cast(BinaryIO, (gzip.open if path.suffix == ".gz" else open)(path, "rb"))


def _is_whole(path: Path) -> bool:
    """Whether a raw or `.gz` file is IDX and as long as its header says. Content after MAX_BYTES is not read."""
    with _open(path) as stream:
        try:
            start = stream.read(4)
            if len(start) < 4 or start[:2] != b"\0\0" or start[2] not in VALUE_BYTES:
                return False
            sizes = stream.read(4 * start[3])
            if len(sizes) < 4 * start[3]:
                return False
            expected = VALUE_BYTES[start[2]] * math.prod(struct.unpack(f">{start[3]}I", sizes))
            counted = 0
            while counted <= min(expected, MAX_BYTES) and (part := stream.read(PART_BYTES)):
                counted += len(part)
            return counted == expected or MAX_BYTES < counted <= expected
        except DAMAGE:
            return False


def _refuse_other_data(rejected: dict[Path, bool]) -> None:
    """Raises UserError if files may be another data set: to use other files than those would not be what was asked."""
    if other := [str(path) for path, is_whole in rejected.items() if is_whole]:
        problem = "not the published Fashion-MNIST: damaged, or another data set"
        remedy = "name another folder with --data.data_dir, or use these files with --data.verify false"
        raise UserError(f"{', '.join(other)}: {problem}; {remedy}")


def _set_aside(path: Path, keep: bool) -> None:
    """Renames a damaged file to `.bad`, unless it belongs to the system or cannot be renamed."""
    problem = f"{path} is damaged: its content does not have the published SHA-256"
    names = (path.with_name(f"{path.name}.bad{count or ''}") for count in itertools.count())
    bad = next(name for name in names if not name.exists())
    result = f"to mend it: apt-get install --reinstall {DEBIAN_PACKAGE}" if keep else f"set aside as {bad.name}"
    try:
        if not keep:
            path.rename(bad)
    except OSError as error:
        result = f"it is not used, and cannot be set aside ({error.strerror})"
    warnings.warn(f"{problem}; {result}", stacklevel=2)


def _download(names: list[str], data_dir: Path) -> dict[str, bytearray]:
    """From torchvision's mirror or Debian's package, by way of a temporary folder: a kill leaves only whole files."""
    print(f"downloading Fashion-MNIST into {data_dir}/ (once, about 30 MB)", file=sys.stderr)
    data_dir.mkdir(parents=True, exist_ok=True)
    reasons = {}
    sources = [*DOWNLOAD_ATTEMPTS * [("torchvision", _from_torchvision)], ("Debian's package", _from_debian)]
    for source, unpack in sources:
        with tempfile.TemporaryDirectory(dir=data_dir, prefix=".download-") as folder:
            try:
                raw = unpack(Path(folder), names)
            except (OSError, RuntimeError, EOFError, http.client.HTTPException, subprocess.SubprocessError) as error:
                reasons[source] = f"{getattr(error, 'stderr', '') or error}".strip().splitlines()[-1]
                continue
            contents = {name: _find(name, raw, verify=True, rejected={}) for name in names}
            whole = {name: content for name, content in contents.items() if content is not None}
            if len(whole) < len(names):
                reasons[source] = "the files it gave are damaged"
                continue
            for name, content in whole.items():
                (Path(folder) / name).write_bytes(content)
                os.replace(Path(folder) / name, data_dir / name)
            return whole
    sizes = ", ".join(f"{name} ({size:,} bytes)" for name, (size, _) in FILES.items())
    raise UserError(
        f"Fashion-MNIST was not found in {data_dir}/ or {DEBIAN_DIR}/ and could not be downloaded "
        f"({'; '.join(': '.join(reason) for reason in reasons.items())}): connect to a network, or run "
        f"`apt-get install {DEBIAN_PACKAGE}`, or put these files, raw or .gz, into {data_dir}/: {sizes}"
    )


def _from_torchvision(folder: Path, names: list[str]) -> Path:
    from torchvision.datasets import FashionMNIST  # takes a second, and only a download needs it
    from torchvision.datasets.utils import download_url

    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(NETWORK_TIMEOUT_SECONDS)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            for file, md5 in FashionMNIST.resources:
                if file.removesuffix(".gz") in names:
                    download_url(f"{FashionMNIST.mirrors[0]}{file}", folder, md5=md5)
    finally:
        socket.setdefaulttimeout(before)
    return folder


def _from_debian(folder: Path, names: list[str]) -> Path:
    """Unpacks the package, with all files, without installing it, with separate package lists: needs no root."""
    if not shutil.which("apt-get"):
        raise OSError("this system has no apt-get")
    for partial in ("lists/partial", "cache/archives/partial"):
        (folder / partial).mkdir(parents=True)
    apt = ["apt-get", "-o", f"Dir::State::Lists={folder}/lists", "-o", f"Dir::Cache={folder}/cache"]
    apt += ["-o", "APT::Sandbox::User=", "-o", f"Acquire::http::Timeout={NETWORK_TIMEOUT_SECONDS}"]
    extract = ["sh", "-c", f"dpkg-deb --extract {DEBIAN_PACKAGE}_*.deb ."]
    for command in ([*apt, "update"], [*apt, "download", DEBIAN_PACKAGE], extract):
        subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    return folder / DEBIAN_DIR.relative_to("/")


def _parse(name: str, content: bytearray) -> Tensor:
    """Tensor of an IDX file: bytes 0, 0, 8 for uint8, the number of dimensions, their sizes, the values."""
    ndim = int(name.split("idx")[1][0])
    header = 4 + 4 * ndim
    if content[:4] != bytes([0, 0, 8, ndim]) or len(content) < header:
        raise UserError(f"{name}: expected an IDX file of {ndim} dimensions of uint8, got {bytes(content[:4])!r}...")
    shape = struct.unpack(f">{ndim}I", content[4:header])
    if math.prod(shape) != len(content) - header:
        expected, got = math.prod(shape), len(content) - header
        raise UserError(f"{name}: its header says {shape}, expected {expected} values, got {got}")
    return torch.frombuffer(content, dtype=torch.uint8)[header:].view(shape)


def _check(images: Tensor, labels: Tensor, names: str) -> None:
    if images.shape[1:] != IMAGE_SIZE or len(images) != len(labels) or not len(images):
        got = f"images {tuple(images.shape)} and labels {tuple(labels.shape)}"
        raise UserError(f"{names}: expected images (N, 28, 28) and labels (N,), got {got}")
    if labels.max() >= len(CLASSES):
        raise UserError(f"{names}: expected labels from 0 to {len(CLASSES) - 1}, got {labels.max()}")

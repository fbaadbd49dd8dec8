import gzip
import hashlib
import http.server
import shutil
import subprocess
from functools import partial
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import torch
from conftest import write_data, write_idx

from fashion_lightning.data import files
from fashion_lightning.data.files import load
from fashion_lightning.errors import UserError

IMAGES = "train-images-idx3-ubyte"
FROM_TORCHVISION = files._from_torchvision


@pytest.fixture
def published(tmp_path, tiny_data, monkeypatch):
    """A data folder whose files are, for this test, the published ones; no network, no package."""
    monkeypatch.setattr(files, "DEBIAN_DIR", tmp_path / "debian")
    contents = {name: (tiny_data / name).read_bytes() for name in files.FILES}
    hashes = {name: (len(content), hashlib.sha256(content).hexdigest()) for name, content in contents.items()}
    monkeypatch.setattr(files, "FILES", hashes)
    monkeypatch.setattr(files, "_from_torchvision", offline)
    monkeypatch.setattr(files, "_from_debian", offline)
    return shutil.copytree(tiny_data, tmp_path / "data")


def offline(folder, names):
    raise OSError("no network here")


def compress(path):
    path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()


def listing(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize("layout", ["flat", "gz", "torchvision", "torchvision gz", "debian", "part here, part there"])
def test_finds_every_layout_and_writes_nothing(published, layout, tiny_data):
    expected = load(tiny_data)
    folder = {"torchvision": published / "FashionMNIST" / "raw", "debian": files.DEBIAN_DIR}.get(layout.split()[0])
    moved = list(files.FILES)[: 2 if layout.startswith("part") else 4]
    if layout.startswith("part"):
        folder = files.DEBIAN_DIR
    if folder:
        folder.mkdir(parents=True)
        for name in moved:
            (published / name).rename(folder / name)
    if layout.endswith("gz"):
        for name in files.FILES:
            compress((folder or published) / name)
    before = listing(published.parent)
    found = load(published)
    assert listing(published.parent) == before
    assert all(torch.equal(found[name], expected[name]) for name in files.FILES)
    assert found[IMAGES].shape == (250, 28, 28)
    assert found[IMAGES].dtype == torch.uint8


@pytest.mark.parametrize("damage", ["truncated", "too long", "empty", "header only", "truncated gz", "text gz"])
def test_sets_a_damaged_file_aside_and_says_so(published, damage):
    path = published / IMAGES
    content = bytearray(path.read_bytes())
    if damage.endswith("gz"):
        path.unlink()
        path = published / f"{IMAGES}.gz"
        content = gzip.compress(content)
    damaged = {
        "truncated": content[:-1],
        "too long": content + b"x",
        "empty": b"",
        "header only": content[:10],
        "truncated gz": content[:-100],
        "text gz": b"<html>404</html>",
    }.get(damage)
    path.write_bytes(damaged)
    warning = f"{path.name} is damaged.*set aside as {path.name}.bad"
    missing = r"could not be downloaded .*no network"
    with pytest.warns(UserWarning, match=warning), pytest.raises(UserError, match=missing):
        load(published)
    assert path.with_name(f"{path.name}.bad").read_bytes() == damaged
    assert not path.exists()


def every_file(folder):
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("layout", ["flat", "gz", "torchvision"])
def test_another_data_set_is_refused_and_left_as_it_is(published, layout, tiny_data, monkeypatch):
    """As MNIST has it: the same names, the same format, other content. What could be used instead is not."""
    shutil.copytree(tiny_data, files.DEBIAN_DIR)
    monkeypatch.setattr(files, "_from_torchvision", lambda folder, names: shutil.copytree(tiny_data, folder / "raw"))
    other = write_data(published, train=300, test=100)
    (published / IMAGES).write_bytes((published / IMAGES).read_bytes()[:-1])  # not even a damaged one is renamed
    if layout == "gz":
        for name in files.FILES:
            compress(published / name)
    if layout == "torchvision":
        other = published / "FashionMNIST" / "raw"
        other.mkdir(parents=True)
        for name in files.FILES:
            (published / name).rename(other / name)
    before = every_file(published)
    suffix = ".gz" if layout == "gz" else ""
    named = ", ".join(str(other / f"{name}{suffix}") for name in files.FILES if name != IMAGES)
    with pytest.raises(UserError) as error:
        load(published)
    assert str(error.value) == (
        f"{named}: not the published Fashion-MNIST: damaged, or another data set; name another folder with "
        "--data.data_dir, or use these files with --data.verify false"
    )
    assert every_file(published) == before


@pytest.mark.parametrize("content", ["flipped", "swapped", "floats", "too large to be read"])
def test_a_whole_file_is_never_renamed(published, content, monkeypatch):
    path = published / IMAGES
    if content == "flipped":
        flipped = bytearray(path.read_bytes())
        flipped[5000] ^= 1
        path.write_bytes(flipped)
    elif content == "swapped":
        shutil.copy(published / "t10k-labels-idx1-ubyte", path)
    else:
        kind = 0x0D if content == "floats" else 0x08  # values of 4 bytes, and of 1
        path.write_bytes(bytes([0, 0, kind, 2]) + (7).to_bytes(4, "big") + (8).to_bytes(4, "big") + bytes(7 * 8 * 4))
    if content == "too large to be read":
        monkeypatch.setattr(files, "MAX_BYTES", 40)
        monkeypatch.setattr(files, "PART_BYTES", 16)
    before = every_file(published)
    with pytest.raises(UserError, match=f"{IMAGES}: not the published Fashion-MNIST: damaged, or another data set"):
        load(published)
    assert every_file(published) == before


def test_spaces_in_the_name_of_the_folder_are_no_problem(published):
    assert len(load(published.rename(published.parent / "my ~ data"))[IMAGES]) == 250


def test_keeps_every_file_set_aside(published):
    for content in (b"one", b"two", b"three"):
        (published / IMAGES).write_bytes(content)
        with pytest.warns(UserWarning, match="set aside"), pytest.raises(UserError):
            load(published)
    kept = [path.read_bytes() for path in sorted(published.glob("*.bad*"))]
    assert kept == [b"one", b"two", b"three"]


def test_leaves_the_package_s_files_alone(published):
    files.DEBIAN_DIR.mkdir()
    (published / IMAGES).unlink()
    (files.DEBIAN_DIR / IMAGES).write_bytes(b"broken")
    with pytest.warns(UserWarning, match="apt-get install --reinstall"), pytest.raises(UserError):
        load(published)
    assert (files.DEBIAN_DIR / IMAGES).read_bytes() == b"broken"


def test_a_small_file_cannot_fill_the_memory(published):
    (published / IMAGES).unlink()
    with gzip.open(published / f"{IMAGES}.gz", "wb") as stream:
        for _ in range(100):
            stream.write(bytes(2**20))
    assert len(files._read(published / f"{IMAGES}.gz", limit=1000)) == 1000
    with pytest.warns(UserWarning, match="damaged"), pytest.raises(UserError):
        load(published)


@pytest.mark.parametrize("source", ["_from_torchvision", "_from_debian"])
def test_fetches_what_is_missing_from_the_first_source_that_works(published, source, monkeypatch, capsys):
    complete = shutil.copytree(published, published.parent / "source")
    (published / IMAGES).unlink()
    other = (published / "t10k-labels-idx1-ubyte").stat()

    def unpack(folder, names):
        return shutil.copytree(complete, folder / "unpacked")

    monkeypatch.setattr(files, source, unpack)
    assert len(load(published)[IMAGES]) == 250
    assert "downloading" in capsys.readouterr().err
    assert listing(published) == sorted(files.FILES)
    assert (published / "t10k-labels-idx1-ubyte").stat().st_mtime_ns == other.st_mtime_ns
    monkeypatch.setattr(files, source, offline)
    load(published)


def test_the_rest_is_neither_looked_for_nor_set_aside_nor_downloaded(published):
    for name in files.FILES:
        if name.startswith("t10k"):
            (published / name).write_bytes(b"damaged")
    before = listing(published)
    assert list(load(published, parts=("train",))) == list(files.FILES)[:2]
    assert listing(published) == before


def test_the_mirror_is_asked_for_what_is_missing_alone(published, tmp_path, monkeypatch):
    from torchvision.datasets import FashionMNIST

    asked = []

    class Mirror(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            asked.append(Path(self.path).name)

    mirror = shutil.copytree(published, tmp_path / "mirror")
    for name in files.FILES:
        compress(mirror / name)
    monkeypatch.setattr(files, "_from_torchvision", FROM_TORCHVISION)
    monkeypatch.setattr(FashionMNIST, "resources", [(f"{name}.gz", None) for name in files.FILES])
    (published / IMAGES).unlink()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Mirror, directory=mirror)) as server:
        monkeypatch.setattr(FashionMNIST, "mirrors", [f"http://127.0.0.1:{server.server_port}/"])
        Thread(target=server.serve_forever).start()
        found = load(published)
        server.shutdown()
    assert set(asked) == {f"{IMAGES}.gz"}
    assert found[IMAGES].shape == (250, 28, 28)
    assert listing(published) == sorted(files.FILES)


def test_a_damaged_download_is_not_kept(published, monkeypatch):
    (published / IMAGES).unlink()

    def unpack(folder, names):
        (folder / IMAGES).write_bytes(b"captive portal")
        return folder

    monkeypatch.setattr(files, "_from_torchvision", unpack)
    with pytest.raises(UserError, match=r"torchvision: .* damaged"):
        load(published)
    assert IMAGES not in listing(published)


def test_the_message_says_where_to_put_what(published):
    (published / IMAGES).unlink()
    with pytest.raises(UserError) as error:
        load(published)
    message = str(error.value)
    assert "\n" not in message
    assert "apt-get install dataset-fashion-mnist" in message
    for name, (size, _) in files.FILES.items():
        assert f"{name} ({size:,} bytes)" in message


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        (IMAGES, np.zeros((250, 29, 29), np.uint8), "expected images \\(N, 28, 28\\)"),
        (IMAGES, np.zeros((249, 28, 28), np.uint8), "249, 28, 28.*labels \\(250,\\)"),
        ("train-labels-idx1-ubyte", np.full(250, 200, np.uint8), "labels from 0 to 9, got 200"),
        ("train-labels-idx1-ubyte", np.zeros((250, 1), np.uint8), "expected an IDX file of 1 dimension"),
    ],
)
def test_unverified_files_must_still_make_sense(tmp_path, name, array, message):
    folder = write_data(tmp_path / "data")
    write_idx(folder / name, array)
    with pytest.raises(UserError, match=message):
        load(folder, verify=False)


def test_unverified_files_are_never_mixed_with_fetched_ones(tmp_path):
    folder = write_data(tmp_path / "data")
    (folder / IMAGES).unlink()
    with pytest.raises(UserError, match=f"{IMAGES} .*found none"):
        load(folder, verify=False)


def test_a_header_that_lies_is_found(tmp_path):
    folder = write_data(tmp_path / "data")
    with open(folder / IMAGES, "ab") as stream:
        stream.write(b"x")
    with pytest.raises(UserError, match="got 196001"):
        load(folder, verify=False)


def test_debian_s_package_is_unpacked_without_installing(tmp_path):
    if not shutil.which("apt-get"):
        pytest.skip("no apt-get")
    try:
        folder = files._from_debian(tmp_path, [])
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no package: {error.stderr}")
    content = gzip.decompress((folder / f"{IMAGES}.gz").read_bytes())
    assert hashlib.sha256(content).hexdigest() == files.FILES[IMAGES][1]


def test_the_real_data_set(real_data):
    tensors = load(real_data)
    assert [len(tensor) for tensor in tensors.values()] == [60000, 60000, 10000, 10000]
    assert torch.bincount(tensors["t10k-labels-idx1-ubyte"]).tolist() == [1000] * 10

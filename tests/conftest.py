"""A tiny data set in the real IDX format, the real data set, and the commands that users run."""

import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

# Several workers of pytest-xdist share the cores; with two threads each they would be slower than one.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
from PIL import Image

from fashion_lightning import fit
from fashion_lightning.data import files
from fashion_lightning.data.module import FashionMNISTDataModule

ROOT = Path(__file__).parent.parent


def write_idx(path: Path, array: np.ndarray) -> None:
    content = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()
    path.write_bytes(content)


def write_data(folder: Path, train: int = 250, test: int = 203) -> Path:
    """Images that a network can learn: every class lights up rows of its own, under noise."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for part, count in (("train", train), ("t10k", test)):
        labels = rng.permutation(np.arange(count) % 10).astype(np.uint8)
        images = rng.integers(0, 100, (count, 28, 28)).astype(np.uint8)
        images[np.arange(count), 2 * labels + 4] += 150
        write_idx(folder / f"{part}-images-idx3-ubyte", images)
        write_idx(folder / f"{part}-labels-idx1-ubyte", labels)
    return folder


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory) -> Path:
    """250 training images (200 and 50 after the split) and 203 test images."""
    return write_data(tmp_path_factory.mktemp("tiny") / "data")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Fetched into `data/` where it is not there yet, as a first fit would."""
    files.load(ROOT / "data")
    return ROOT / "data"


@pytest.fixture
def tiny_args(inspected_args) -> list[str]:
    """Flags for a run of a second, whose folder is the current one."""
    return [*inspected_args, *(f"--inspect.{part}=false" for part in ("figures", "graph", "pr_curves"))]


@pytest.fixture
def inspected_args(tiny_data, tmp_path, monkeypatch) -> list[str]:
    """The same with all its figures."""
    monkeypatch.chdir(tmp_path)
    return [
        *("--data.data_dir", str(tiny_data), "--data.verify", "false"),
        *("--data.batch_size", "20", "--data.eval_batch_size", "16"),
        *("--trainer.max_epochs", "2", "--trainer.accelerator", "cpu"),
    ]


@pytest.fixture(scope="session")
def trained(tiny_data, tmp_path_factory):
    """The folder of a run."""
    folder = tmp_path_factory.mktemp("trained")
    flags = ["--trainer.max_epochs", "1", "--trainer.accelerator", "cpu", "--data.verify", "false"]
    flags += [f"--inspect.{part}=false" for part in ("figures", "graph", "pr_curves")]
    fit.main([*flags, "--data.data_dir", str(tiny_data), "--trainer.default_root_dir", str(folder)])
    return folder / "lightning_logs"


@pytest.fixture
def wardrobe(trained, tiny_data, tmp_path, monkeypatch):
    """A trained run in the current folder, and a folder with three test images."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained, "lightning_logs")
    data = FashionMNISTDataModule(tiny_data, verify=False)
    data.setup()
    folder = Path("wardrobe")
    folder.mkdir()
    images, _ = data.splits["test"][:3]
    for index, image in enumerate(images.squeeze(1)):
        Image.fromarray(image.numpy()).save(folder / f"{index}.png")
    return folder


@pytest.fixture
def small_disk(tmp_path) -> Path:
    """A disk of 8 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", folder], capture_output=True).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.fixture
def run_module(tmp_path):
    """Runs `python -m fashion_lightning.<job>` in an empty folder, as a user does."""

    def run(job: str, *args: str, timeout: int = 120) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", f"fashion_lightning.{job}", *args]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=timeout, env=os.environ)

    return run

"""The promise of distrust: no file that is read makes the project do more than read it."""

import gzip
import os
import struct
import tracemalloc
import zipfile
from pathlib import Path

import forked
import pytest
import torch
from conftest import write_data

from fashion_lightning import FashionClassifier
from fashion_lightning.data import files
from fashion_lightning.errors import CheckpointError, UserError
from fashion_lightning.networks import FashionCNN

# With it, torch.load takes everything that is not told otherwise.
UNSAFE = {"TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"}


class Bomb:
    """Runs a command when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self):
        return os.system, (f"touch {self.canary}",)


@pytest.fixture
def canary(tmp_path) -> Path:
    """A file that must never be."""
    yield tmp_path / "canary"
    assert not (tmp_path / "canary").exists()


@pytest.fixture
def trained(tiny_args, tmp_path) -> Path:
    """A whole checkpoint of a run."""
    assert forked.run(tmp_path, [*tiny_args, "--trainer.max_steps", "2"]) == 0
    return tmp_path / "lightning_logs" / "version_0" / "checkpoints" / "last.ckpt"


def test_the_canary_works(canary, tmp_path):
    torch.save({"state_dict": Bomb(canary)}, tmp_path / "bomb.ckpt")
    torch.load(tmp_path / "bomb.ckpt", weights_only=False)
    assert canary.exists()
    canary.unlink()


@pytest.mark.parametrize("job", ["fit", "test", "predict", "resume"])
def test_a_checkpoint_that_is_a_program_does_not_run(job, trained, canary, tmp_path):
    for path in (trained, trained.with_name("previous.ckpt")):
        torch.save({**torch.load(path, weights_only=True), "more": Bomb(canary)}, path)
    (tmp_path / "picture.png").touch()
    args = ["--resume"] if job == "resume" else ["--ckpt_path", str(trained)]
    args += ["picture.png"] if job == "predict" else []
    status = forked.run(tmp_path, args, job="fit" if job == "resume" else job, env=UNSAFE)
    error = (tmp_path / "err").read_text()
    assert "last.ckpt is not a whole checkpoint (UnpicklingError" in error
    assert status == 2


def test_load_from_checkpoint_does_not_run_it_either(canary, tmp_path, monkeypatch):
    monkeypatch.setenv(*UNSAFE.popitem())
    torch.save({"state_dict": Bomb(canary)}, tmp_path / "bomb.ckpt")
    with pytest.raises(CheckpointError, match="UnpicklingError"):
        FashionClassifier.load_from_checkpoint(tmp_path / "bomb.ckpt")


@pytest.mark.parametrize(
    ("settings", "status"),
    [
        ({"model": {"network": {"class_path": "spy.Network"}}, "trainer": {"callbacks": "spy.Callback"}}, 2),
        ({"model": {"network": {"class_path": "fashion_lightning.networks.spy.Network"}}}, 2),
        ({"model": {"network": {"class_path": "fashion_lightning.FashionCNN", "init_args": {"x": "spy.N"}}}}, 2),
        ({"trainer": {"precision": "32-true --trainer.callbacks spy.Callback"}}, 2),
        ({"data": {"data_dir": "elsewhere"}, "trainer": {"callbacks": "spy.Callback"}}, 0),
        ({"model": {"network": 7}, "trainer": []}, 0),
        ("--trainer.callbacks=spy.Callback", 0),
    ],
)
def test_settings_in_a_checkpoint_name_no_code(settings, status, trained, canary, tiny_args, tmp_path):
    (tmp_path / "spy.py").write_text(f"open({str(canary)!r}, 'w')\n")
    content = torch.load(trained, weights_only=True)
    content["callbacks"]["RunRecord"]["settings"] = settings
    torch.save(content, tmp_path / "hostile.ckpt")
    data = tiny_args[: tiny_args.index("--data.batch_size")]
    assert forked.run(tmp_path, [*data, "--ckpt_path", "hostile.ckpt"], job="test") == status
    assert "Traceback" not in (tmp_path / "err").read_text()


def test_hyperparameters_name_no_code(canary, tmp_path):
    model = FashionClassifier()
    for named in ({"_instantiator": "os.system"}, {"_class_path": "os.system"}, {"network": f"touch {canary}"}):
        content = {"state_dict": model.state_dict(), "hyper_parameters": {**named, "command": f"touch {canary}"}}
        torch.save({**content, "pytorch-lightning_version": "2.6.6"}, tmp_path / "named.ckpt")
        loaded = FashionClassifier.load_from_checkpoint(tmp_path / "named.ckpt")
        assert type(loaded.network) is FashionCNN
        assert torch.equal(loaded.network.fc.weight, model.network.fc.weight)


@pytest.mark.parametrize("job", ["fit", "test", "predict"])
def test_a_url_is_no_checkpoint(job, tmp_path):
    args = ["--ckpt_path", "http://127.0.0.1:9/model.ckpt"] + (["picture.png"] if job == "predict" else [])
    (tmp_path / "picture.png").touch()
    assert forked.run(tmp_path, args, job=job) == 2
    assert "expected best, last, run:N or the path of a checkpoint" in (tmp_path / "err").read_text()
    with pytest.raises(CheckpointError, match="No such file"):
        FashionClassifier.load_from_checkpoint("http://127.0.0.1:9/model.ckpt")


def test_settings_are_data(canary, tmp_path):
    (tmp_path / "evil.yaml").write_text(f"data: !!python/object/apply:os.system ['touch {canary}']\n")
    assert forked.run(tmp_path, ["--config", "evil.yaml"]) == 2
    assert (tmp_path / "err").read_text().startswith("error: ")


def test_a_checkpoint_cannot_unpack_to_more_than_it_is(trained, tmp_path):
    with zipfile.ZipFile(trained) as whole, zipfile.ZipFile(tmp_path / "b.ckpt", "w", zipfile.ZIP_DEFLATED) as bomb:
        for name in whole.namelist():
            bomb.writestr(name, whole.read(name))
    with pytest.raises(CheckpointError, match="its parts are compressed"):
        FashionClassifier.load_from_checkpoint(tmp_path / "b.ckpt")


@pytest.mark.parametrize("verify", [True, False])
def test_data_cannot_fill_the_memory(verify, tmp_path, monkeypatch):
    """A megabyte that unpacks to a gigabyte."""
    folder = write_data(tmp_path / "data")
    bomb = folder / "train-images-idx3-ubyte"
    bomb.unlink()
    header = struct.pack(">BBBB3I", 0, 0, 8, 3, 2**20, 28, 28)
    bomb.with_suffix(".gz").write_bytes(gzip.compress(header) + 64 * gzip.compress(bytes(2**24)))
    if verify:
        content = files._read(Path(f"{bomb}.gz"), limit=files.FILES[bomb.name][0] + 1)
        assert len(content) == files.FILES[bomb.name][0] + 1
        monkeypatch.setattr(files, "MAX_BYTES", 2**26)
        tracemalloc.start()
        assert files._is_whole(Path(f"{bomb}.gz"))  # as far as it is read
        assert tracemalloc.get_traced_memory()[1] < 2**23
        tracemalloc.stop()
        return
    monkeypatch.setattr(files, "MAX_BYTES", 10**6)
    with pytest.raises(UserError, match="expected at most 1,000,000 bytes, got more"):
        files.load(folder, verify=False)

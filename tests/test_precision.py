"""The promise of precisions: each is trained, evaluated and resumed, or refused before anything is written."""

import re
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from PIL import Image
from pytorch_lightning.plugins import MixedPrecision

from fashion_lightning import fit, predict, test
from fashion_lightning.classifier import FashionClassifier
from fashion_lightning.data.module import FashionMNISTDataModule
from fashion_lightning.storage.checkpoints import read

CHECKPOINTS = Path("lightning_logs/version_0/checkpoints")
TRUE = {"64-true": torch.float64, "bf16-true": torch.bfloat16}
PRECISIONS = [pytest.param("64-true", marks=pytest.mark.slow), "bf16-true"]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_true_precision_is_that_of_weights_and_images_and_not_of_counts(precision, tiny_args, monkeypatch, tmp_path):
    dtypes = set()
    forward = FashionClassifier.forward
    monkeypatch.setattr(
        FashionClassifier, "forward", lambda model, images: dtypes.add(images.dtype) or forward(model, images)
    )
    args = [*tiny_args, "--trainer.precision", precision, "--trainer.max_epochs", "1"]
    results = fit.main([*args, "--inspect.graph", "true", "--inspect.projector", "true"])
    assert dtypes == {TRUE[precision]}
    assert {weight.dtype for weight in read(CHECKPOINTS / "last.ckpt").content["state_dict"].values()} == {
        TRUE[precision],
        torch.int64,  # batches that batch norm has seen
    }
    assert [results[split]["images"] for split in ("train", "val", "test")] == [200, 50, 203]
    for split, images in (("train", 200), ("val", 50), ("test", 203)):
        right = results[split]["accuracy"] * images
        assert right == pytest.approx(round(right), abs=1e-9)
    assert test.main([]) == {split: results[split] for split in ("train", "val", "test")}
    Image.linear_gradient("L").resize((28, 28)).save(tmp_path / "grey.png")
    assert len(predict.main([str(tmp_path / "grey.png")])) == 1


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_true_precision_resumes_to_the_bit(precision, tiny_args):
    args = [*tiny_args, "--trainer.precision", precision, "--trainer.limit_train_batches", "4"]
    fit.main(args)
    whole = read(CHECKPOINTS / "last.ckpt").content
    fit.main([*args, "--trainer.max_steps", "3"])  # within an epoch
    fit.main([*args, "--resume", "--trainer.max_steps", "-1"])
    resumed = read(Path("lightning_logs/version_1/checkpoints/last.ckpt")).content
    assert resumed["global_step"] == whole["global_step"] == 8
    for name, weight in whole["state_dict"].items():
        assert torch.equal(resumed["state_dict"][name], weight), name
    last_rows = [Path(f"lightning_logs/version_{n}/metrics.csv").read_text().splitlines()[-1] for n in range(2)]
    assert last_rows[0] == last_rows[1]


@pytest.mark.parametrize("scaler", [False, True])
def test_gradients_are_clipped_in_mixed_precision(scaler, tiny_data, tmp_path):
    """The default optimiser is fused, of which Lightning clips none. Scaling is for a GPU, but a CPU can do it."""
    plugin = MixedPrecision("16-mixed" if scaler else "bf16-mixed", "cpu")
    silent = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    trainer = pl.Trainer(accelerator="cpu", plugins=plugin, gradient_clip_val=1e-3, max_steps=1, **silent)
    model = FashionClassifier()
    before = model.network.fc.weight.detach().clone()
    trainer.fit(model, FashionMNISTDataModule(tiny_data, batch_size=20, verify=False))
    assert not torch.equal(model.network.fc.weight, before)
    assert trainer.optimizers[0].param_groups[0]["fused"] is False


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--trainer.precision", "16-true"], r"--trainer\.precision: expected bf16-true on a CPU, got 16-true, .*"),
        (["--trainer.precision", "transformer-engine"], r"transformer_engine\S* is not installed, which .*"),
        (["--trainer.accelerator", "tpu"], r"torch_xla\S* is not installed, which .*"),
        (["--trainer.strategy", "xla"], r"torch_xla\S* is not installed, which .*"),
        (["--trainer.strategy", "deepspeed"], r".* you must have DeepSpeed installed.*"),
        (["--trainer.strategy", "fsdp"], r".* requires a GPU accelerator.*"),
    ],
)
def test_what_cannot_be_used_here_is_said_before_anything_is_written(flags, message, tiny_args, capsys):
    with pytest.raises(SystemExit, match="2"):
        fit.main([*tiny_args, *flags])
    [line] = capsys.readouterr().err.splitlines()
    assert re.fullmatch(f"error: {message}", line)
    assert not Path("lightning_logs").exists()

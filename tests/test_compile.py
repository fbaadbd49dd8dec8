"""`--model.compile true`: the same network, compiled in place, which resumes to the same bits."""

import re
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from PIL import Image
from torch import nn
from torch._inductor import config

from fashion_lightning import FashionClassifier, FashionMNISTDataModule, fit, predict, verify
from fashion_lightning import test as test_command
from fashion_lightning.networks import WhitenedCNN

COMPILED = ["--model.compile", "true"]


class Tiny(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(28 * 28, 10))


def is_compiled(network: nn.Module) -> bool:
    return network._compiled_call_impl is not None


@pytest.fixture
def no_compiler():
    with config.patch({"cpp.cxx": ("no-compiler",)}):
        yield


def test_without_a_compiler_nothing_starts(tiny_args, no_compiler, capsys):
    with pytest.raises(SystemExit) as exit_:
        fit.main([*tiny_args, *COMPILED])
    assert exit_.value.code == 2
    assert capsys.readouterr().err == (
        "error: --model.compile: expected a compiler that works, but InvalidCxxCompiler: No working C++ compiler found "
        "in torch._inductor.config.cpp.cxx: ('no-compiler',): "
        "install g++ and Python's header files, or use --model.compile false\n"
    )
    assert not Path("lightning_logs").exists()


def test_what_compiles_nothing_needs_no_compiler(tiny_args, tmp_path, no_compiler):
    fit.main([*tiny_args, "--trainer.max_epochs", "1"])
    picture = Image.new("L", (28, 28))
    picture.paste(200, (8, 4, 20, 24))
    picture.save(tmp_path / "picture.png")
    assert len(predict.main([str(tmp_path / "picture.png"), *COMPILED])) == 1


@pytest.mark.parametrize(("stage", "compiles"), [("fit", True), ("test", True), ("predict", False)])
def test_it_is_compiled_where_its_batches_have_few_shapes(stage, compiles):
    model = FashionClassifier(network=Tiny, compile=True)
    model.trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    names = model.state_dict().keys()
    model.setup(stage)
    assert is_compiled(model.network) == compiles
    assert model.state_dict().keys() == names == FashionClassifier(network=Tiny).state_dict().keys()


@pytest.mark.slow
def test_fit_says_how_long_it_took_and_test_finds_the_same(tiny_args, capsys):
    found = fit.main([*tiny_args, *COMPILED])
    assert len(re.findall(r"^compile  \d+\.\d s, until the first step was done$", capsys.readouterr().out, re.M)) == 1
    again = test_command.main(["--data.verify", "false"])
    assert {split: again[split] for split in ("train", "val", "test")} == {
        split: found[split] for split in ("train", "val", "test")
    }


@pytest.mark.slow
@pytest.mark.parametrize("network", ["FashionCNN", "WhitenedCNN", "ResidualCNN --model.network.whitening true"])
def test_it_repeats_and_resumes_to_the_same_bits(tiny_args, network, capsys):
    verify.main([*tiny_args, *COMPILED, "--trainer.limit_train_batches", "10", "--model.network", *network.split()])
    assert len(re.findall(" holds ", capsys.readouterr().out)) == 3


@pytest.mark.slow
def test_a_checkpoint_fits_the_network_that_is_not_compiled(tiny_data, tmp_path):
    data = FashionMNISTDataModule(tiny_data, verify=False, batch_size=20)
    trainer = pl.Trainer(max_epochs=1, accelerator="cpu", default_root_dir=tmp_path, logger=False)
    model = FashionClassifier(network=WhitenedCNN, compile=True)
    trainer.fit(model, data)
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    eager = FashionClassifier.load_from_checkpoint(tmp_path / "model.ckpt", network=WhitenedCNN).eval()
    images = data.splits["test"][:20][0].float() / 127.5 - 1
    assert not is_compiled(eager.network)
    with torch.inference_mode():
        torch.testing.assert_close(model.eval()(images), eager(images), rtol=1e-4, atol=1e-4)

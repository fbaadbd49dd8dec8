"""The promise of `best.ckpt`: it holds the weights that were validated, whatever callbacks do to weights."""

from pathlib import Path

import forked
import pytest
import pytorch_lightning as pl
import torch

from fashion_lightning import fit
from fashion_lightning.storage.checkpoints import read
from fashion_lightning.storage.run_folders import Run

RUN = Path("lightning_logs/version_0")


class Spoils(pl.Callback):
    """Changes all weights after each validation, as an average that is taken out again would."""

    def on_validation_epoch_end(self, trainer, pl_module):
        if not trainer.sanity_checking:
            for parameter in pl_module.parameters():
                parameter.data.neg_()


class SpoilsLater(Spoils):
    def on_validation_epoch_end(self, trainer, pl_module):
        pass

    on_train_epoch_end = on_train_end = Spoils.on_validation_epoch_end


CALLBACKS = {
    "stochastic weight averaging": ["StochasticWeightAveraging", "--trainer.callbacks.swa_lrs", "0.05"],
    "averaged weights": ["EMAWeightAveraging", "--trainer.callbacks.decay", "0.9"],
    "changed after validation": ["test_weights.Spoils"],
    "changed after the epoch": ["test_weights.SpoilsLater"],
}


@pytest.mark.filterwarnings("ignore:SWA is currently only supported every epoch")  # of the schedule that it replaces
@pytest.mark.parametrize("name", CALLBACKS)
def test_the_validated_weights_are_kept(name, tiny_args, capsys):
    flags = ["--trainer.callbacks", *CALLBACKS[name], "--trainer.max_epochs", "3"]
    results = fit.main([*tiny_args, *flags])
    best = read(Run(RUN).best).content
    assert results["val"]["accuracy"] == best["callbacks"]["Keeper"]["best_accuracy"] > 0.15
    assert results["val"]["images"] == best["callbacks"]["Keeper"]["images"] == 50
    epochs = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch ")]
    assert any(f"{results['val']['accuracy']:.2%}" in line for line in epochs)


def test_without_validation_the_weights_of_the_end_are_kept(tiny_args):
    flags = ["--data.val_fraction", "0", "--data.batch_size", "50", "--trainer.callbacks", "EMAWeightAveraging"]
    results = fit.main([*tiny_args, *flags])
    best, last = (read(path).content for path in (Run(RUN).best, Run(RUN).last))
    assert torch.equal(best["state_dict"]["network.fc.weight"], last["state_dict"]["network.fc.weight"])
    assert not torch.equal(best["state_dict"]["network.fc.weight"], last["current_model_state"]["network.fc.weight"])
    assert results["checkpoint"] == str(Run(RUN).best)
    fit.main(["--resume", "--trainer.max_epochs", "3"])
    assert read(Run(RUN).best).content["global_step"] == 15  # of the end, again


def save_other_weights() -> None:
    from fashion_lightning.storage.checkpoints import DurableCheckpointIO

    save = DurableCheckpointIO.save_checkpoint

    def save_checkpoint(self, checkpoint, path, storage_options=None):
        negated = {name: -value for name, value in checkpoint["state_dict"].items()}
        save(self, checkpoint, path, {"state_dict": negated} if Path(path).name == "best.ckpt" else None)

    DurableCheckpointIO.save_checkpoint = save_checkpoint


def test_a_result_of_other_weights_is_an_error(tiny_args, tmp_path):
    assert forked.run(tmp_path, tiny_args, patch=save_other_weights) == 1
    [line] = (tmp_path / "err").read_text().splitlines()
    assert line.startswith(f"error: {RUN}/checkpoints/best.ckpt classifies ")
    assert line.endswith("its weights are not those that were validated; a callback may change them")
    assert not (tmp_path / RUN / "results.json").exists()


def save_other_weights_elsewhere() -> None:
    from fashion_lightning.jobs import fit

    save_other_weights()
    fit.numerics = lambda trainer: {"device": "another"}


def test_where_last_bits_may_differ_the_difference_is_said(tiny_args, tmp_path):
    assert forked.run(tmp_path, tiny_args, patch=save_other_weights_elsewhere) == 0
    [line] = (tmp_path / "err").read_text().splitlines()
    assert line.startswith(f"warning: {RUN}/checkpoints/best.ckpt classifies ")
    assert line.endswith("now it is {'device': 'another'}")

"""The promise to Lightning's Tuner and to a Trainer used twice: what was before leaves no trace in a fit."""

import signal

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.tuner import Tuner

from fashion_lightning.classifier import FashionClassifier
from fashion_lightning.data.module import FashionMNISTDataModule
from fashion_lightning.errors import WorkError
from fashion_lightning.networks import WhitenedCNN
from fashion_lightning.training.stopping import FiniteLoss, SignalStop


class Watch(pl.Callback):
    """Keeps the labels of each step and the images of each epoch; may interrupt."""

    def __init__(self):
        self.labels, self.images, self.interrupt_at = [], [], None

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.labels.append(batch[1].tolist())

    def on_train_batch_end(self, trainer, pl_module, *args):
        if trainer.global_step == self.interrupt_at:
            raise ValueError("interrupted")

    def on_train_epoch_end(self, trainer, pl_module):
        self.images.append(int(pl_module.train_metrics.images))


def prepare(folder, tiny_data, batch_size=20):
    torch.manual_seed(0)
    watch = Watch()
    trainer = pl.Trainer(
        default_root_dir=folder,
        max_epochs=3,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[watch],
    )
    data = FashionMNISTDataModule(tiny_data, batch_size=batch_size, eval_batch_size=16, verify=False)
    return trainer, FashionClassifier(network=WhitenedCNN), data, watch


def fitted(trainer, model, data, watch):
    """Labels of each step, images of each epoch, and the weights at the end."""
    watch.labels, watch.images, watch.interrupt_at = [], [], None
    trainer.fit(model, data)
    return watch.labels, watch.images, [parameter.tolist() for parameter in model.parameters()]


def test_a_fit_after_a_search_of_the_learning_rate_is_that_of_a_new_trainer(tmp_path, tiny_data):
    trainer, model, data, watch = prepare(tmp_path, tiny_data)
    curve = Tuner(trainer).lr_find(model, data, num_training=25)  # two epochs and a half
    assert len(curve.results["lr"]) == 25
    assert model.lr == curve.suggestion()
    found = fitted(trainer, model, data, watch)

    trainer, model, data, watch = prepare(tmp_path, tiny_data)
    model.lr = curve.suggestion()
    assert found == fitted(trainer, model, data, watch)
    assert found[1] == [200, 200, 200]
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(model.lr * 0.999**30)
    assert list(tmp_path.iterdir()) == []


def test_a_fit_after_a_search_of_the_batch_size_is_that_of_a_new_trainer(tmp_path, tiny_data):
    trainer, model, data, watch = prepare(tmp_path, tiny_data)
    size = Tuner(trainer).scale_batch_size(model, data, max_trials=3)
    assert size == data.batch_size == 8
    assert fitted(trainer, model, data, watch) == fitted(*prepare(tmp_path, tiny_data, batch_size=8))
    assert list(tmp_path.iterdir()) == []


def test_means_of_a_fit_after_an_exception_are_of_its_own_images(tmp_path, tiny_data):
    trainer, model, data, watch = prepare(tmp_path, tiny_data)
    watch.interrupt_at = 3
    with pytest.raises(ValueError, match="interrupted"):
        trainer.fit(model, data)
    trainer, _, data, watch = prepare(tmp_path, tiny_data)
    assert fitted(trainer, model, data, watch)[1] == [200, 200, 200]


def test_a_fit_after_one_that_was_stopped_is_not_stopped_too(tmp_path, tiny_data):
    trainer, model, data, watch = prepare(tmp_path, tiny_data)
    stop = SignalStop()
    trainer.callbacks += [stop, FiniteLoss()]
    with torch.no_grad():
        model.network.fc.weight.fill_(float("nan"))
    with pytest.raises(WorkError, match="the loss of step 1 is nan"):
        trainer.fit(model, data)
    stop.received = signal.SIGINT
    _, model, data, _ = prepare(tmp_path, tiny_data)
    assert fitted(trainer, model, data, watch)[1] == [200, 200, 200]
    assert stop.received is None

"""The promise of epochs: whatever steps, and however it is resumed, an epoch has every image once."""

from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import GradientAccumulationScheduler
from torch import nn
from torch.nn import functional as F

from fashion_lightning import FashionClassifier, FashionMNISTDataModule, fit

SCHEDULE = {0: 1, 1: 7, 2: 3}


@pytest.fixture
def data(tiny_data) -> FashionMNISTDataModule:
    """200 training images in 7 batches, of which the last has 20."""
    return FashionMNISTDataModule(tiny_data, batch_size=30, eval_batch_size=16, verify=False)


class Seen(pl.Callback):
    """Keeps the bytes of the training images of each epoch, in their order, and numbers drawn in each batch."""

    def __init__(self) -> None:
        self.epochs: dict[int, list[bytes]] = {}
        self.draws: list[float] = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.epochs.setdefault(trainer.current_epoch, []).extend(image.numpy().tobytes() for image in batch[0])

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.draws.append(float(torch.rand(1)))


class Saves(pl.Callback):
    """Checkpoints where users' callbacks make them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if batch_idx in (1, 6):
            trainer.save_checkpoint(self.folder / f"epoch {trainer.current_epoch}, batch {batch_idx}.ckpt")

    def on_train_epoch_end(self, trainer, pl_module):
        trainer.save_checkpoint(self.folder / f"end of epoch {trainer.current_epoch}.ckpt")


class EveryThird(pl.LightningModule):
    """Optimises by hand, after every third batch."""

    automatic_optimization = False

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)

    def training_step(self, batch, batch_idx):
        images, labels = batch
        self.manual_backward(F.cross_entropy(self.layers(images), labels))
        if batch_idx % 3 == 2:
            self.optimizers().step()
            self.optimizers().zero_grad()


def trainer(*callbacks: pl.Callback, **arguments) -> pl.Trainer:
    nothing = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    return pl.Trainer(max_epochs=3, accelerator="cpu", callbacks=list(callbacks), **nothing, **arguments)


def expected(data: FashionMNISTDataModule, epoch: int) -> list[bytes]:
    """The images of an epoch, in its order."""
    order = torch.cat([data.images_of_batch(epoch, batch) for batch in range(7)])
    images = data.on_after_batch_transfer([data.splits["train"].images[order], torch.zeros(())], 0)[0]
    return [image.numpy().tobytes() for image in images]


MODELS = {
    "the classifier": (FashionClassifier, {}),
    "accumulation": (FashionClassifier, {"accumulate_grad_batches": 3}),
    "steps by hand": (EveryThird, {}),
}


@pytest.mark.filterwarnings("ignore:.*val_dataloader.*validation_step", "ignore:.*does not have many workers")
@pytest.mark.filterwarnings("ignore:.*smaller than the logging interval", "ignore:.*your dataloader is not resumable")
@pytest.mark.filterwarnings("ignore:.*recommended to use `self.log")
@pytest.mark.parametrize("name", MODELS)
def test_a_plain_trainer_sees_whole_epochs_and_resumes_in_the_middle(name, data, tmp_path):
    make, arguments = MODELS[name]
    seen = Seen()
    trainer(seen, Saves(tmp_path), **arguments).fit(make(), data)
    assert seen.epochs == {epoch: expected(data, epoch) for epoch in range(3)}
    for epoch, batch, name in [(0, 2, "epoch 0, batch 1"), (2, 0, "epoch 1, batch 6"), (1, 0, "end of epoch 0")]:
        rest = Seen()
        trainer(rest, **arguments).fit(make(), data, ckpt_path=tmp_path / f"{name}.ckpt", weights_only=True)
        whole = {number: seen.epochs[number] for number in range(epoch, 3)}
        assert rest.epochs == {**whole, epoch: whole[epoch][30 * batch :]}


def test_accumulation_that_changes_leaves_epochs_whole(tiny_args, data, tmp_path, monkeypatch):
    seen = Seen()
    monkeypatch.setattr(GradientAccumulationScheduler, "on_train_batch_start", seen.on_train_batch_start)
    monkeypatch.setattr(GradientAccumulationScheduler, "on_train_batch_end", seen.on_train_batch_end)
    schedule = ["--trainer.callbacks", "GradientAccumulationScheduler", "--trainer.callbacks.scheduling", str(SCHEDULE)]
    results = fit.main([*tiny_args, *schedule, "--data.batch_size", "30", "--trainer.max_epochs", "3"])
    data.setup()
    assert seen.epochs == {epoch: expected(data, epoch) for epoch in range(3)}
    assert results["steps"] == 7 + 1 + 3


def test_batches_of_one_step_draw_different_numbers(tiny_args, monkeypatch):
    seen = Seen()
    monkeypatch.setattr(
        FashionClassifier, "on_train_batch_end", lambda self, *args: seen.draws.append(float(torch.rand(1)))
    )
    fit.main([*tiny_args, "--trainer.accumulate_grad_batches", "5"])
    assert len(set(seen.draws)) == len(seen.draws) == 20


def test_without_a_trainer_each_pass_is_the_next_epoch(data):
    data.setup()
    loader = data.train_dataloader()
    passes = [torch.cat([images for images, _ in loader]) for _ in range(3)]
    for epoch, images in enumerate(passes):
        order = torch.cat([data.images_of_batch(epoch, batch) for batch in range(7)])
        assert torch.equal(images, data.splits["train"].images[order])
    again = torch.cat([images for images, _ in data.train_dataloader()])
    assert not any(torch.equal(again, images) for images in passes)

"""Fashion-MNIST as a data module: splits, batches, pixels to floats. Knows no network and no training."""

import functools
import hashlib
import warnings
from collections.abc import Container
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor
from torch.utils.data import DataLoader, Sampler, TensorDataset

from fashion_lightning.data import files
from fashion_lightning.data.sampling import TrainingBatches, evaluation_batches, split_indices
from fashion_lightning.errors import UserError

DIGESTS = {"data", "training_data"}  # in a checkpoint: versions before 0.3 have the first one only


def normalize(images: Tensor) -> Tensor:
    """Pixels 0 to 255 (uint8, any shape) to float32 in [-1, 1], by the steps of ToTensor and Normalize(0.5, 0.5)."""
    return images.float().div_(255).sub_(0.5).div_(0.5)


@dataclass(frozen=True)
class Split:
    """Part of a file of the data set: a slice of it gives images and labels."""

    images: Tensor  # all of the file, (N, 1, 28, 28) uint8
    labels: Tensor  # likewise, (N,) int64
    indices: Tensor  # those in the split, (K,) int64

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, places: slice) -> tuple[Tensor, Tensor]:
        return self.images[self.indices[places]], self.labels[self.indices[places]]


class FashionMNISTDataModule(pl.LightningDataModule):
    """Batches of images (B, 1, 28, 28) and labels (B,) int64.

    Images are uint8 until they are on the device, then float32, or of the dtype of the Trainer's precision.

    The training file is split into training and validation images.

    Attributes:
        with_test: Whether the test set is read, to be set before `setup`; without it, there is no split of that name.
        trained_with: State of the data module in the checkpoint to evaluate; `setup` raises as `check_match`.
        tested: Names of the splits that `trainer.test` evaluates, if they have images, in a loader each.

    Args:
        data_dir: Where the four files are, or are downloaded to if Debian's package is not installed either.
        batch_size: Training images in a batch, over all processes.
        eval_batch_size: Images in an evaluation batch; results do not depend on it.
        val_fraction: Share of the training file that is used for validation; 0 trains on all of it.
        split_seed: Seed of the split into training and validation images, and of nothing else.
        seed: Seed of the order of the training images in each epoch.
        verify: Whether the files must be the published ones; otherwise others in the same format are accepted.
        match_checkpoint: Whether a checkpoint is only evaluated on the split and data set that it was trained with.
    """

    trainer: Any  # Lightning's, None until it is attached

    def __init__(
        self,
        data_dir: str | Path = "data",
        batch_size: int = 60,
        eval_batch_size: int = 200,
        val_fraction: float = 0.2,
        split_seed: int = 0,
        seed: int = 0,
        verify: bool = True,
        match_checkpoint: bool = True,
    ) -> None:
        super().__init__()
        for name, size in (("batch_size", batch_size), ("eval_batch_size", eval_batch_size)):
            if size < 1:
                raise UserError(f"--data.{name}: expected 1 or more, got {size}")
        if not 0 <= val_fraction < 1:
            raise UserError(f"--data.val_fraction: expected 0 or more, and less than 1, got {val_fraction}")
        if not 0 <= split_seed < 2**32:
            raise UserError(f"--data.split_seed: expected 0 to {2**32 - 1}, got {split_seed}")
        self.data_dir, self.verify, self.match_checkpoint = data_dir, verify, match_checkpoint
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.val_fraction, self.split_seed, self.seed = val_fraction, split_seed, seed
        self.with_test = True
        self.trained_with: dict[str, Any] = {}
        self.tested: Container[str] = ("test",)
        self._passes = 0  # over the training images, without a trainer

    def prepare_data(self) -> None:
        self.setup()  # Lightning calls this in one process before `setup` in all: missing files are downloaded once

    def setup(self, stage: str | None = None) -> None:
        _ = self.splits  # reads the files, once
        if self.trained_with:
            self.check_match(self.trained_with)

    @functools.cached_property
    def splits(self) -> dict[str, Split]:
        """Those of train, val and test that have images. Raises UserError, see `files.load`."""
        parts = ("train", "t10k") if self.with_test else ("train",)
        tensors = files.load(self.data_dir, self.verify, parts)

        def whole(part: str) -> Split:
            images, labels = tensors[f"{part}-images-idx3-ubyte"], tensors[f"{part}-labels-idx1-ubyte"]
            return Split(images.unsqueeze(1), labels.long(), torch.arange(len(labels)))

        train_file = whole("train")
        train, val = split_indices(len(train_file), self.split_seed, self.val_fraction)
        splits = {name: replace(train_file, indices=part) for name, part in (("train", train), ("val", val))}
        if self.with_test:
            splits["test"] = whole("t10k")
        return {name: split for name, split in splits.items() if len(split)}

    def train_dataloader(self) -> DataLoader:
        return self._loader(self.splits["train"], self._training_batches())

    def val_dataloader(self) -> DataLoader | list[DataLoader]:
        return self.evaluation_dataloader("val") if "val" in self.splits else []

    def test_dataloader(self) -> DataLoader | dict[str, DataLoader]:
        loaders = {split: self.evaluation_dataloader(split) for split in self.splits if split in self.tested}
        return loaders["test"] if list(loaders) == ["test"] else loaders

    def predict_dataloader(self) -> DataLoader:
        """The test images."""
        return self.evaluation_dataloader("test")

    def evaluation_dataloader(self, name: str) -> DataLoader:
        """Every image of a split once, over all processes, in the order of `Split.indices`."""
        split = self.splits[name]
        batches = evaluation_batches(split.indices, self.eval_batch_size, *self._rank_and_world_size())
        return self._loader(split, batches)

    def on_after_batch_transfer(self, batch: list[Tensor], dataloader_idx: int) -> tuple[Tensor, Tensor]:
        images, labels = batch
        floats = normalize(images)
        # Lightning converts a batch before this hook, when its pixels are no floats yet.
        return self.trainer.precision_plugin.convert_input(floats) if self.trainer else floats, labels

    def _loader(self, split: Split, batches: Sampler[Tensor] | list[Tensor]) -> DataLoader:
        if self.trainer:
            check_trainer(self.trainer)
        return DataLoader(
            TensorDataset(split.images, split.labels),
            sampler=batches,
            batch_size=None,  # the sampler's index tensors are the batches
            pin_memory=self._is_on_cuda(),
            generator=torch.Generator(),  # otherwise every epoch would draw from the global generator
        )

    def _is_on_cuda(self) -> bool:
        return self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"

    def _rank_and_world_size(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def images_of_batch(self, epoch: int, batch: int) -> Tensor:
        """Indices (B,) in the training file of the images of a batch, of all processes; both count from 0."""
        return self._training_batches().global_batches(epoch)[batch]

    def state_dict(self) -> dict[str, Any]:
        """What determines the images of each batch and split; before the first step nothing: the Tuner changes it."""
        return self._order() if self.trainer.global_step else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Raises UserError if training would not continue with the images that come next, or as `check_match`."""
        if self.trainer.state.fn != TrainerFn.FITTING:
            return self.check_match(state_dict)
        now = self._order()
        if not state_dict.keys() & now.keys() & DIGESTS:  # of an older version, resumed without the test set
            problem = "not known whether the training images are those of the checkpoint"
            if self.trainer.is_global_zero:
                warnings.warn(f"{problem}: to have it checked, --evaluate_test true", stacklevel=2)
        for name, value in now.items():
            if value != state_dict.get(name, value if name in DIGESTS else None):
                was = f"cannot resume: {name} was {state_dict.get(name)}, is now {value}"
                raise UserError(f"{was}; drop the flags that change it, or start a new run")

    def check_match(self, state_dict: dict[str, Any]) -> None:
        """Raises UserError if a checkpoint with this state was trained with another split or data set."""
        now = self._order()
        compared = now.keys() & state_dict.keys() & {*DIGESTS, "split_seed", "val_fraction"}
        for name in sorted(compared) if self.match_checkpoint else ():
            if state_dict[name] != now[name]:
                expected = f"expected the checkpoint's {name} {state_dict[name]}, got {now[name]}"
                if name in DIGESTS:
                    expected = "expected the data set that the checkpoint was trained on, got another"
                reason = "its training images may be in other splits"
                raise UserError(f"{expected}: {reason}; to evaluate all the same: --data.match_checkpoint false")

    def _order(self) -> dict[str, Any]:
        order = {"batch_size": self.batch_size, "seed": self.seed}
        return {**order, "val_fraction": self.val_fraction, "split_seed": self.split_seed, **self._digests}

    @functools.cached_property
    def _digests(self) -> dict[str, str]:
        """SHA-256 of the images and labels of the training file, and with those of the test file, if it is read."""
        digest, digests = hashlib.sha256(), {}
        for name, split in (("training_data", "train"), ("data", "test")):
            if split in self.splits:
                digest.update(self.splits[split].images.numpy().data)
                digest.update(self.splits[split].labels.numpy().data)
                digests[name] = digest.hexdigest()
        return digests

    def _training_batches(self) -> TrainingBatches:
        indices = self.splits["train"].indices
        return TrainingBatches(indices, self.batch_size, self.seed, self._next_batch, *self._rank_and_world_size())

    def _next_batch(self) -> tuple[int, int]:
        """Epoch, and batches done in it, by the trainer's counters; without a trainer each pass is the next epoch."""
        if self.trainer and self.trainer.training:
            return self.trainer.current_epoch, self.trainer.fit_loop.epoch_loop.batch_progress.current.ready
        self._passes += 1
        return self._passes - 1, 0


def check_trainer(trainer: Any) -> None:
    """Raises UserError if Lightning would put other batches in place of those of the loaders."""
    if trainer.overfit_batches:
        expected = "expected 0: batches here are not redrawn from single images"
        raise UserError(f"--trainer.overfit_batches: {expected}; use limit_train_batches")
    several = trainer.distributed_sampler_kwargs is not None  # even with one process, if it could be one of several
    if several and trainer._accelerator_connector.use_distributed_sampler:
        reason = "the data module shares the batches itself, without repeating or leaving out any"
        raise UserError(f"--trainer.use_distributed_sampler: expected false, use_distributed_sampler=False: {reason}")


def data_of(trainer: pl.Trainer) -> FashionMNISTDataModule:
    """The data module of a running trainer."""
    return trainer.datamodule  # type: ignore[attr-defined]  # Lightning sets it and does not declare it

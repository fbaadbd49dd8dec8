"""Fashion-MNIST as a data module: split, batches, pixels to floats. Knows no network and no training."""

import functools
import hashlib
import math
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor
from torch.utils.data import DataLoader, Sampler, TensorDataset

from fashion_lightning import files
from fashion_lightning.errors import UserError
from fashion_lightning.sampling import TrainingBatches, evaluation_batches, split_indices


def normalize(images: Tensor) -> Tensor:
    """Pixels 0 to 255 (uint8, any shape) to float32 in [-1, 1], by the steps of ToTensor and Normalize(0.5, 0.5)."""
    return images.float().div_(255).sub_(0.5).div_(0.5)


class FashionMNISTDataModule(pl.LightningDataModule):
    """Batches of images (B, 1, 28, 28), uint8 until they are on the device, then float32, and labels (B,) int64.

    The training file is split into training and validation; the test file stays whole.
    `test_dataloader` gives all splits, since an evaluation reports all of them.

    Args:
        data_dir: Where the four files are, or are fetched to if Debian's package is not installed either.
        batch_size: Training images a step, over all processes.
        eval_batch_size: Images in an evaluation batch; results do not depend on it.
        val_fraction: Of the training file that is kept for validation; with 0 all of it is trained on.
        split_seed: What the split into training and validation depends on, and nothing else.
        seed: What the order of the training images depends on, together with the epoch.
        verify: Whether the files must be the published ones; if not, others in the same format will do.
    """

    def __init__(
        self,
        data_dir: str | Path = "data",
        batch_size: int = 60,
        eval_batch_size: int = 200,
        val_fraction: float = 0.2,
        split_seed: int = 0,
        seed: int = 0,
        verify: bool = True,
    ) -> None:
        super().__init__()
        for name, size in (("batch_size", batch_size), ("eval_batch_size", eval_batch_size)):
            if size < 1:
                raise UserError(f"--data.{name}: expected 1 or more, got {size}")
        if not 0 <= val_fraction < 1:
            raise UserError(f"--data.val_fraction: expected 0 or more, and less than 1, got {val_fraction}")
        if not 0 <= split_seed < 2**32:
            raise UserError(f"--data.split_seed: expected 0 to {2**32 - 1}, got {split_seed}")
        self.data_dir, self.verify = data_dir, verify
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.val_fraction, self.split_seed, self.seed = val_fraction, split_seed, seed
        self.splits: dict[str, tuple[TensorDataset, Tensor]] = {}

    def prepare_data(self) -> None:
        # Lightning calls this in one process before `setup` in all: what is missing is fetched once.
        self.setup()

    def setup(self, stage: str | None = None) -> None:
        """Fills `splits`: name to data set and the indices (N,) of it that are the split.

        Raises:
            DataError: See `files.load`.
        """
        if self.splits:
            return
        tensors = files.load(self.data_dir, self.verify)

        def dataset(part: str) -> TensorDataset:
            images, labels = tensors[f"{part}-images-idx3-ubyte"], tensors[f"{part}-labels-idx1-ubyte"]
            return TensorDataset(images.unsqueeze(1), labels.long())

        train_file, test_file = dataset("train"), dataset("t10k")
        train, val = split_indices(len(train_file), self.split_seed, self.val_fraction)
        splits = {"train": (train_file, train), "val": (train_file, val)}
        splits["test"] = (test_file, torch.arange(len(test_file)))
        self.splits = {name: (dataset, indices) for name, (dataset, indices) in splits.items() if len(indices)}

    def train_dataloader(self) -> DataLoader:
        return self._loader(self.splits["train"][0], self._training_batches())

    def val_dataloader(self) -> DataLoader | list[DataLoader]:
        return self.evaluation_dataloader("val") if "val" in self.splits else []

    def test_dataloader(self) -> dict[str, DataLoader]:
        return {split: self.evaluation_dataloader(split) for split in self.splits}

    def evaluation_dataloader(self, split: str) -> DataLoader:
        """Every image of `split` once, over all processes, in the order of the file."""
        dataset, indices = self.splits[split]
        return self._loader(dataset, evaluation_batches(indices, self.eval_batch_size, *self._rank_and_world_size()))

    def on_after_batch_transfer(self, batch: list[Tensor], dataloader_idx: int) -> tuple[Tensor, Tensor]:
        images, labels = batch
        return normalize(images), labels

    def _loader(self, dataset: TensorDataset, batches: Sampler[Tensor] | list[Tensor]) -> DataLoader:
        return DataLoader(
            dataset,
            sampler=batches,
            batch_size=None,  # the sampler's index tensors are the batches
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator(),  # or else every epoch would draw from the global one
        )

    def _rank_and_world_size(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps of an epoch under the trainer's limits."""
        batches, limit = math.ceil(len(self.splits["train"][1]) / self.batch_size), self.trainer.limit_train_batches
        batches = min(batches, limit) if isinstance(limit, int) else int(batches * limit)
        return math.ceil(batches / self.trainer.accumulate_grad_batches)

    def progress(self, step: int) -> tuple[int, int]:
        """(epoch, batches done in it) after `step` optimiser steps."""
        epoch, steps = divmod(step, self.steps_per_epoch)
        return epoch, steps * self.trainer.accumulate_grad_batches

    def images_of_step(self, step: int) -> Tensor:
        """Indices (B,) in the training file of all images that optimiser step `step`, from 0, is about."""
        epoch, done = self.progress(step)
        batches = self._training_batches().global_batches(epoch)
        return torch.cat(batches[done : done + self.trainer.accumulate_grad_batches])

    def state_dict(self) -> dict[str, Any]:
        """What decides on the images of a step."""
        order = {"steps_per_epoch": self.steps_per_epoch, "batch_size": self.batch_size, "seed": self.seed}
        split = {"val_fraction": self.val_fraction, "split_seed": self.split_seed}
        return {**order, **split, "data": self._digest}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Raises UserError if training would not go on with the images that come next."""
        if self.trainer.state.fn != TrainerFn.FITTING:
            return
        for name, value in self.state_dict().items():
            if value != state_dict.get(name):
                raise UserError(
                    f"training cannot go on with another {name} than it began with: expected "
                    f"{state_dict.get(name)}, got {value}; leave the flags away that change it, or begin anew"
                )

    @functools.cached_property
    def _digest(self) -> str:
        """SHA-256 of all images and labels."""
        digest = hashlib.sha256()
        for split in ("train", "test"):
            for tensor in self.splits[split][0].tensors:
                digest.update(tensor.numpy())
        return digest.hexdigest()

    def _training_batches(self) -> TrainingBatches:
        def progress() -> tuple[int, int]:
            # By the optimiser steps, which a checkpoint restores.
            return self.progress(self.trainer.global_step) if self.trainer else (0, 0)

        indices = self.splits["train"][1]
        return TrainingBatches(indices, self.batch_size, self.seed, progress, *self._rank_and_world_size())

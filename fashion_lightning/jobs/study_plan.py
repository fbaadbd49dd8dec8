"""What a study would train, and about how long: some steps of each variant are timed. Trains no cell."""

import itertools
import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch

from fashion_lightning.jobs.fit import Fit
from fashion_lightning.storage.cells import Cell

STEPS = 12  # that are timed, in training and in evaluation


@dataclass(frozen=True)
class Plan:
    cells: Sequence[Cell]
    workers: int
    threads: int
    seconds: dict[str, float]  # of a cell, by variant
    retry_failed: bool

    def run(self) -> list[str]:
        """The names of the cells that would be trained, printed with the time that they take."""
        ended = ["finished", *(() if self.retry_failed else ("failed",))]
        unfinished = [cell for cell in self.cells if cell.status not in ended]
        for cell in self.cells:
            status = "" if cell.status == "waiting" else f"  {cell.status}"
            print(f"{cell.variant} seed {cell.seed}{status}")
        total = sum(self.seconds[cell.variant] for cell in unfinished) / self.workers
        print(
            f"\n{len(unfinished)} of {len(self.cells)} cells to train, {self.workers} at a time, "
            f"{self.threads} thread{'s' * (self.threads > 1)} each: about {_duration(total)}, by some steps of each "
            "variant"
        )
        return [f"{cell.variant} seed {cell.seed}" for cell in unfinished]


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


class _Clock(pl.Callback):
    """When each batch ended."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
        self.times.append(time.perf_counter())

    on_test_batch_end = on_train_batch_end

    def seconds(self) -> float:
        """Of a batch, the median, and none of the first ones, which are slower."""
        times, self.times = self.times, []
        return statistics.median(b - a for a, b in itertools.pairwise(times)) if len(times) > 1 else 0.0


def seconds_of(fit: Fit, trainer_arguments: dict[str, Any], threads: int) -> float:
    """About the seconds that training and evaluation of this fit take, in one process, once it is started."""
    torch.set_num_threads(threads)
    clock = _Clock()
    trainer = pl.Trainer(
        **trainer_arguments,
        barebones=True,
        use_distributed_sampler=False,
        max_steps=STEPS,
        limit_test_batches=STEPS,
        callbacks=[clock],
    )
    trainer.fit(fit.model, datamodule=fit.data)
    step = clock.seconds()
    fit.data.tested = ("train",)
    trainer.test(fit.model, datamodule=fit.data, verbose=False)
    image = clock.seconds() / fit.data.eval_batch_size
    per_epoch = _limited(len(fit.data.train_dataloader()), fit.trainer.limit_train_batches)
    limits = [per_epoch * epochs for epochs in [fit.trainer.max_epochs or -1] if epochs >= 0]
    limits += [steps * fit.trainer.accumulate_grad_batches for steps in [fit.trainer.max_steps] if steps >= 0]
    batches = min(limits, default=0)
    train, val = (len(fit.data.splits[name]) if name in fit.data.splits else 0 for name in ("train", "val"))
    validations = math.ceil(batches / per_epoch / (fit.trainer.check_val_every_n_epoch or 1)) if per_epoch else 0
    return batches * step + (validations * val + train + val) * image


def _limited(batches: int, limit: float) -> int:
    return min(batches, limit) if isinstance(limit, int) else int(batches * limit)

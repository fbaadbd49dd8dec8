"""Evaluation of a checkpoint on every split. Knows no command line."""

from dataclasses import dataclass

import pytorch_lightning as pl

from fashion_lightning.classifier import FashionClassifier
from fashion_lightning.data.module import FashionMNISTDataModule
from fashion_lightning.jobs.start import Start
from fashion_lightning.reports.results import Splits, print_splits
from fashion_lightning.storage.provenance import describe_device


@dataclass(frozen=True)
class Test:
    trainer: pl.Trainer
    model: FashionClassifier
    data: FashionMNISTDataModule
    start: Start

    def run(self) -> Splits:
        self.start.load_into(self.model)
        if self.trainer.is_global_zero:
            print(f"device      {describe_device(self.trainer)}")
            self.start.print()
        splits = evaluate(self.trainer, self.model, self.data)
        if self.trainer.is_global_zero:
            print_splits(splits)
        return splits


def evaluate(trainer: pl.Trainer, model: FashionClassifier, data: FashionMNISTDataModule) -> Splits:
    """Loss, accuracy and number of images of every split. Raises RuntimeError if an image was left out or repeated."""
    trainer.test(model, datamodule=data, verbose=False)
    splits: Splits = {}
    is_limited = isinstance(trainer.limit_test_batches, int) or trainer.limit_test_batches < 1
    for name, split in data.splits.items():
        values = {metric: float(trainer.callback_metrics[f"{name}/{metric}"]) for metric in ("loss", "accuracy")}
        images = int(trainer.callback_metrics[f"{name}/images"])
        if images != len(split) and not is_limited:
            raise RuntimeError(f"expected to evaluate {len(split)} images of {name}, got {images}")
        splits[name] = {**values, "images": images}
    return splits

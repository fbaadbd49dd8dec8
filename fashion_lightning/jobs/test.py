"""Evaluation of a checkpoint on every split. Knows no command line."""

from collections.abc import Sequence
from dataclasses import dataclass

import pytorch_lightning as pl

from fashion_lightning.classifier import FashionClassifier
from fashion_lightning.data.module import FashionMNISTDataModule
from fashion_lightning.jobs.start import Start
from fashion_lightning.reports import results
from fashion_lightning.reports.logits import EvaluationLogits
from fashion_lightning.reports.results import Splits, print_splits
from fashion_lightning.storage.provenance import describe_device


@dataclass(frozen=True)
class Test:
    trainer: pl.Trainer
    model: FashionClassifier
    data: FashionMNISTDataModule
    logits: EvaluationLogits
    start: Start

    def run(self) -> Splits:
        self.start.load_into(self.model)
        if self.trainer.is_global_zero:
            print(f"device      {describe_device(self.trainer)}")
            self.start.print()
        splits = evaluate(self.trainer, self.model, self.data, self.logits, ("train", "val", "test"))
        if self.trainer.is_global_zero:
            print_splits(splits)
            if self.start.run and self.start.is_best_of_run:
                results.complete(self.start.run, splits)
            elif self.start.run:
                print("figures     left as they are: they are of the run's best checkpoint, with its settings")
        return splits


def evaluate(
    trainer: pl.Trainer,
    model: FashionClassifier,
    data: FashionMNISTDataModule,
    logits: EvaluationLogits,
    names: Sequence[str],
) -> Splits:
    """Loss, accuracy and number of images of splits, and the size of those of which some images were left out.

    With the calibration that `logits`, a callback of the trainer, has measured.

    Raises RuntimeError if an image was left out or repeated for no reason.
    """
    if trainer.limit_test_batches == 0:
        return {}
    data.tested = names
    trainer.test(model, datamodule=data, verbose=False)
    splits: Splits = {}
    is_limited = isinstance(trainer.limit_test_batches, int) or trainer.limit_test_batches < 1
    for name in (name for name in names if name in data.splits):
        values = {metric: float(trainer.callback_metrics[f"{name}/{metric}"]) for metric in ("loss", "accuracy")}
        images = int(trainer.callback_metrics[f"{name}/images"])
        size = len(data.splits[name])
        if images != size and not is_limited:
            raise RuntimeError(f"expected to evaluate {size} images of {name}, got {images}")
        whole = {} if images == size else {"split_images": size}
        splits[name] = {**values, "images": images, **whole, **logits.calibration.get(name, {})}
    return splits

"""Training, then the evaluation of the best checkpoint on every split. Knows no command line."""

from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl

from fashion_lightning.classifier import FashionClassifier
from fashion_lightning.data.module import FashionMNISTDataModule
from fashion_lightning.errors import WorkError
from fashion_lightning.jobs.start import Start
from fashion_lightning.jobs.test import evaluate
from fashion_lightning.reports import results
from fashion_lightning.storage.checkpoints import read
from fashion_lightning.training.checkpointing import Checkpointing
from fashion_lightning.training.record import RunRecord


@dataclass(frozen=True)
class Fit:
    trainer: pl.Trainer
    model: FashionClassifier
    data: FashionMNISTDataModule
    record: RunRecord
    checkpointing: Checkpointing
    start: Start
    resume: bool  # whether the newest run was asked for, which there need not be

    def run(self) -> dict[str, Any]:
        """What is written to `results.json`. Raises WorkError at the end if a checkpoint could not be written."""
        trainer, model, checkpoint = self.trainer, self.model, self.start.checkpoint
        self.start.load_into(model)  # only to find an error before the run folder is touched
        if trainer.is_global_zero:
            self._print_start()
        path = checkpoint.path if checkpoint else None
        trainer.fit(model, datamodule=self.data, ckpt_path=path, weights_only=True)
        summary = self.record.results(trainer, model)
        best = self.checkpointing.best
        if best:  # or else none is written: evaluate the weights as they are
            read(best).load_into(model)
        splits = evaluate(trainer, model, self.data)
        summary = {**splits, **summary, "checkpoint": str(best) if best else None}
        if trainer.is_global_zero:
            if self.record.run:
                results.write(summary, self.record.run)
            results.print_card(summary, self.record.run)
        for problem in self.checkpointing.io.problems.values():
            raise WorkError(problem)
        return summary

    def _print_start(self) -> None:
        if self.start.checkpoint:
            print(f"resume      after step {self.start.checkpoint.content['global_step']:,}")
            self.start.print()
        elif self.start.run:
            print(f"resume      {self.start.run.folder} from the beginning: it has no checkpoint yet")
        elif self.resume:
            print("resume      nothing: there is no run yet, so this is a new one")

"""Training, then the evaluation of the best checkpoint on every split. Knows no command line."""

import warnings
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch

from fashion_lightning.classifier import FashionClassifier
from fashion_lightning.data.module import FashionMNISTDataModule
from fashion_lightning.errors import WorkError
from fashion_lightning.jobs.start import Start
from fashion_lightning.jobs.test import evaluate
from fashion_lightning.reports import results
from fashion_lightning.reports.logits import EvaluationLogits
from fashion_lightning.storage.checkpoints import Checkpoint, read
from fashion_lightning.training.checkpointing import Checkpointing
from fashion_lightning.training.ownership import Ownership
from fashion_lightning.training.record import RunRecord
from fashion_lightning.training.resuming import numerics


@dataclass(frozen=True)
class Fit:
    trainer: pl.Trainer
    model: FashionClassifier
    data: FashionMNISTDataModule
    logits: EvaluationLogits
    record: RunRecord
    checkpointing: Checkpointing
    start: Start
    owner: Ownership
    resume: bool  # whether the newest run was asked for, which there need not be
    evaluate_test: bool

    def run(self) -> dict[str, Any]:
        """What is written to `results.json`. Raises WorkError at the end if a checkpoint could not be written."""
        self.start.load_into(self.model)  # only to find an error before the run folder is touched
        if finished := self._results_of_finished():
            return finished
        with self.owner.during(self.trainer, self.model, self.start.first_step):
            if self.start.checkpoint:
                self.start.checkpoint.check_unchanged()  # by a fit that has ended only now
            return self._train_and_evaluate()

    def _train_and_evaluate(self) -> dict[str, Any]:
        trainer, model, checkpoint = self.trainer, self.model, self.start.checkpoint
        if trainer.is_global_zero:
            self._print_start()
        path = checkpoint.path if checkpoint else None
        trainer.fit(model, datamodule=self.data, ckpt_path=path, weights_only=True)
        summary = self.record.results(trainer, model)
        best = read(self.checkpointing.best) if self.checkpointing.best else None
        if best:  # or else none is written: evaluate the weights as they are
            best.load_into(model)
        names = ("train", "val", *(["test"] if self.evaluate_test else []))
        splits = evaluate(trainer, model, self.data, self.logits, names)
        if best and "val" in splits:
            self._check(best, splits["val"])
        summary = {**splits, **summary, "checkpoint": str(best.path) if best else None}
        if trainer.is_global_zero:
            if self.record.run:
                results.write(summary, self.record.run)
            results.print_card(summary, self.record.run)
        for problem in self.checkpointing.io.problems.values():
            raise WorkError(problem)
        return summary

    def _results_of_finished(self) -> dict[str, Any] | None:
        """Those of the run that is resumed, printed, if it has nothing left to do."""
        run, trainer = self.start.run, self.trainer
        found = results.read(run) if run else None
        if not run or not found or not self.start.is_end(found.get("steps"), trainer.max_epochs, trainer.max_steps):
            return None
        if trainer.is_global_zero:
            limit = "max_steps" if 0 <= trainer.max_steps <= self.start.first_step else "max_epochs"
            print(f"resume      nothing: {run.folder} is finished; to train it longer: --trainer.{limit} N")
            results.print_card(found, run)
        return found

    def _check(self, best: Checkpoint, val: dict[str, float]) -> None:
        """Raises WorkError if the best checkpoint has another validation accuracy than when it was chosen."""
        chosen = best.content["callbacks"][Checkpointing.state_key]
        if chosen.get("images") != val["images"]:  # not all were validated, or version 0.1.0 did not count them
            return
        correct, was = round(val["accuracy"] * val["images"]), round(chosen["best_accuracy"] * val["images"])
        if correct == was:
            return
        now, then = numerics(self.trainer), best.content["made_with"]
        is_exact = (
            torch.are_deterministic_algorithms_enabled() and not torch.is_deterministic_algorithms_warn_only_enabled()
        )
        differs = f"{best.path} classifies {correct:,} validation images correctly, {was:,} when it was chosen"
        if now == then and is_exact:
            raise WorkError(f"{differs}: its weights are not those that were validated; a callback may change them")
        warnings.warn(f"{differs}, which was with {then}, now it is {now}", stacklevel=2)

    def _print_start(self) -> None:
        if self.start.checkpoint:
            print(f"resume      after step {self.start.checkpoint.content['global_step']:,}")
            self.start.print()
        elif self.start.run:
            print(f"resume      {self.start.run.folder} from the beginning: it has no checkpoint yet")
        elif self.resume:
            print("resume      nothing: there is no run yet, so this is a new one")

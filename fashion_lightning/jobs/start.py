"""What a job starts from. Knows no command line."""

from dataclasses import dataclass

from torch import nn

from fashion_lightning.classifier import AT_TEST
from fashion_lightning.reports.results import temperature_of
from fashion_lightning.storage.checkpoints import Checkpoint
from fashion_lightning.storage.run_folders import Run

# Where and how an evaluation is done makes no difference but to last bits; that the data are the same is checked.
PLACES = tuple(f"--trainer.{name}" for name in ("accelerator", "devices", "num_nodes", "strategy"))
PLACES += ("--data.data_dir", "--data.eval_batch_size", "--model.compile")
OF_NETWORK = ("--model.network", *(f"--model.{name}" for name in AT_TEST))
OF_LOGITS = (*OF_NETWORK, "--trainer.precision")


@dataclass(frozen=True)
class Start:
    """Nothing, or a checkpoint, or a run that has no checkpoint yet."""

    checkpoint: Checkpoint | None = None
    run: Run | None = None  # the one that is resumed, or that wrote the checkpoint
    departures: tuple[str, ...] = ()  # settings that differ from those of the run

    @property
    def first_step(self) -> int:
        """Optimiser steps done before it."""
        return self.checkpoint.content["global_step"] if self.checkpoint else 0

    @property
    def is_best_of_run(self) -> bool:
        """Whether it is the best checkpoint of its run, with the settings of the run."""
        return self._is_best and all(line.startswith(PLACES) for line in self.departures)

    @property
    def temperature(self) -> float | None:
        """By which logits are divided, so that probabilities are as often right as they say, where that is known."""
        is_same = self._is_best and not any(line.startswith(OF_LOGITS) for line in self.departures)
        return temperature_of(self.run) if self.run and is_same else None

    @property
    def _is_best(self) -> bool:
        return bool(self.run and self.checkpoint and self.checkpoint.path == self.run.best)

    def is_end(self, steps: int | None, max_epochs: int | None, max_steps: int) -> bool:
        """Whether the checkpoint is of a training that ended after `steps`, and has nothing to do by these limits."""
        if not self.checkpoint or self.first_step != steps:
            return False
        epochs = self.checkpoint.content["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]
        is_over = 0 < (max_epochs or 0) <= epochs or 0 <= max_steps <= steps
        return is_over or not any(line.startswith("--trainer.max_") for line in self.departures)  # it was ended early

    def load_into(self, model: nn.Module) -> None:
        """The weights of the checkpoint, if there is one. Raises CheckpointError if they are not of this model."""
        if self.checkpoint:
            self.checkpoint.load_into(model)

    def print(self) -> None:
        if self.checkpoint:
            print(f"checkpoint  {self.checkpoint.path}")
        if self.checkpoint and self.run:
            print(f"settings    {self.run.config}")  # which names classes that are imported, whoever made it
        for departure in self.departures:
            print(f"differs     {departure}")

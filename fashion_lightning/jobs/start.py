"""What a job starts from. Knows no command line."""

from dataclasses import dataclass

import pytorch_lightning as pl

from fashion_lightning.errors import UserError
from fashion_lightning.storage.checkpoints import Checkpoint
from fashion_lightning.storage.run_folders import Run


@dataclass(frozen=True)
class Start:
    """Nothing, or a checkpoint, or a run that has no checkpoint yet."""

    checkpoint: Checkpoint | None = None
    run: Run | None = None  # the one that is resumed, or that wrote the checkpoint
    departures: tuple[str, ...] = ()  # settings that differ from those of the run

    def print(self) -> None:
        if self.checkpoint:
            print(f"checkpoint  {self.checkpoint.path}")
        for departure in self.departures:
            print(f"differs     {departure}")


def load_weights(model: pl.LightningModule, checkpoint: Checkpoint | None) -> None:
    """Of the checkpoint, if there is one. Raises UserError if it is not of this model."""
    if not checkpoint:
        return
    try:
        model.load_state_dict(checkpoint.content["state_dict"])
    except (RuntimeError, LookupError, TypeError, ValueError, AttributeError) as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        remedy = "name another with --ckpt_path, or its model with --model.network"
        raise UserError(f"{checkpoint.path} is not a checkpoint of this model ({reason}); {remedy}") from error

"""What a job starts from. Knows no command line."""

from dataclasses import dataclass

from torch import nn

from fashion_lightning.storage.checkpoints import Checkpoint
from fashion_lightning.storage.run_folders import Run


@dataclass(frozen=True)
class Start:
    """Nothing, or a checkpoint, or a run that has no checkpoint yet."""

    checkpoint: Checkpoint | None = None
    run: Run | None = None  # the one that is resumed, or that wrote the checkpoint
    departures: tuple[str, ...] = ()  # settings that differ from those of the run

    def load_into(self, model: nn.Module) -> None:
        """The weights of the checkpoint, if there is one. Raises CheckpointError if they are not of this model."""
        if self.checkpoint:
            self.checkpoint.load_into(model)

    def print(self) -> None:
        if self.checkpoint:
            print(f"checkpoint  {self.checkpoint.path}")
        for departure in self.departures:
            print(f"differs     {departure}")

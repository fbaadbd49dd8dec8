"""What a run says and writes down while it trains: its heading, a line and a table row an epoch."""

import csv
import io
import warnings
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import RichProgressBar, Timer
from pytorch_lightning.loggers import CSVLogger

from fashion_lightning.atomic import replacing

DEFAULT_CONFIG = "default"
COLUMNS = ("epoch", "step", "train/loss", "train/accuracy", "val/loss", "val/accuracy", "lr")


def describe_device(trainer: pl.Trainer) -> str:
    device = trainer.strategy.root_device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    processes = f", {trainer.world_size} processes" if trainer.world_size > 1 else ""
    return f"{device.type} ({name}{processes})"


class ProgressBar(RichProgressBar):
    """Lightning's, counting epochs from 1 as the printed lines do, with short names and no version number."""

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, str]:
        metrics = super().get_metrics(trainer, pl_module)
        shown = (("loss", "train/loss_step", ".3f"), ("lr", "lr", ".1e"), ("val", "val/accuracy", ".2%"))
        return {name: format(metrics[key], style) for name, key, style in shown if key in metrics}

    def _get_train_description(self, current_epoch: int) -> str:
        return f"epoch {current_epoch + 1}".ljust(len(self.validation_description))


class RunRecord(Timer):
    """Prints what is trained where, then a line an epoch, and keeps the epochs in `metrics.csv`.

    A row holds the epochs and optimiser steps done, the means over the epoch, and the learning rate after it.
    Times and rows are part of a checkpoint, so a resumed run goes on with them.

    Attributes:
        folder: The run's; None before it began, and where Lightning keeps none (`fast_dev_run`).
        rows: One dict of `COLUMNS` an epoch; a value is None where nothing was measured.
        images: Training images seen.
        config: Name of the settings.
    """

    def __init__(self, duration: str | timedelta | dict[str, int] | None = None, config: str = DEFAULT_CONFIG) -> None:
        super().__init__(duration)
        self.config = config
        self.rows: list[dict[str, Any]] = []
        self.images = 0
        self.folder: Path | None = None
        self._validation: dict[str, float] = {}

    def state_dict(self) -> dict[str, Any]:
        own = {"rows": self.rows, "images": self.images, "validation": self._validation, "config": self.config}
        return {**super().state_dict(), **own}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.rows, self.images = list(state_dict["rows"]), state_dict["images"]
        self._validation = dict(state_dict["validation"])
        if self.config == DEFAULT_CONFIG:  # as the settings of a run that goes on need not be named again
            self.config = state_dict["config"]

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_fit_start(trainer)
        log_dir = trainer.log_dir  # asks all processes, so not below, where only one is
        self.folder = Path(log_dir) if log_dir else None
        parameters = sum(p.numel() for p in pl_module.parameters())
        sizes = ", ".join(f"{len(indices):,} {split}" for split, (_, indices) in trainer.datamodule.splits.items())
        pl_module.print(f"device   {describe_device(trainer)}")
        pl_module.print(f"data     {sizes} images")
        pl_module.print(f"network  {type(pl_module.network).__name__}, {parameters:,} parameters")
        pl_module.print(f"run      {self.folder}")
        pl_module.print(
            f"\n{'':14}{'train loss':>10}{'accuracy':>10}{'val loss':>12}{'accuracy':>10}{'lr':>11}{'seconds':>9}"
        )

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        super().on_train_batch_end(trainer, *args)
        if trainer.global_step == trainer.max_steps:
            trainer.should_stop = True  # or else a run that ends within an epoch would end unvalidated

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_validation_end(trainer, pl_module)
        if not trainer.sanity_checking:
            self._validation = {name: float(trainer.callback_metrics[name]) for name in ("val/loss", "val/accuracy")}

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_epoch_end(trainer, pl_module)
        training = {f"train/{name}": float(value) for name, value in pl_module.train_metrics.compute().items()}
        self.images += int(training["train/images"])
        lr = trainer.optimizers[0].param_groups[0]["lr"]
        values = {"epoch": trainer.current_epoch + 1, "step": trainer.global_step, "lr": lr}
        row = {column: {**values, **training, **self._validation}.get(column) for column in COLUMNS}
        self._validation = {}
        # An epoch that ended early, and goes on with more steps, is one.
        self.rows = [*(done for done in self.rows if done["epoch"] < row["epoch"]), row]
        self._print(row, trainer, pl_module)
        # A CSVLogger chosen by the user writes its own table under this name.
        if self.folder and trainer.is_global_zero and not any(type(log) is CSVLogger for log in trainer.loggers):
            self._write(self.folder)

    def _print(self, row: dict[str, Any], trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        epoch = f"epoch {row['epoch']}" + (f"/{trainer.max_epochs}" if trainer.max_epochs > 0 else "")
        validation = f"{'none':>12}{'none':>10}"
        if row["val/loss"] is not None:
            validation = f"{row['val/loss']:12.4f}{row['val/accuracy']:10.2%}"
        training = f"{row['train/loss']:10.4f}{row['train/accuracy']:10.2%}"
        pl_module.print(f"{epoch:14}{training}{validation}{row['lr']:11.2e}{self.time_elapsed():9.0f}")

    def _write(self, folder: Path) -> None:
        text = io.StringIO(newline="")
        table = csv.DictWriter(text, COLUMNS)
        table.writeheader()
        table.writerows(self.rows)
        try:
            with replacing(folder / "metrics.csv") as stream:
                stream.write(text.getvalue().encode())
        except OSError as error:  # the rows are in the checkpoints too
            warnings.warn(f"cannot write {folder / 'metrics.csv'}: {error.strerror}", stacklevel=2)

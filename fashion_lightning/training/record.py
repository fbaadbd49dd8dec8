"""What a run prints and writes while it trains: its settings, its heading, and a row for each epoch."""

import csv
import io
import time
import warnings
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import RichProgressBar, Timer
from pytorch_lightning.loggers import CSVLogger
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Column

from fashion_lightning.data.module import data_of
from fashion_lightning.storage.provenance import describe_device, environment
from fashion_lightning.storage.run_folders import Run
from fashion_lightning.storage.whole_files import replacing
from fashion_lightning.training.metrics import metrics_of

CHANGED = "# changed "  # begins lines of `config.yaml` on settings that a resume changed
COLUMNS = ("epoch", "step", "train/loss", "train/accuracy", "val/loss", "val/accuracy", "lr")
NARROW = 76  # characters of a line, which the progress bar with the remaining time takes


def short(loss: float) -> str:
    """At most 8 characters."""
    return f"{loss:.4f}" if loss < 1000 else f"{loss:.2e}"


class ProgressBar(RichProgressBar):
    """Lightning's in one line, erased at the end, with epochs counted from 1 as in the printed table."""

    validation_description, test_description, predict_description = "validate", "test", "predict"

    def _init_progress(self, trainer: Trainer) -> None:
        super()._init_progress(trainer)
        if self.progress:
            self.progress.live.transient = True
            for column in self.progress.columns:
                if isinstance(column, ProgressColumn):
                    column._table_column = Column(no_wrap=True)

    def configure_columns(self, trainer: Trainer) -> list[ProgressColumn]:
        """The shorter ones on a narrow terminal. The line stays short of the edge, or Ctrl-C's `^C` would wrap."""
        is_narrow = self._console is not None and self._console.width < NARROW
        columns = [TextColumn("{task.description}"), BarColumn(4 if is_narrow else 16), MofNCompleteColumn()]
        return columns if is_narrow else [*columns, TimeRemainingColumn(compact=True)]

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_validation_start(trainer, pl_module)
        if self.progress and self.train_progress_bar_id is not None:
            # Until the next step. With two lines, a print beside the refreshing thread may move up one too many.
            self.progress.update(self.train_progress_bar_id, visible=False)

    def get_metrics(self, *args: Any) -> dict[str, int | str | float | dict[str, float]]:
        metrics = super().get_metrics(*args)
        shown = (("loss", "train/loss_step", ".3f"), ("lr", "lr", ".1e"), ("val", "val/accuracy", ".2%"))
        return {name: format(metrics[key], style) for name, key, style in shown if key in metrics}

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # Lightning reads the metrics after every batch, and would wait for an accelerator each time.
        if (batch_idx + 1) % self.refresh_rate == 0 or trainer.is_last_batch:
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def _get_train_description(self, current_epoch: int) -> str:
        return f"epoch {current_epoch + 1}".ljust(len(self.validation_description))


class RunRecord(Timer):
    """Renews `config.yaml`, prints what is trained and a line for each epoch, and writes `metrics.csv`.

    A row holds the epochs and optimiser steps done, the means over the epoch, and the learning rate after it. Time
    and rows are part of a checkpoint, so that they continue in a resumed run. It stops training like Lightning's Timer.

    Args:
        config: Content of `config.yaml`, YAML.
        recipe: Its name, empty for the defaults.
        departures: Settings that a resume changes.
        duration: Training stops after it.
    """

    def __init__(
        self, config: str, recipe: str, departures: tuple[str, ...], duration: str | timedelta | dict[str, int] | None
    ) -> None:
        super().__init__(duration)
        self.config, self.recipe, self._departures = config, recipe, departures
        self._settings = yaml.safe_load(config)  # plain values, by which a checkpoint outside its run is evaluated
        self.run: Run | None = None  # and stays None where Lightning keeps no run folder (`fast_dev_run`)
        self.rows: list[dict[str, Any]] = []  # of COLUMNS; a value is None where nothing was measured
        self._images = 0  # trained on, in all epochs
        self._validation: dict[str, float] = {}

    def state_dict(self) -> dict[str, Any]:
        own = {"rows": self.rows, "images": self._images, "validation": self._validation, "config": self.recipe}
        return {**super().state_dict(), **own, "settings": self._settings}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.rows, self._images = list(state_dict["rows"]), state_dict["images"]
        self._validation = dict(state_dict["validation"])
        self.recipe = self.recipe or state_dict["config"]  # the files of a run need not be named again to resume it

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit":
            log_dir = trainer.log_dir if trainer.loggers else None  # a collective call, so not only on rank 0
            self.run = Run(Path(log_dir)) if log_dir else None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_fit_start(trainer)
        parameters = sum(p.numel() for p in pl_module.parameters())
        sizes = ", ".join(f"{len(split):,} {name}" for name, split in data_of(trainer).splits.items())
        network = f"{type(pl_module.network).__name__}, {parameters:,} parameters"
        pl_module.print(f"device   {describe_device(trainer)}\ndata     {sizes} images\nnetwork  {network}")
        pl_module.print(f"run      {self.run.folder if self.run else 'none'}")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Only now are the settings of a resumed run known to be accepted, and its results no longer those of its end.
        if self.run and self.run.results.exists() and trainer.is_global_zero:
            self.run.results.replace(self.run.previous_results)
        self._write_config(trainer)
        super().on_train_start(trainer, pl_module)
        self._start, self._has_heading = time.monotonic(), False
        if not pl_module.compiles:
            self._print_heading(pl_module)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        if not self._has_heading:
            pl_module.print(f"compile  {time.monotonic() - self._start:.1f} s, until the first step was done")
            self._print_heading(pl_module)
        if trainer.global_step == trainer.max_steps:
            trainer.should_stop = True  # without it, a run that ends within an epoch ends without validation
        is_ending = trainer.should_stop or trainer.current_epoch + 1 == trainer.max_epochs
        if is_ending and trainer.check_val_every_n_epoch:
            trainer.check_val_every_n_epoch = 1  # what a run ends with is validated, whatever epoch it is

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_validation_end(trainer, pl_module)
        if not trainer.sanity_checking:
            self._validation = {name: float(trainer.callback_metrics[name]) for name in ("val/loss", "val/accuracy")}

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_epoch_end(trainer)
        training = {f"train/{name}": float(value) for name, value in metrics_of(pl_module, "train").compute().items()}
        self._images += int(training["train/images"])
        lr = trainer.optimizers[0].param_groups[0]["lr"]
        values = {"epoch": trainer.current_epoch + 1, "step": trainer.global_step, "lr": lr}
        row = {column: {**values, **training, **self._validation}.get(column) for column in COLUMNS}
        self._validation = {}
        # An epoch that ended early and continues after a resume has one row.
        self.rows = [*(done for done in self.rows if done["epoch"] < row["epoch"]), row]
        self._print(row, trainer, pl_module)
        # A CSVLogger chosen by the user writes its own table under this name.
        if self.run and trainer.is_global_zero and not any(type(log) is CSVLogger for log in trainer.loggers):
            self._write_metrics(self.run)

    def results(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """What `results.json` says of training."""
        seconds = self.time_elapsed()
        rate = round(self._images / seconds, 1) if seconds else 0.0
        parameters = sum(p.numel() for p in pl_module.parameters())
        counts = {"epochs": len(self.rows), "steps": trainer.global_step, "parameters": parameters}
        settings = {"seed": data_of(trainer).seed, **environment(trainer), "config": self.recipe or "default"}
        settings |= {"changes": changes(self.run) if self.run else []}
        return {"fit_seconds": round(seconds, 3), "images_per_second": rate, **counts, **settings}

    def _print_heading(self, pl_module: LightningModule) -> None:
        """60 characters, as are the rows."""
        pl_module.print(f"\n{'train loss':>19}{'accuracy':>9}{'val loss':>9}{'accuracy':>9}{'lr':>9}{'s':>5}")
        self._has_heading = True

    def _print(self, row: dict[str, Any], trainer: Trainer, pl_module: LightningModule) -> None:
        epoch = f"epoch {row['epoch']}" + (f"/{trainer.max_epochs}" if (trainer.max_epochs or 0) > 0 else "")
        training = f" {short(row['train/loss']):>{18 - len(epoch)}}{row['train/accuracy']:9.2%}"
        validation = f"{'-':>9}{'-':>9}"
        if row["val/loss"] is not None:
            validation = f"{short(row['val/loss']):>9}{row['val/accuracy']:9.2%}"
        pl_module.print(f"{epoch}{training}{validation}{row['lr']:9.2e} {self.time_elapsed():4.0f}")

    def _write_config(self, trainer: Trainer) -> None:
        """Atomically, unlike Lightning's callback: half a file would parse as other settings."""
        if self.run and trainer.is_global_zero:
            lines = [*changes(self.run), *(f"after step {trainer.global_step:,}: {line}" for line in self._departures)]
            text = "".join(f"{CHANGED}{line}\n" for line in lines) + self.config
            with replacing(self.run.config) as stream:
                stream.write(text.encode())

    def _write_metrics(self, run: Run) -> None:
        text = io.StringIO(newline="")
        table = csv.DictWriter(text, COLUMNS)
        table.writeheader()
        table.writerows(self.rows)
        try:
            with replacing(run.metrics) as stream:
                stream.write(text.getvalue().encode())
        except OSError as error:  # the rows are in the checkpoints too
            warnings.warn(f"cannot write {run.metrics}: {error.strerror}", stacklevel=2)


def changes(run: Run) -> list[str]:
    """Settings that changed while the run was trained: those in `config.yaml` are the last ones."""
    lines = run.config.read_text().splitlines() if run.config.is_file() else []
    return [line.removeprefix(CHANGED) for line in lines if line.startswith(CHANGED)]

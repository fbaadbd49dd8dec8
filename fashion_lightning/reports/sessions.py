"""A study in TensorBoard: a row of HPARAMS for each variant, the mean over its seeds, and the curves of its cells."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tensorboard.plugins.hparams import summary_v2
from torch.utils.tensorboard import SummaryWriter

from fashion_lightning.reports.tensorboard import training_settings
from fashion_lightning.storage.cells import Cell
from fashion_lightning.storage.run_folders import Run

# Fields of a cell to tags, which come after those of the curves, so that SCALARS opens on the curves.
METRICS = {name: f"trained/{name}" for name in ("val_accuracy", "val_loss", "fit_seconds")}


def write_sessions(folder: Path, cells: Sequence[Cell], study: Path) -> None:
    """Writes `folder/VARIANT/seed_S` for each finished cell, whose run lies in the folder of the study.

    TensorBoard takes sessions with the same name of a group as one row. Its columns are what differs between variants.
    """
    finished = [cell for cell in cells if cell.status == "finished"]
    found = [(cell, run) for cell in finished if (run := Run(study / cell.folder)).is_ours]
    settings = {cell.variant: training_settings(run.config.read_text()) for cell, run in found}
    columns = _columns(settings)
    config = summary_v2.hparams_config_pb(
        [summary_v2.HParam(name, summary_v2.Discrete(set(values.values()))) for name, values in columns.items()],
        [summary_v2.Metric(tag, display_name=name) for name, tag in METRICS.items()],
    )
    for cell, run in found:
        place = folder / cell.variant / f"seed_{cell.seed}"
        for old in place.glob("events.out.tfevents.*"):
            old.unlink()
        with SummaryWriter(str(place)) as writer:
            row = {name: values[cell.variant] for name, values in columns.items() if cell.variant in values}
            for summary in (config, summary_v2.hparams_pb(row, trial_id=cell.variant)):
                writer.file_writer.add_summary(summary)
            for name, tag in METRICS.items():
                writer.add_scalar(tag, getattr(cell, name))
            _add_curves(writer, run)


def _add_curves(writer: SummaryWriter, run: Run) -> None:
    """With the tags of the columns of `metrics.csv`, if there is one."""
    rows = csv.DictReader(run.metrics.read_text().splitlines()) if run.metrics.is_file() else ()
    for row in rows:
        for tag, value in row.items():
            if value and tag not in ("epoch", "step"):
                writer.add_scalar(tag, float(value), int(row["step"]))


def _columns(settings: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Name of a setting to its value by variant: of `variant` itself, and of settings that have several values."""
    columns: dict[str, dict[str, Any]] = {"variant": {variant: variant for variant in settings}}
    for name in dict.fromkeys(name for own in settings.values() for name in own):
        values = {variant: own[name] for variant, own in settings.items() if name in own}
        if len(set(values.values())) > 1:
            columns[name] = dict(zip(values, _of_one_type(values.values()), strict=True))
    return columns


def _of_one_type(values: Iterable[Any]) -> list[Any]:
    """As TensorBoard wants those of a column."""
    types = {type(value) for value in values}
    kind = float if types == {int, float} else str if len(types) > 1 else next(iter(types))
    return [kind(value) for value in values]

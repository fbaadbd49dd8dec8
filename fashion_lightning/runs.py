"""`python -m fashion_lightning.runs`: a table of the runs in `lightning_logs`, newest first."""

import csv
import json
import sys
from argparse import ArgumentError
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from jsonargparse import ArgumentParser
from rich.console import Console
from rich.table import Table

from fashion_lightning import usage
from fashion_lightning.checkpoints import LOGS, runs
from fashion_lightning.errors import UserError, explain, reported


def summarize(run: Path) -> dict[str, Any]:
    """What a run's files say of it; an unfinished or damaged run has a `status` that says so, and gaps."""
    row = {"run": run.name, "when": run.stat().st_mtime, "status": "finished"}
    checkpoint = run / "checkpoints" / "best.ckpt"
    row["checkpoint"] = f"run:{run.name[8:]}" if checkpoint.is_file() else None
    try:
        row["when"] = (run / "config.yaml").stat().st_mtime
        results = json.loads((run / "results.json").read_text())
        row |= {key: results[key] for key in ("config", "epochs", "device", "fit_seconds")}
        row |= {f"{split}_accuracy": results[split]["accuracy"] for split in ("val", "test") if split in results}
    except FileNotFoundError:
        row["status"] = "unfinished"
    except (OSError, ValueError, KeyError, TypeError):
        row["status"] = "damaged"
    if row["status"] != "finished":
        row |= _progress(run / "metrics.csv")
    return row


def _progress(table: Path) -> dict[str, Any]:
    """Epochs done and the best validation accuracy so far, as far as the table can be read."""
    try:
        rows = list(csv.DictReader(table.read_text().splitlines()))
        accuracies = [float(row["val/accuracy"]) for row in rows if row["val/accuracy"]]
        return {"epochs": len(rows), "val_accuracy": max(accuracies, default=None)}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def main(args: list[str] | None = None) -> list[dict[str, Any]]:
    """Returns the rows of the table."""
    usage.answer("runs", args)
    parser = ArgumentParser(allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--sort", type=Literal["when", "val_accuracy", "test_accuracy", "fit_seconds"], default="when")
    parser.add_argument("--trainer.default_root_dir", type=str, default=".")
    with reported():
        try:
            options = parser.parse_args(args)
        except ArgumentError as error:
            raise UserError(explain(str(error), parser.get_defaults().keys())) from error
    root = Path(options.trainer.default_root_dir)
    rows = [summarize(run) for run in runs(root)]
    missing, sign = (float("inf"), 1) if options.sort == "fit_seconds" else (-1.0, -1)
    rows.sort(key=lambda row: sign * (missing if row.get(options.sort) is None else row[options.sort]))

    columns = ("run", "when", "config", "epochs", "device", "time", "val", "test", "checkpoint")
    table = Table(*columns, box=None, padding=(0, 1, 0, 0))
    for row in rows:
        seconds, accuracies = row.get("fit_seconds"), (row.get("val_accuracy"), row.get("test_accuracy"))
        table.add_row(
            row["run"].removeprefix("version_"),
            datetime.fromtimestamp(row["when"]).strftime("%Y-%m-%d %H:%M"),
            row.get("config", row["status"]),
            str(row.get("epochs", "")),
            row.get("device", ""),
            "" if seconds is None else f"{seconds:.0f} s",
            *("" if accuracy is None else f"{accuracy:.2%}" for accuracy in accuracies),
            row["checkpoint"] or "none",
        )
    for column in table.columns:
        column.no_wrap = column.header != "device"  # which folds on a narrow terminal
    if rows:
        Console(width=None if sys.stdout.isatty() else 10_000, markup=False, highlight=False).print(table)
    else:
        print(f"no runs in {root / LOGS} yet; to make one: python -m fashion_lightning.fit")
    return rows


if __name__ == "__main__":
    main()

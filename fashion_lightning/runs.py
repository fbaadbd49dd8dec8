"""`python -m fashion_lightning.runs`: a table of the runs in `lightning_logs`, newest first."""

import argparse
import csv
import json
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from fashion_lightning.checkpoints import LOGS, runs

SORTS = ("when", "val_accuracy", "test_accuracy", "fit_seconds")


def summarize(run: Path) -> dict[str, Any]:
    """What a run's files say of it; an unfinished or damaged run has a `status` that says so, and gaps."""
    row = {"run": run.name, "when": run.stat().st_mtime, "status": "finished"}
    checkpoint = run / "checkpoints" / "best.ckpt"
    row["checkpoint"] = f"run:{run.name[8:]}" if checkpoint.is_file() else None
    try:
        row["when"] = (run / "config.yaml").stat().st_mtime
        results = json.loads((run / "results.json").read_text())
        row |= {key: results[key] for key in ("config", "epochs", "device", "fit_seconds")}
        row |= {f"{split}_accuracy": results[split]["accuracy"] for split in ("val", "test")}
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
    parser = argparse.ArgumentParser(prog="python -m fashion_lightning.runs", description=__doc__, allow_abbrev=False)
    parser.add_argument("--sort", choices=SORTS, default="when", help="the best, newest or fastest first")
    parser.add_argument("--root", type=Path, default=Path(), help=f"the folder that holds {LOGS}")
    options = parser.parse_args(args)
    rows = [summarize(run) for run in runs(options.root)]
    missing, sign = (float("inf"), 1) if options.sort == "fit_seconds" else (-1.0, -1)
    rows.sort(key=lambda row: sign * (missing if row.get(options.sort) is None else row[options.sort]))

    table = Table("run", "when", "config", "epochs", "device", "time", "val", "test", "checkpoint", box=None)
    for row in rows:
        seconds, accuracies = row.get("fit_seconds"), (row.get("val_accuracy"), row.get("test_accuracy"))
        table.add_row(
            row["run"],
            datetime.fromtimestamp(row["when"]).strftime("%Y-%m-%d %H:%M"),
            row.get("config", row["status"]),
            str(row.get("epochs", "")),
            row.get("device", ""),
            "" if seconds is None else f"{seconds:.0f} s",
            *("" if accuracy is None else f"{accuracy:.2%}" for accuracy in accuracies),
            row["checkpoint"] or "none",
        )
    for column in table.columns:
        column.no_wrap = True
    if rows:
        Console(width=None if sys.stdout.isatty() else 10_000, markup=False, highlight=False).print(table)
    else:
        print(f"no runs in {options.root / LOGS} yet; to make one: python -m fashion_lightning.fit")
    return rows


if __name__ == "__main__":
    main()

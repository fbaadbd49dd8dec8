"""What a run came to: `results.json`, the card printed at the end, and a row in the table of runs."""

import csv
import json
from pathlib import Path
from typing import Any

from fashion_lightning.reports.tables import print_splits
from fashion_lightning.storage.run_folders import LOGS, Run
from fashion_lightning.storage.whole_files import replacing


def write(results: dict[str, Any], run: Run) -> None:
    with replacing(run.results) as stream:
        stream.write(f"{json.dumps(results, indent=2)}\n".encode())


def print_card(results: dict[str, Any], run: Run | None) -> None:
    print_splits({split: results[split] for split in ("train", "val", "test") if split in results})
    speed = f"{results['images_per_second']:,.0f} images/s"
    print(f"trained in {results['fit_seconds']:.1f} s ({speed}) on {results['device']}")
    if not run:
        return
    checkpoint = results["checkpoint"]
    print(f"run         {run.folder}")
    if checkpoint:
        print(f"checkpoint  {checkpoint}")
    print(f"curves      tensorboard --logdir {run.folder.parent}")
    if checkpoint:
        name = f"run:{run.number}" if run.folder.parent == Path(LOGS) else checkpoint
        print(f"evaluate    python -m fashion_lightning.test --ckpt_path {name}")


def summarize(run: Run) -> dict[str, Any]:
    """What its files say of a run; an unfinished or damaged run has a `status` that says so, and gaps."""
    row = {"run": run.folder.name, "when": run.folder.stat().st_mtime, "status": "finished"}
    row["checkpoint"] = f"run:{run.number}" if run.best.is_file() else None
    try:
        row["when"] = run.config.stat().st_mtime
        results = json.loads(run.results.read_text())
        row |= {key: results[key] for key in ("config", "epochs", "device", "fit_seconds")}
        row |= {f"{split}_accuracy": results[split]["accuracy"] for split in ("val", "test") if split in results}
    except FileNotFoundError:
        row["status"] = "unfinished"
    except (OSError, ValueError, KeyError, TypeError):
        row["status"] = "damaged"
    return row if row["status"] == "finished" else row | _progress(run.metrics)


def _progress(metrics: Path) -> dict[str, Any]:
    """Epochs done and the best validation accuracy so far, as far as they can be read."""
    try:
        rows = list(csv.DictReader(metrics.read_text().splitlines()))
        accuracies = [float(row["val/accuracy"]) for row in rows if row["val/accuracy"]]
        return {"epochs": len(rows), "val_accuracy": max(accuracies, default=None)}
    except (OSError, ValueError, KeyError, TypeError):
        return {}

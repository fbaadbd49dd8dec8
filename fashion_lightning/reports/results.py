"""What a run came to: `results.json`, and tables on the screen. Imports no torch, so that `runs` prints at once."""

import csv
import json
import math
import shlex
import warnings
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.cells import cell_len
from rich.table import Table

from fashion_lightning.data.labels import CLASSES
from fashion_lightning.reports import screen
from fashion_lightning.storage.locking import is_locked
from fashion_lightning.storage.run_folders import PREFIX, Run, runs
from fashion_lightning.storage.whole_files import replacing

Splits = dict[str, dict[str, float]]  # split to loss, accuracy, number of images, and calibration

CLASS_WIDTH = max(map(len, CLASSES))
FILE_WIDTH = 36  # characters of a file's name, at least, beside its classes; longer names are folded


def write(results: dict[str, Any], run: Run) -> None:
    with replacing(run.results) as stream:
        stream.write(f"{json.dumps(results, indent=2)}\n".encode())


def read(run: Run) -> dict[str, Any] | None:
    """Results of a finished run; of others, or if they cannot be read, None."""
    try:
        results = json.loads(run.results.read_text())
    except (OSError, ValueError):
        return None
    return results if isinstance(results, dict) else None


def complete(run: Run, splits: Splits) -> None:
    """Adds what the results of a run lack: the test set, if it was left alone, or calibration, if an older version."""
    results = read(run)
    if not results:
        return
    completed = {**results, **{name: {**values, **results.get(name, {})} for name, values in splits.items()}}
    if completed != results:
        try:
            write({**dict.fromkeys(splits), **completed}, run)
        except OSError as error:
            warnings.warn(f"cannot write {run.results}: {error.strerror}", stacklevel=2)


def temperature_of(run: Run) -> float | None:
    """That of the best checkpoint, if the run is finished and had a whole validation split."""
    try:
        return float((read(run) or {})["val"]["temperature"])
    except (KeyError, TypeError, ValueError):
        return None


def print_card(results: dict[str, Any], run: Run | None) -> None:
    splits: Splits = {split: results[split] for split in ("train", "val", "test") if split in results}
    if splits:
        print_splits(splits)
    speed = f"{results['images_per_second']:,.0f} images/s"
    print(f"trained in {results['fit_seconds']:.1f} s ({speed}) on {results['device']}")
    if not run:
        return
    checkpoint = results["checkpoint"]
    print(f"run         {run.folder}")
    if checkpoint:
        print(f"checkpoint  {checkpoint}")
    if any(run.folder.glob("events.out.tfevents.*")):
        print(f"curves      tensorboard --logdir {shlex.quote(str(run.folder.parent))}")
    if checkpoint:
        is_here = run.folder in [other.folder for other in runs(Path())]
        name = f"run:{run.number}" if is_here else shlex.quote(checkpoint)
        print(f"evaluate    python -m fashion_lightning.test --ckpt_path {name}")


def summarize(run: Run) -> dict[str, Any]:
    """What its files say of a run; an unfinished, damaged or unreadable one has a `status` that says so, and gaps."""
    row = {"run": run.folder.name, "when": run.folder.stat().st_mtime, "status": "finished", "checkpoint": None}
    try:
        row["checkpoint"] = f"run:{run.number}" if run.best.is_file() else None
        row["when"] = run.config.stat().st_mtime
        results = json.loads(run.results.read_text())
        row |= {key: results[key] for key in ("config", "epochs", "device", "fit_seconds")}
        for split in {"val", "test"} & results.keys():
            row[f"{split}_accuracy"] = results[split]["accuracy"]
            if "split_images" in results[split]:
                row[f"{split}_images"] = results[split]["images"]
    except FileNotFoundError:
        row["status"] = "running" if is_locked(run.lock) else "unfinished"
    except PermissionError:
        row["status"] = "unreadable"
    except (OSError, ValueError, KeyError, TypeError):
        row["status"] = "damaged"
    return row if row["status"] == "finished" else row | progress_of(run)


def progress_of(run: Run) -> dict[str, Any]:
    """Epochs done and the best validation accuracy so far, as far as they can be read."""
    try:
        rows = list(csv.DictReader(run.metrics.read_text().splitlines()))
        accuracies = [float(row["val/accuracy"]) for row in rows if row["val/accuracy"]]
        return {"epochs": len(rows), "val_accuracy": max(accuracies, default=None)}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def print_splits(splits: Splits) -> None:
    table = Table("", box=None, pad_edge=False)
    for name in ("loss", "accuracy", "std error", "images"):
        table.add_column(name, justify="right", no_wrap=True)
    for split, values in splits.items():
        accuracy, images = values["accuracy"], values["images"]
        error = standard_error(accuracy, images)
        table.add_row(split, f"{values['loss']:.4f}", f"{accuracy:.2%}", f"{error:.2%}", f"{images:,}")
    _print(table, margin=True)
    if calibration := _calibration(splits):
        screen.console().print(f"calibration {calibration}")


def _calibration(splits: Splits) -> str | None:
    """Of the test set, or if it was left alone of the validation split, where it was measured."""
    name = next((name for name in ("test", "val") if "calibration_error" in splits.get(name, {})), None)
    if not name:
        return None
    error = f"error {splits[name]['calibration_error']:.2%} on {name}"
    if "calibration_error_scaled" not in splits[name]:
        return f"{error}; no temperature without all validation images"
    temperature = f"with temperature {splits['val']['temperature']:.2f} fitted on val"
    return f"{error}, {splits[name]['calibration_error_scaled']:.2%} {temperature}"


def standard_error(accuracy: float, images: float) -> float:
    """Of an accuracy, a fraction, measured on this number of images: that of a binomial proportion."""
    return math.sqrt(accuracy * (1 - accuracy) / images)


def printable(name: str) -> str:
    """The name of a file, which may hold line breaks, terminal codes and bytes that are no text, in one line."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)


def print_predictions(rows: list[dict[str, Any]]) -> None:
    """A row of `file`, `top`, a list of `class` and `probability`, and `uncertain` per picture.

    The narrower the terminal, the fewer of the classes; at last they are below the name of the file.
    """
    console = screen.console()
    widest = [max(rows, key=lambda row: cell_len(printable(row["file"]))), max(rows, key=lambda r: len(r["uncertain"]))]
    longest = cell_len(printable(widest[0]["file"]))
    missing = longest - min(longest, FILE_WIDTH)  # characters of names that may be in a second line
    for classes in (3, 2, 1):
        if screen.full_width(console, _predictions_table(widest, classes)) - missing <= console.width:
            return console.print("", _predictions_table(rows, classes), "", sep="\n")
    console.print()
    for row in rows:
        best = row["top"][0]
        console.print(printable(row["file"]), f"  {best['class']} {best['probability']:.1%}", sep="\n")
        if row["uncertain"]:
            console.print(f"  uncertain: {row['uncertain']}")
    console.print()


def _predictions_table(rows: list[dict[str, Any]], classes: int) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("file", overflow="fold")
    for name in ("first", "second", "third")[:classes]:
        table.add_column(name, no_wrap=True)
    uncertain = ["uncertain"] if any(row["uncertain"] for row in rows) else []
    for name in uncertain:
        table.add_column(name, no_wrap=True)
    for row in rows:
        best = [f"{c['class']:{CLASS_WIDTH}} {c['probability']:6.1%}" for c in row["top"][:classes]]
        table.add_row(printable(row["file"]), *best, *(row[name] for name in uncertain))
    return table


def print_runs(rows: list[dict[str, Any]]) -> None:
    """Rows as `summarize` gives them; the narrower the terminal, the less of the devices and dates."""
    shown = ((99, "%Y-%m-%d %H:%M"), (1, "%Y-%m-%d %H:%M"), (0, "%m-%d %H:%M"), (0, "%m-%d"))
    tables = [_runs_table(rows, device_words, date) for device_words, date in shown]
    screen.console().print(screen.FirstThatFits(tables))


def _runs_table(rows: list[dict[str, Any]], device_words: int, date: str) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    devices = ["device"] if device_words else []
    for name in ("run", "when", "config", "epochs", *devices, "time", "val", "test", "checkpoint"):
        widths = {"config": 4, "val": 7, "test": 7}  # the least where they are folded
        table.add_column(name, no_wrap=name not in widths, min_width=widths.get(name), overflow="fold")
    for row in rows:
        device, seconds = " ".join(row.get("device", "").split()[:device_words]), row.get("fit_seconds")
        table.add_row(
            row["run"].removeprefix(PREFIX),
            datetime.fromtimestamp(row["when"]).strftime(date),
            row.get("config", row["status"]),
            str(row.get("epochs", "")),
            *([device] if device_words else []),
            "" if seconds is None else f"{seconds:.0f} s",
            *(_accuracy(row, split) for split in ("val", "test")),
            row["checkpoint"] or "none",
        )
    return table


def _accuracy(row: dict[str, Any], split: str) -> str:
    """With the number of images, if they were not all of the split."""
    accuracy, images = row.get(f"{split}_accuracy"), row.get(f"{split}_images")
    return ("" if accuracy is None else f"{accuracy:.2%}") + (f" of {images:,}" if images else "")


def print_promises(found: Mapping[str, tuple[list[str], list[str]]]) -> None:
    """Promise to the names of what was compared, and of what differs."""
    table = Table("promise", "", "", box=None, pad_edge=False, show_header=False)
    for promise, (compared, differs) in found.items():
        table.add_row(promise, "differs" if differs else "holds", ", ".join(differs or compared))
    _print(table)


def _print(table: Table, margin: bool = False) -> None:
    screen.console().print(*["", table, ""] if margin else [table], sep="\n")

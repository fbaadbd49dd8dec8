"""What a run came to: evaluation of a checkpoint on every split, `results.json`, and the card on the screen."""

import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from rich.console import Console
from rich.table import Table

from fashion_lightning.atomic import replacing
from fashion_lightning.callbacks import RunRecord, describe_device
from fashion_lightning.checkpoints import LOGS, read
from fashion_lightning.data import FashionMNISTDataModule
from fashion_lightning.errors import UserError

PACKAGES = ("torch", "torchvision", "pytorch-lightning", "torchmetrics", "jsonargparse", "numpy")

Splits = dict[str, dict[str, float]]


def evaluate(
    trainer: pl.Trainer, model: pl.LightningModule, data: FashionMNISTDataModule, checkpoint: Path | None
) -> Splits:
    """Loss, accuracy and number of images of `checkpoint`, or of the weights as they are, on every split.

    Raises:
        RuntimeError: Not every image was seen exactly once.
    """
    if checkpoint:
        load_weights(model, checkpoint)
    trainer.test(model, datamodule=data, verbose=False)
    splits = {}
    for split, (_, indices) in data.splits.items():
        values = {name: float(trainer.callback_metrics[f"{split}/{name}"]) for name in ("loss", "accuracy")}
        images = int(trainer.callback_metrics[f"{split}/images"])
        splits[split] = {**values, "images": images}
        is_limited = isinstance(trainer.limit_test_batches, int) or trainer.limit_test_batches < 1
        if images != len(indices) and not is_limited:
            raise RuntimeError(f"expected to evaluate {len(indices)} images of {split}, got {images}")
    return splits


def load_weights(model: pl.LightningModule, checkpoint: Path) -> None:
    """Raises UserError if `checkpoint` is damaged or no checkpoint of this model."""
    content = read(checkpoint)
    try:
        model.load_state_dict(content["state_dict"])
    except (RuntimeError, LookupError, TypeError, ValueError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{checkpoint} is not a checkpoint of this model ({type(error).__name__}: {reason}); "
            "name another with --ckpt_path, or the model it is of with --model.network"
        ) from error


def write(results: dict[str, Any], run: Path) -> None:
    with replacing(run / "results.json") as stream:
        stream.write(f"{json.dumps(results, indent=2)}\n".encode())


def describe_run(trainer: pl.Trainer, model: pl.LightningModule, record: RunRecord, seed: int) -> dict[str, Any]:
    """Everything in `results.json` but the splits and the checkpoint."""
    seconds = record.time_elapsed()
    return {
        "fit_seconds": round(seconds, 3),
        "images_per_second": round(record.images / seconds, 1) if seconds else 0.0,
        "epochs": len(record.rows),
        "steps": trainer.global_step,
        "parameters": sum(p.numel() for p in model.parameters()),
        "seed": seed,
        **environment(trainer),
    }


def environment(trainer: pl.Trainer) -> dict[str, Any]:
    """Where and with what a run was made: `device`, `versions` and `git_commit`."""
    return {
        "device": describe_device(trainer),
        "versions": {package: importlib.metadata.version(package) for package in PACKAGES},
        "git_commit": _git_commit(),
    }


def _git_commit() -> str | None:
    """The commit that this package was run from, with `-dirty` if the package was changed since."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("-dirty" if git("diff", "--name-only", "HEAD", "--", ".") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def print_splits(splits: Splits) -> None:
    table = Table("", "loss", "accuracy", "images", box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for split, values in splits.items():
        table.add_row(split, f"{values['loss']:.4f}", f"{values['accuracy']:.2%}", f"{values['images']:,}")
    _print_table(table)


def print_card(results: dict[str, Any], run: Path | None) -> None:
    print_splits({split: results[split] for split in ("train", "val", "test") if split in results})
    speed = f"{results['images_per_second']:,.0f} images/s"
    print(f"trained in {results['fit_seconds']:.1f} s ({speed}) on {results['device']}")
    if not run:
        return
    print(f"run         {run}")
    if results["checkpoint"]:
        print(f"checkpoint  {results['checkpoint']}")
    print(f"curves      tensorboard --logdir {run.parent}")
    if results["checkpoint"]:
        name = run.name.replace("version_", "run:") if run.parent == Path(LOGS) else results["checkpoint"]
        print(f"evaluate    python -m fashion_lightning.test --ckpt_path {name}")


def print_predictions(rows: list[dict[str, Any]]) -> None:
    table = Table("file", "first", "", "second", "", "third", "", box=None)
    for row in rows:
        table.add_row(row["file"], *(cell for c in row["top"] for cell in (c["class"], f"{c['probability']:.1%}")))
    _print_table(table)


def _print_table(table: Table) -> None:
    """Between blank lines; as wide as it is where there is no terminal."""
    table.columns[0].overflow = "fold"
    for column in table.columns[1:]:
        column.no_wrap = True
    console = Console(width=None if sys.stdout.isatty() else 10_000, markup=False, highlight=False)
    console.print()
    console.print(table)
    console.print()

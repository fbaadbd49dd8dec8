"""What the commands do once their command line is read."""

import csv
import json
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from rich.progress import track
from torch.utils.data import DataLoader

from fashion_lightning import figures, pictures, results, saving
from fashion_lightning.callbacks import describe_device
from fashion_lightning.cli import FashionCLI
from fashion_lightning.data import normalize
from fashion_lightning.errors import UserError
from fashion_lightning.files import CLASSES

TOP = 3  # classes shown for a picture
SHEET_PICTURES = 60


def fit(cli: FashionCLI) -> dict[str, Any]:
    """Trains, evaluates the best checkpoint on every split, and writes down what came out, as `results.json`."""
    trainer, model, data, record = cli.trainer, cli.model, cli.datamodule, cli.record
    if cli.checkpoint:
        results.load_weights(model, cli.checkpoint)  # says so if it cannot be used
    if trainer.is_global_zero:
        _say_where_it_goes_on(cli)
    trainer.fit(model, datamodule=data, ckpt_path=cli.checkpoint, weights_only=True)
    summary = results.describe_run(trainer, model, record, cli.config.seed_everything)
    checkpoint = cli.keeper.best  # none where nothing was kept: the weights as they are
    splits = results.evaluate(trainer, model, data, checkpoint)
    summary = {**splits, **summary, "config": record.config, "checkpoint": str(checkpoint) if checkpoint else None}
    if trainer.is_global_zero:
        if record.folder:
            results.write(summary, record.folder)
        results.print_card(summary, record.folder)
    for problem in cli.keeper.io.problems.values():
        raise saving.SaveError(problem)
    return summary


def test(cli: FashionCLI) -> dict[str, dict[str, float]]:
    """Evaluates a checkpoint on every split: split to `{"loss", "accuracy", "images"}`."""
    if cli.trainer.is_global_zero:
        print(f"device      {describe_device(cli.trainer)}")
        _say_what_is_taken(cli)
    splits = results.evaluate(cli.trainer, cli.model, cli.datamodule, cli.checkpoint)
    if cli.trainer.is_global_zero:
        results.print_splits(splits)
    return splits


def predict(cli: FashionCLI) -> list[dict[str, Any]]:
    """Rows of `file` and `top`, the likeliest classes of each picture; exit 1 if some files are no pictures."""
    paths = pictures.find(cli.config.pictures)
    for flag, suffixes in (("out", (".csv", ".json")), ("sheet", (".png",))):
        if cli.config[flag] and Path(cli.config[flag]).suffix not in suffixes:
            raise UserError(f"--{flag}: expected a name that ends in {' or '.join(suffixes)}, got {cli.config[flag]}")
        if cli.config[flag] and not Path(cli.config[flag]).parent.is_dir():
            raise UserError(f"--{flag}: expected a file in a folder that is there, got {cli.config[flag]}")
    results.load_weights(cli.model, cli.checkpoint)
    print(f"device      {describe_device(cli.trainer)}")
    _say_what_is_taken(cli)
    prepared = _prepare(paths)
    rows = []
    if prepared:
        images = torch.stack(list(prepared.values()))
        loader = DataLoader(normalize(images.unsqueeze(1)), cli.datamodule.eval_batch_size)
        probabilities = torch.cat(cli.trainer.predict(cli.model, loader)).float().softmax(1)
        for path, values, classes in zip(prepared, *probabilities.topk(TOP), strict=True):
            likeliest = zip(classes.tolist(), values.tolist(), strict=True)
            rows.append({"file": str(path), "top": [{"class": CLASSES[c], "probability": p} for c, p in likeliest]})
        results.print_predictions(rows)
        if cli.config.out:
            _write_predictions(rows, Path(cli.config.out))
        if cli.config.sheet:
            shown = slice(SHEET_PICTURES)
            figures.picture_sheet(list(prepared)[shown], images[shown], rows[shown]).savefig(cli.config.sheet)
    if len(prepared) < len(paths):
        print(f"{len(paths) - len(prepared)} of {len(paths)} files skipped", file=sys.stderr)
        raise SystemExit(1)
    return rows


def _prepare(paths: list[Path]) -> dict[Path, torch.Tensor]:
    """What the network will see (28, 28) uint8 of each picture; names the files that are none."""
    prepared = {}
    for path in track(paths, "preparing", transient=True, disable=not sys.stdout.isatty()):
        try:
            with warnings.catch_warnings(), Image.open(path) as image:
                warnings.simplefilter("error")  # Pillow's of damaged or enormous files
                prepared[path] = pictures.prepare(image)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Warning) as error:
            print(f"skipped {path}: {' '.join(str(error).split())}", file=sys.stderr)
    return prepared


def _write_predictions(rows: list[dict[str, Any]], path: Path) -> None:
    if path.suffix == ".json":
        path.write_text(json.dumps(rows, indent=2) + "\n")
        return
    with open(path, "w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["file", *(f"{what}_{n}" for n in range(1, TOP + 1) for what in ("class", "probability"))])
        table.writerows([row["file"], *(value for best in row["top"] for value in best.values())] for row in rows)


def _say_where_it_goes_on(cli: FashionCLI) -> None:
    if cli.checkpoint:
        print(f"resume      after step {cli.step:,}")
        _say_what_is_taken(cli)
    elif cli.run_folder:
        print(f"resume      {cli.run_folder} from the beginning: it has no save yet")
    elif cli.config.get("resume"):
        print("resume      nothing: there is no run yet, so this is a new one")


def _say_what_is_taken(cli: FashionCLI) -> None:
    print(f"checkpoint  {cli.checkpoint}")
    for departure in cli.departures:
        print(f"differs     {departure}")

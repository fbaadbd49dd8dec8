"""Predictions for pictures. Knows no command line."""

import csv
import json
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from PIL import Image
from rich.progress import track
from torch.utils.data import DataLoader

from fashion_lightning.classifier import FashionClassifier
from fashion_lightning.data import photographs
from fashion_lightning.data.labels import CLASSES
from fashion_lightning.data.module import normalize
from fashion_lightning.jobs.start import Start
from fashion_lightning.reports.figures import picture_sheet
from fashion_lightning.reports.results import print_predictions
from fashion_lightning.storage.provenance import describe_device

TOP = 3  # classes shown for a picture
SHEET_PICTURES = slice(60)


@dataclass(frozen=True)
class Predict:
    trainer: pl.Trainer
    model: FashionClassifier
    batch_size: int
    start: Start
    pictures: list[Path]
    out: Path | None  # for the predictions, as CSV or JSON
    sheet: Path | None  # for a PNG that shows each picture beside its input to the network

    def run(self) -> list[dict[str, Any]]:
        """Rows of `file` and `top`, the likeliest classes of each picture; exits with 1 if files are no pictures."""
        self.start.load_into(self.model)
        print(f"device      {describe_device(self.trainer)}")
        self.start.print()
        prepared = _prepare(self.pictures)
        rows = self._predict(prepared) if prepared else []
        if rows:
            print_predictions(rows)
        if rows and self.out:
            _write(rows, self.out)
        if rows and self.sheet:
            paths, images = list(prepared)[SHEET_PICTURES], list(prepared.values())[SHEET_PICTURES]
            picture_sheet(paths, images, rows[SHEET_PICTURES]).savefig(self.sheet)
        if skipped := len(self.pictures) - len(prepared):
            print(f"{skipped} of {len(self.pictures)} files skipped", file=sys.stderr)
            raise SystemExit(1)
        return rows

    def _predict(self, prepared: dict[Path, torch.Tensor]) -> list[dict[str, Any]]:
        images: Any = normalize(torch.stack(list(prepared.values())).unsqueeze(1))
        logits: Any = self.trainer.predict(self.model, DataLoader(images, self.batch_size))
        rows = []
        for path, values, classes in zip(prepared, *torch.cat(logits).float().softmax(1).topk(TOP), strict=True):
            likeliest = zip(classes.tolist(), values.tolist(), strict=True)
            rows.append({"file": str(path), "top": [{"class": CLASSES[c], "probability": p} for c, p in likeliest]})
        return rows


def _prepare(paths: list[Path]) -> dict[Path, torch.Tensor]:
    """The input to the network (28, 28) uint8 of each picture; prints the names of files that are no pictures."""
    prepared = {}
    for path in track(paths, "preparing", transient=True, disable=not sys.stdout.isatty()):
        try:
            with warnings.catch_warnings(), Image.open(path) as image:
                warnings.simplefilter("error")  # Pillow warns of damaged and of very large files
                prepared[path] = photographs.prepare(image)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Warning) as error:
            print(f"skipped {path}: {' '.join(str(error).split())}", file=sys.stderr)
    return prepared


def _write(rows: list[dict[str, Any]], path: Path) -> None:
    if path.suffix.lower() == ".json":
        path.write_text(json.dumps(rows, indent=2) + "\n")
        return
    with open(path, "w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["file", *(f"{what}_{n}" for n in range(1, TOP + 1) for what in ("class", "probability"))])
        table.writerows([row["file"], *(value for best in row["top"] for value in best.values())] for row in rows)

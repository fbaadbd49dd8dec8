"""Predictions for pictures. Knows no command line."""

import contextlib
import csv
import io
import json
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn
from rich.table import Column
from torch import Tensor

from fashion_lightning.classifier import FashionClassifier
from fashion_lightning.data import photographs, pictures
from fashion_lightning.data.labels import CLASSES
from fashion_lightning.data.module import normalize
from fashion_lightning.errors import WorkError
from fashion_lightning.jobs.start import Start
from fashion_lightning.reports import sheet
from fashion_lightning.reports.calibration import UNCERTAIN_BELOW
from fashion_lightning.reports.results import print_predictions, printable
from fashion_lightning.storage.provenance import describe_device
from fashion_lightning.storage.whole_files import replacing

TOP = 3  # classes shown for a picture


@dataclass(frozen=True)
class Predict:
    trainer: pl.Trainer
    model: FashionClassifier
    batch_size: int
    start: Start
    found: pictures.Found
    out: Path | None  # for the predictions, as CSV or JSON
    sheets: Sequence[Path]  # for PNGs that show each picture beside its input to the network
    show_progress: bool

    def run(self) -> list[dict[str, Any]]:
        """Rows of `file`, `top`, the likeliest classes, and `uncertain`; exits with 1 if files are no pictures."""
        self.start.load_into(self.model)
        print(f"device      {describe_device(self.trainer)}")
        self.start.print()
        print(f"temperature {self._said_temperature()}")
        for name, reason in self.found.problems:
            _say_skipped(name, reason)
        stream = self._predict()
        if self.out:
            with stream.writing(self.out):
                _write(stream.rows, self.out)
        if stream.rows:
            print_predictions(stream.rows)
        self._report(stream)
        return stream.rows

    def _said_temperature(self) -> str:
        if self.start.temperature:
            return f"{self.start.temperature:.2f}, fitted on the validation images"
        return "unknown: probabilities are those of the network, which may say too much or too little"

    def _predict(self) -> "_Stream":
        column = Column(no_wrap=True)
        bar = Progress(
            BarColumn(16, table_column=column),
            MofNCompleteColumn(table_column=column),
            TimeRemainingColumn(compact=True, table_column=column),
            console=Console(stderr=True),
            transient=True,
            disable=not self.show_progress,
            redirect_stdout=sys.stdout.isatty(),  # a file gets what is printed for it
        )
        with bar:
            stream = _Stream(self.found.files, self.batch_size, self.start.temperature or 1.0, self.sheets, bar)
            if self.found.files:
                self.trainer.callbacks.append(stream)  # type: ignore[attr-defined]  # set by Lightning
                self.trainer.predict(self.model, stream, return_predictions=False)
            stream.end_page()
        return stream

    def _report(self, stream: "_Stream") -> None:
        """Raises WorkError if files were not written, SystemExit if some were skipped."""
        for path in stream.written:
            print(f"written     {printable(str(path))}")
        total = len(self.found.files) + len(self.found.problems)
        if left := len(self.found.files) - stream.done:
            print(f"{left} of {total} files left out: --trainer.limit_predict_batches", file=sys.stderr)
        if skipped := stream.done - len(stream.rows) + len(self.found.problems):
            print(f"{skipped} of {total} files skipped", file=sys.stderr)
        if stream.unwritten:
            raise WorkError(f"cannot write {'; '.join(stream.unwritten)}: mend this, or name files elsewhere")
        if skipped:
            raise SystemExit(1)


def described(logits: Tensor, temperature: float, garments: Sequence[photographs.Garment]) -> list[dict[str, Any]]:
    """Of logits (N, classes) of garments, rows of `top`, the likeliest classes, and `uncertain`."""
    rows, likeliest = [], (logits.float() / temperature).softmax(1).topk(TOP)
    for garment, values, classes in zip(garments, *(best.tolist() for best in likeliest), strict=True):
        top = [{"class": CLASSES[c], "probability": p} for c, p in zip(classes, values, strict=True)]
        reasons = {"classes": values[0] < UNCERTAIN_BELOW, "garment": garment.is_faint}
        rows.append({"top": top, "uncertain": ", ".join(reason for reason, holds in reasons.items() if holds)})
    return rows


class _Stream(pl.Callback):
    """Gives the Trainer batches of pictures, and makes rows of what it predicts; holds few pictures at a time."""

    def __init__(
        self, files: Sequence[Path], batch_size: int, temperature: float, sheets: Sequence[Path], bar: Progress
    ) -> None:
        self.rows: list[dict[str, Any]] = []
        self.done = 0  # files, skipped ones included
        self.written: list[Path] = []
        self.unwritten: list[str] = []  # file and reason
        self._files, self._batch_size, self._temperature, self._bar = files, batch_size, temperature, bar
        self._sheets, self._has_sheet = iter(sheets), bool(sheets)
        self._waiting: deque[tuple[Path, photographs.Garment, Image.Image | None]] = deque()  # to be predicted
        self._page: list[sheet.Shown] = []

    def __len__(self) -> int:
        """Batches, at most."""
        return -(-len(self._files) // self._batch_size)

    def __iter__(self) -> Iterator[Tensor]:
        """Batches of images, float (B, 1, 28, 28)."""
        task, images = self._bar.add_task("", total=len(self._files)), []
        for file in self._files:
            self.done += 1
            try:
                picture = pictures.opened(file)
                garment = photographs.prepare(picture)
            except (pictures.PictureError, photographs.NoGarmentError) as error:
                _say_skipped(str(file), str(error))
            else:
                images.append(garment.image)
                self._waiting.append((file, garment, sheet.shrunk(picture) if self._has_sheet else None))
            self._bar.update(task, completed=self.done)
            if images and (len(images) == self._batch_size or self.done == len(self._files)):
                yield normalize(torch.stack(images).unsqueeze(1))
                images = []

    def on_predict_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, *args: Any, **kwargs: Any
    ) -> None:
        """`outputs` are logits (B, classes)."""
        predicted = [self._waiting.popleft() for _ in outputs]
        found = described(outputs, self._temperature, [garment for _, garment, _ in predicted])
        for (file, garment, picture), row in zip(predicted, found, strict=True):
            self.rows.append({"file": str(file), **row})
            if picture:
                self._page.append(sheet.Shown(picture, garment, self.rows[-1]))
            if len(self._page) == sheet.PICTURES:
                self.end_page()

    def end_page(self) -> None:
        """Writes the page of the sheet, if there are pictures for it."""
        if self._page:
            path = next(self._sheets)
            with self.writing(path):
                sheet.write(path, self._page)
            self._page = []

    @contextlib.contextmanager
    def writing(self, path: Path) -> Iterator[None]:
        """Keeps an error for the end: what was predicted is not lost by it."""
        try:
            yield
            self.written.append(path)
        except OSError as error:
            self.unwritten.append(f"{path}: {error.strerror}")


def _say_skipped(name: str, reason: str) -> None:
    print(f"skipped {printable(name)}: {reason}", file=sys.stderr)


def _write(rows: list[dict[str, Any]], path: Path) -> None:
    """Raises OSError."""
    text = io.StringIO(newline="")
    if path.suffix.lower() == ".json":
        text.write(json.dumps(rows, indent=2) + "\n")
    else:
        table = csv.writer(text)
        names = (f"{what}_{n}" for n in range(1, TOP + 1) for what in ("class", "probability"))
        table.writerow(["file", *names, "uncertain"])
        for row in rows:
            table.writerow([row["file"], *(value for best in row["top"] for value in best.values()), row["uncertain"]])
    with replacing(path) as stream:
        stream.write(text.getvalue().encode(errors="backslashreplace"))  # names of files may be no text

"""A trained network as an ONNX file, checked on the test set before it is kept. Knows no command line."""

import contextlib
import io
import json
import logging
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fashion_lightning.classifier import FashionClassifier
from fashion_lightning.data.labels import CLASSES, IMAGE_SIZE
from fashion_lightning.data.module import FashionMNISTDataModule, Split, normalize
from fashion_lightning.errors import UserError, WorkError
from fashion_lightning.jobs.start import OF_NETWORK, Start
from fashion_lightning.reports import model_card, results
from fashion_lightning.reports.model_card import About
from fashion_lightning.reports.results import standard_error
from fashion_lightning.storage.whole_files import replacing

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # telemetry starts at the import
import onnxruntime

INPUT, OUTPUT = "images", "probabilities"
MOST = 1e-5  # that a probability may differ from PyTorch's: float32 sums in another order
BATCH = 1000  # images evaluated at a time


class Probabilities(nn.Module):
    """What `predict` does after a picture is prepared: uint8 images (N, 28, 28) to probabilities (N, 10)."""

    def __init__(self, model: FashionClassifier, temperature: float) -> None:
        super().__init__()
        self.model, self.temperature = model, temperature
        self.eval()  # or else the means over mirrored and shifted images are left out

    def forward(self, images: Tensor) -> Tensor:
        return (self.model(normalize(images.unsqueeze(1))) / self.temperature).softmax(1)


@dataclass(frozen=True)
class Export:
    model: FashionClassifier
    data: FashionMNISTDataModule
    start: Start
    out: Path
    card: Path

    def run(self) -> dict[str, Any]:
        """What `export.main` returns. Raises WorkError if the file would differ from the network; none is kept then."""
        self.start.load_into(self.model)
        self.start.print()
        module = Probabilities(self.model, self.start.temperature or 1.0)
        program, split = exported(module), self.data.splits["test"]
        images = split.images.squeeze(1)
        expected = by_torch(module, images)
        about = self._about(expected.argmax(1) == split.labels, split)
        content = with_metadata(program, about)
        with _explained(module, "expected what ONNX Runtime can do"):
            got = by_onnxruntime(content, images)
        difference = self._difference(expected, got)
        with replacing(self.card) as stream:  # first: if the disk is full now, nothing is in the way of another try
            stream.write(model_card.card(self.out.name, content, about, difference).encode())
        with replacing(self.out) as stream:
            stream.write(content)
        self._print(about, len(content), difference)
        test = {"accuracy": about.accuracy, "images": about.images}
        return {"file": str(self.out), "card": str(self.card), "max_difference": difference, "test": test}

    def _about(self, is_right: Tensor, split: Split) -> About:
        """`is_right` (N,) of the test images."""
        run, checkpoint = self.start.run, self.start.checkpoint
        return About(
            network=type(self.model.network).__name__,
            parameters=sum(parameter.numel() for parameter in self.model.parameters()),
            temperature=self.start.temperature,
            is_published=self.data.verify,
            accuracy=is_right.double().mean().item(),
            images=len(split),
            of_class={CLASSES[c]: is_right[split.labels == c].double().mean().item() for c in split.labels.unique()},
            settings=checkpoint.recorded if checkpoint else {},
            departures=tuple(line for line in self.start.departures if line.startswith(OF_NETWORK)),
            run=run.folder.name if run else None,
            results=(results.read(run) if run and self.start.is_best_of_run else None) or {},
        )

    def _print(self, about: About, size: int, difference: float) -> None:
        error = standard_error(about.accuracy, about.images)
        print(f"exported    {self.out}, {size / 1000:,.0f} kB: uint8 images (N, 28, 28) to probabilities (N, 10)")
        print(f"checked     {about.images:,} test images: PyTorch's labels, probabilities within {difference:.1e}")
        print(f"test        accuracy {about.accuracy:.2%}, standard error {error:.2%}")
        print(f"card        {self.card}")
        print("note        ONNX Runtime reports its use to its maker, unless ORT_DISABLE_TELEMETRY=1 is set, as here")

    def _difference(self, expected: Tensor, got: Tensor) -> float:
        labels = int((expected.argmax(1) != got.argmax(1)).sum())
        difference = (expected - got).abs().max().item()
        if labels or not difference <= MOST:
            found = f"{labels:,} of {len(got):,} labels and up to {difference:.1e} in probabilities"
            raise WorkError(f"{self.out} is not written: with ONNX Runtime it differs from the network in {found}")
        return difference


@torch.no_grad()
def exported(module: Probabilities) -> torch.onnx.ONNXProgram:
    """Raises UserError if the network cannot be exported for any number of images."""
    images = torch.zeros(2, *IMAGE_SIZE, dtype=torch.uint8)  # of one image, N would be taken for 1
    shapes = {INPUT: {0: torch.export.Dim("N")}}
    options: dict[str, Any] = {"input_names": [INPUT], "output_names": [OUTPUT], "verbose": False}
    with _without_graphs():
        # First by itself: the exporter would try again in another way, which may take N for 2.
        with _explained(module, "expected steps that depend neither on values nor on the number of images"):
            program = torch.export.export(module, (images,), dynamic_shapes=shapes, strict=False)
        with _explained(module, "expected steps that ONNX has"):
            made = torch.onnx.export(program, (images,), dynamic_shapes=shapes, **options)
    assert made is not None  # without a file to write
    return made


@contextlib.contextmanager
def _explained(module: Probabilities, expected: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # of a user's network it may be any
        cause: BaseException = error
        while cause.__cause__:
            cause = cause.__cause__
        line = next(iter(str(cause).strip().splitlines()), type(cause).__name__)
        name = type(module.model.network).__name__
        raise UserError(f"--model.network: {name} cannot be exported: {expected}: {line}") from error


@contextlib.contextmanager
def _without_graphs() -> Iterator[None]:
    """Of what cannot be exported, torch prints the whole graph beside its error."""
    printed = io.StringIO()
    logging.disable()
    try:
        with contextlib.redirect_stderr(printed):
            yield
    finally:
        logging.disable(logging.NOTSET)
    sys.stderr.write(printed.getvalue())  # warnings, where it was exported


def with_metadata(program: torch.onnx.ONNXProgram, about: About) -> bytes:
    """The content of the file, which has nothing of this machine in it."""
    model = program.model
    for graph in model.graphs():  # also those of branches
        values = [value for node in graph for value in node.outputs]
        for part in (graph, *graph, *values, *graph.inputs, *graph.initializers.values()):
            part.metadata_props.clear()  # the exporter's notes have paths of source files
            part.doc_string = None
    found = about.results
    known = {
        "class_names": json.dumps(CLASSES),
        "input": "uint8 (N, 28, 28): grey images like those of Fashion-MNIST, light garments on black",
        "output": "float32 (N, 10): probabilities of the classes",
        "network": about.network,
        "temperature": about.temperature,
        "run": about.run,
        "seed": about.settings.get("seed_everything"),
        "val_accuracy": found["val"]["accuracy"] if "val" in found else None,
        "test_accuracy": about.accuracy,
        "test_images": about.images,
        "git_commit": found.get("git_commit"),
        "versions": json.dumps(found["versions"]) if "versions" in found else None,
    }
    model.metadata_props.clear()
    model.metadata_props.update({name: str(value) for name, value in known.items() if value is not None})
    return program.model_proto.SerializeToString(deterministic=True)


@torch.inference_mode()
def by_torch(module: Probabilities, images: Tensor) -> Tensor:
    """Probabilities (N, 10) of uint8 images (N, 28, 28)."""
    return torch.cat([module(batch) for batch in images.split(BATCH)])


def by_onnxruntime(content: bytes, images: Tensor) -> Tensor:
    """Likewise, with the content of a file."""
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    batches = (session.run([OUTPUT], {INPUT: batch.numpy()})[0] for batch in images.split(BATCH))
    return torch.cat([torch.from_numpy(batch) for batch in batches])

"""The card of an exported network, in the form that model hubs read: YAML, then Markdown. Knows no ONNX."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fashion_lightning.data.labels import CLASSES
from fashion_lightning.reports.results import standard_error
from fashion_lightning.reports.tensorboard import training_settings

DATA = "zalando-datasets/fashion_mnist"  # its name on the hub
MARK = "fashion_lightning"  # a tag, by which a card is known as one

DIGEST = "SHA-256 of `{file}`:"

TEXT = """\
# {network} for {name}

An image classifier with {parameters:,} parameters for ten kinds of garments, as an ONNX file that needs no PyTorch.

## Use

```python
import json, numpy, onnxruntime
from PIL import Image

session = onnxruntime.InferenceSession("{file}")
images = numpy.asarray(Image.open("garment.png").convert("L").resize((28, 28)))[None]
[probabilities] = session.run(None, {{"images": images}})
print(json.loads(session.get_modelmeta().custom_metadata_map["class_names"])[probabilities[0].argmax()])
```

It needs `pip install onnxruntime pillow`. Set `ORT_DISABLE_TELEMETRY=1` before, or ONNX Runtime sends telemetry.

- Input `images`: uint8 (N, 28, 28), any N. Grey images like those of Fashion-MNIST: one garment, light on black, that
  fills the image. Normalisation is part of the network. A photograph has to be cropped and inverted first, which
  `python -m fashion_lightning.predict` does.
- Output `probabilities`: float32 (N, 10), computed in float32, in this order: {classes}. {temperature}
- The metadata of the file have the class names, accuracies, and where the network comes from.

## Accuracy

| data | accuracy | standard error | images |
| --- | --- | --- | --- |
{accuracies}

The standard error is that of a proportion: with other images of the same kind, about two thirds of accuracies would be
within one of it. By class, on the test images:

| class | accuracy |
| --- | --- |
{of_classes}

On the {images:,} test images, ONNX Runtime gives the labels of PyTorch, and probabilities within {difference:.1e}.

## Training

{training}

## Limits

It knows ten kinds of garments, and gives one of them for any image.{limits} It is a small network for teaching and for
comparisons, not for decisions about people.

## Licence and data

{data}

{digest}
"""
LIMITS = (
    " It was trained on product pictures of one garment each, without people and background. Shirts, T-shirts, "
    "pullovers and coats are often taken for one another: see the accuracies by class."
)
PUBLISHED = """\
The weights are under the licence above. Fashion-MNIST is by Zalando SE, under the MIT licence: Han Xiao, Kashif Rasul,
Roland Vollgraf, "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning Algorithms", arXiv 1708.07747,
2017."""
OTHER = """\
The data have the format of Fashion-MNIST, but need not be the published ones: their licence is not known here."""


@dataclass(frozen=True)
class About:
    """What is known of an exported network."""

    network: str
    parameters: int
    temperature: float | None
    is_published: bool  # whether the data are those of Fashion-MNIST
    accuracy: float  # on the test images, as of_class
    images: int
    of_class: dict[str, float]
    settings: dict[str, Any]  # with which it was trained; empty if they are not known
    departures: tuple[str, ...]  # from these, of the export
    run: str | None
    results: dict[str, Any]  # of its run; empty if they are not known


def place(model: Path) -> Path | None:
    """Where the card of the file `model` goes: README.md beside it, or MODEL.md; None where both are other texts."""
    candidates = (model.with_name("README.md"), model.with_suffix(".md"))
    return next((path for path in candidates if not path.exists() or _is_card(path, model.name)), None)


def _is_card(path: Path, file: str) -> bool:
    try:
        text = path.read_text(errors="replace")
    except OSError:
        return False
    return text.startswith("---\n") and f"- {MARK}\n" in text and DIGEST.format(file=file) in text


def card(file: str, content: bytes, about: About, difference: float) -> str:
    """`difference` is that of probabilities to PyTorch's, at most."""
    accuracies = [_accuracy("test", about.accuracy, about.images)]
    if val := about.results.get("val"):
        accuracies.append(_accuracy("validation", val["accuracy"], val["images"]))
    text = TEXT.format(
        file=file,
        network=about.network,
        name="Fashion-MNIST" if about.is_published else "images like those of Fashion-MNIST",
        limits=LIMITS if about.is_published else "",
        parameters=about.parameters,
        classes=", ".join(CLASSES),
        temperature=_temperature(about.temperature),
        accuracies="\n".join(accuracies),
        of_classes="\n".join(f"| {name} | {share:.1%} |" for name, share in about.of_class.items()),
        images=about.images,
        difference=difference,
        training=_training(about),
        data=PUBLISHED if about.is_published else OTHER,
        digest=f"{DIGEST.format(file=file)} `{hashlib.sha256(content).hexdigest()}`",
    )
    return f"---\n{yaml.safe_dump(_index(about), sort_keys=False)}---\n\n{text}"


def _index(about: About) -> dict[str, Any]:
    """What hubs read."""
    index: dict[str, Any] = {"license": "mit"} if about.is_published else {}
    index |= {"library_name": "onnx", "pipeline_tag": "image-classification"}
    index["tags"] = ["onnx", "fashion-mnist", "pytorch-lightning", MARK]
    if not about.is_published:
        return index
    result = {
        "task": {"type": "image-classification"},
        "dataset": {"type": DATA, "name": "Fashion-MNIST", "split": "test"},
        "metrics": [{"type": "accuracy", "value": about.accuracy}],
    }
    model = {"name": about.network, "results": [result]}
    return {**index, "datasets": [DATA], "metrics": ["accuracy"], "model-index": [model]}


def _accuracy(split: str, accuracy: float, images: int) -> str:
    return f"| {split} | {accuracy:.2%} | {standard_error(accuracy, images):.2%} | {images:,} |"


def _temperature(temperature: float | None) -> str:
    if temperature is None:
        return "They are those of the network, which may say too much or too little."
    return f"Logits are divided by the temperature {temperature:.2f}, fitted on the validation images."


def _training(about: About) -> str:
    if not about.settings:
        return "The checkpoint has no record of its settings."
    made, found = ["With fashion_lightning"], about.results
    if found.keys() >= {"device", "fit_seconds", "git_commit", "versions"}:
        made += [f"on {found['device']}, in {found['fit_seconds']:.0f} s"]
        made += [f"commit {found['git_commit']}"] if found["git_commit"] else []
        made += [f"{name} {version}" for name, version in found["versions"].items()]
    row = {**training_settings(yaml.safe_dump(about.settings)), "seed": about.settings.get("seed_everything", "null")}
    rows = [f"| {name} | {value} |" for name, value in row.items() if value != "null"]
    differs = ["", f"Exported with {'; '.join(about.departures)}."] if about.departures else []
    return "\n".join([f"{', '.join(made)}.", "", "| setting | value |", "| --- | --- |", *rows, *differs])

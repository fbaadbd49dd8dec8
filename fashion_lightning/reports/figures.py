"""Figures from tensors: pure functions, drawn without a display. Knows neither training nor TensorBoard."""

from collections.abc import Mapping, Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from fashion_lightning.data.labels import CLASSES

# Colour-blind people can tell them apart (Okabe and Ito, 2008).
BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#007A53", "#B8320A"
DPI = 100


def sample_grid(images: Tensor, labels: Tensor) -> Figure:
    """Images (N, 28, 28) uint8, each titled with the class of its label (N,)."""
    return _image_grid(images, [CLASSES[label] for label in labels], columns=6)


def prediction_grid(images: Tensor, predictions: Tensor, labels: Tensor) -> Figure:
    """Images (N, 28, 28) uint8, each titled predicted / actual: green and "right", or red and "wrong"."""
    pairs = list(zip(predictions.tolist(), labels.tolist(), strict=True))
    titles = [f"{CLASSES[p]} / {CLASSES[label]}\n{'right' if p == label else 'wrong'}" for p, label in pairs]
    colors = [GREEN if prediction == label else RED for prediction, label in pairs]
    return _image_grid(images, titles, 4, colors, heading="predicted / actual")


def mistake_grid(images: Tensor, probabilities: Tensor, labels: Tensor, count: int = 16) -> Figure:
    """The `count` images (N, 28, 28) whose wrong prediction has the highest of its probabilities (N, 10)."""
    confidence, predictions = probabilities.max(1)
    worst = torch.where(predictions != labels, confidence, -1).argsort(descending=True, stable=True)[:count]
    worst = worst[predictions[worst] != labels[worst]]
    titles = [f"{CLASSES[predictions[i]]} {confidence[i]:.1%}\nis {CLASSES[labels[i]]}" for i in worst]
    heading = "most confidently wrong: predicted, with its probability, and actual class"
    return _image_grid(images[worst], titles, 4, [RED] * len(worst), heading)


def curves(rows: Sequence[dict[str, float | None]], metric: str) -> Figure:
    """`metric` of training and validation over the epochs; `rows` are those of `metrics.csv`."""
    figure, ax = _chart(7, 4.2)
    for split, name, color, marker in (("train", "training", BLUE, "o"), ("val", "validation", ORANGE, "s")):
        points = [(row["epoch"], row[f"{split}/{metric}"]) for row in rows if row[f"{split}/{metric}"] is not None]
        if points:
            ax.plot(*zip(*points, strict=True), color=color, marker=marker, label=name)
    ax.set(xlabel="epoch", ylabel=metric, title=f"{metric} of training and validation")
    ax.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
    ax.grid(alpha=0.3)
    if rows:
        ax.legend()
    return figure


def confusion_matrix(counts: Tensor) -> Figure:
    """Counts (10, 10) of actual class (row) and predicted class (column), with the share of the row below."""
    rates = counts / counts.sum(1, keepdim=True).clamp(min=1)
    figure, ax = _chart(9, 8)
    ax.imshow(rates.numpy(), cmap="Blues", vmin=0, vmax=1)
    for row, column in torch.cartesian_prod(torch.arange(len(counts)), torch.arange(len(counts))).tolist():
        if count := int(counts[row, column]):
            rate = rates[row, column].item()
            text = f"{count}\n{rate:.1%}"
            ax.text(column, row, text, ha="center", va="center", fontsize=8, color="white" if rate > 0.6 else "black")
    ax.set_xticks(range(len(CLASSES)), CLASSES, rotation=40, ha="right")
    ax.set_yticks(range(len(CLASSES)), CLASSES)
    ax.set(xlabel="predicted", ylabel="actual", title="confusion matrix: images, and share of the actual class")
    return figure


def class_accuracies(counts: Tensor) -> Figure:
    """Share of each actual class that was predicted correctly, from counts (10, 10) as in `confusion_matrix`."""
    accuracies = (counts.diagonal() / counts.sum(1).clamp(min=1)).tolist()
    figure, ax = _chart(7, 4.2)
    bars = ax.barh(CLASSES, accuracies, color=BLUE)
    ax.bar_label(bars, [f"{accuracy:.1%}" for accuracy in accuracies], padding=3)
    ax.set(xlim=(0, 1.12), xlabel="accuracy", title="accuracy per class")  # beyond 1 there is room for the labels
    ax.set_xticks([tick / 5 for tick in range(6)])
    ax.invert_yaxis()
    return figure


def reliability_diagram(bins: Mapping[str, Sequence[tuple[float, float, int]]]) -> Figure:
    """Of each name its bins: probability of the likeliest class, accuracy, and number of images."""
    figure = empty_figure(6, 6)
    above, below = figure.subplots(2, sharex=True, height_ratios=[3, 1])
    above.plot([0, 1], [0, 1], color="gray", linestyle="--", label="perfectly calibrated")
    for (name, values), color, marker in zip(bins.items(), (BLUE, ORANGE), "os", strict=False):
        probability, accuracy, images = zip(*values, strict=True)
        above.plot(probability, accuracy, color=color, marker=marker, label=name)
        below.plot(probability, images, color=color, marker=marker)
    above.set(xlim=(0, 1.02), ylim=(0, 1.02), ylabel="accuracy", title="calibration on the test set")
    above.legend()
    below.set(xlabel="probability of the predicted class, mean of a bin", ylabel="images in the bin")
    most = max(images for values in bins.values() for _, _, images in values)
    below.set(yscale="log", ylim=(0.7, 2 * most))
    below.minorticks_off()
    below.yaxis.set_major_formatter("{x:,.0f}")
    for ax in (above, below):
        ax.grid(alpha=0.3)
    return figure


def _image_grid(
    images: Tensor, titles: Sequence[str], columns: int, colors: Sequence[str] | None = None, heading: str | None = None
) -> Figure:
    """Images (N, 28, 28) uint8 with titles of one or two lines."""
    figure, axes = _grid(len(images), columns, height=2.1 if heading else 1.9)
    for ax, image, title, color in zip(axes, images, titles, colors or ["black"] * len(images), strict=True):
        _show(ax, image, title, color)
    if heading:
        figure.suptitle(heading)
    return figure


def empty_figure(width: float, height: float) -> Figure:
    """In inches."""
    return Figure(figsize=(width, height), dpi=DPI, layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08))


def _chart(width: float, height: float) -> tuple[Figure, Axes]:
    figure = empty_figure(width, height)
    return figure, figure.subplots()


def _grid(count: int, columns: int, height: float) -> tuple[Figure, list[Axes]]:
    """`count` axes in rows of `columns`, `height` inches a row."""
    rows = max(1, -(-count // columns))
    figure = empty_figure(1.9 * columns, height * rows + 0.3)
    axes = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for ax in axes:
        ax.set_axis_off()
    return figure, axes[:count]


def _show(ax: Axes, image: Tensor, title: str, color: str = "black") -> None:
    ax.imshow(image.numpy(), cmap="gray", vmin=0, vmax=255)
    ax.set_title(title, color=color, fontsize=9)

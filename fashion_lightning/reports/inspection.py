"""When a run's figures are drawn and TensorBoard's extras are written. Works in one process, outside training."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torchmetrics.functional.classification import multiclass_confusion_matrix

from fashion_lightning.data.labels import CLASSES
from fashion_lightning.data.module import data_of
from fashion_lightning.reports import figures, tensorboard
from fashion_lightning.reports.calibration import reliability
from fashion_lightning.reports.logits import EvaluationLogits
from fashion_lightning.storage.run_folders import Run
from fashion_lightning.training.record import RunRecord

GRID_IMAGES = slice(12)
PROJECTOR_IMAGES = slice(2000)


@dataclass(frozen=True)
class InspectionParts:
    """What to show of a run.

    Args:
        figures: Whether to draw the figures.
        graph: Whether TensorBoard gets the network's graph.
        pr_curves: Whether TensorBoard gets a precision-recall curve for each class of the test set.
        projector: Whether TensorBoard's projector gets features of test images with thumbnails: some megabytes.
    """

    figures: bool = True
    graph: bool = True
    pr_curves: bool = True
    projector: bool = False


class Inspection(Callback):
    """Draws figures and writes TensorBoard's extras for the run of `record`, or of `run` the test figures alone."""

    def __init__(
        self, parts: InspectionParts, logits: EvaluationLogits, record: RunRecord | None = None, run: Run | None = None
    ) -> None:
        self._parts, self._logits, self._record, self._tested_run = parts, logits, record, run

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero or not self._record:
            return
        images, labels = data_of(trainer).splits["train"][GRID_IMAGES]
        self._draw(trainer, "train_images", figures.sample_grid, images.squeeze(1), labels)
        if writer := tensorboard.writer_of(trainer):
            tensorboard.add_descriptions(writer, trainer, self._record.config)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero or not self._record:
            return
        for metric in ("loss", "accuracy"):
            self._draw(trainer, metric, figures.curves, self._record.rows, metric)
        if self._parts.graph and (writer := tensorboard.writer_of(trainer)):
            image, _ = data_of(trainer).splits["train"][:1]  # the test set may not be read
            tensorboard.add_graph(writer, pl_module.get_submodule("network"), image)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        if "test" in self._logits.whole:
            self._show_test(trainer, pl_module, *self._logits.whole["test"])
        if self._record and (writer := tensorboard.writer_of(trainer)):
            row = tensorboard.hyperparameters(self._record.config, self._record.recipe, pl_module)
            tensorboard.log_hyperparameters(trainer, row)
            writer.flush()

    def _show_test(self, trainer: Trainer, pl_module: LightningModule, logits: Tensor, labels: Tensor) -> None:
        images, probabilities = data_of(trainer).splits["test"].images, logits.softmax(1)
        self._draw_test(trainer, images.squeeze(1), labels, probabilities)
        self._draw_calibration(trainer, logits, labels)
        if writer := tensorboard.writer_of(trainer):
            step = trainer.global_step
            if self._parts.pr_curves:
                tensorboard.add_pr_curves(writer, labels, probabilities, step)
            if self._parts.projector:
                tensorboard.add_embedding(writer, pl_module, images[PROJECTOR_IMAGES], labels[PROJECTOR_IMAGES], step)

    def _draw_test(self, trainer: Trainer, images: Tensor, labels: Tensor, probabilities: Tensor) -> None:
        """Of images (N, 28, 28), labels (N,) and probabilities (N, 10) in the order of the file."""
        counts = multiclass_confusion_matrix(probabilities, labels, len(CLASSES))  # (10, 10), a row an actual class
        first = (tensor[GRID_IMAGES] for tensor in (images, probabilities.argmax(1), labels))
        self._draw(trainer, "predictions", figures.prediction_grid, *first)
        self._draw(trainer, "mistakes", figures.mistake_grid, images, probabilities, labels)
        self._draw(trainer, "confusion_matrix", figures.confusion_matrix, counts)
        self._draw(trainer, "class_accuracy", figures.class_accuracies, counts)

    def _draw_calibration(self, trainer: Trainer, logits: Tensor, labels: Tensor) -> None:
        """Of logits (N, 10) and labels (N,), before and after the temperature, if there is one."""
        measured = self._logits.calibration
        if "test" not in measured:
            return
        shown = {f"as trained: error {measured['test']['calibration_error']:.2%}": logits}
        if temperature := measured.get("val", {}).get("temperature"):
            error = measured["test"]["calibration_error_scaled"]
            shown[f"with temperature {temperature:.2f}: error {error:.2%}"] = logits / temperature
        bins = {name: reliability(values.softmax(1), labels) for name, values in shown.items()}
        self._draw(trainer, "calibration", figures.reliability_diagram, bins)

    def _draw(self, trainer: Trainer, name: str, draw: Callable[..., Figure], *args: Any) -> None:
        """Draws and renders once, for the PNG and for TensorBoard."""
        run = self._record.run if self._record else self._tested_run
        if not self._parts.figures or not run:
            return
        canvas = FigureCanvasAgg(draw(*args))  # without pyplot: needs no display, and nothing has to be closed
        canvas.draw()
        pixels = np.asarray(canvas.buffer_rgba())[..., :3]
        try:
            run.figures.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(run.figures / f"{name}.png")
        except OSError as error:
            warnings.warn(f"cannot draw {run.figures / name}.png: {error.strerror}", stacklevel=2)
        if writer := tensorboard.writer_of(trainer):
            writer.add_image(f"figures/{name}", pixels, trainer.global_step, dataformats="HWC")

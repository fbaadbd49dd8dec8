"""What TensorBoard and a run's `figures/` show beside the curves, and when. Draws in one process, after the work."""

import copy
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter
from torchmetrics import CatMetric

from fashion_lightning import figures
from fashion_lightning.callbacks import RunRecord
from fashion_lightning.data import normalize
from fashion_lightning.files import CLASSES
from fashion_lightning.results import environment
from fashion_lightning.sampling import evaluation_batches

GRID_IMAGES = 12
PROJECTOR_IMAGES = 2000

CHARTS = {
    "training and validation": {
        "loss": ["Multiline", ["^train/loss$", "^val/loss$"]],
        "accuracy": ["Multiline", ["^train/accuracy$", "^val/accuracy$"]],
        "learning rate": ["Multiline", ["^lr$"]],
    }
}


class Inspection(pl.Callback):
    """Figures as PNGs and in TensorBoard; custom charts, HPARAMS, texts and more in TensorBoard.

    Args:
        figures: Whether to draw the figures.
        graph: Whether TensorBoard gets the network's graph.
        pr_curves: Whether TensorBoard gets a precision-recall curve for each class of the test set.
        projector: Whether TensorBoard's projector gets features of test images with thumbnails: some megabytes.

    Attributes:
        folder: The run's; None for a checkpoint without a run, which gets no figures.
    """

    def __init__(
        self, figures: bool = True, graph: bool = True, pr_curves: bool = True, projector: bool = False
    ) -> None:
        self.figures, self.graph, self.pr_curves, self.projector = figures, graph, pr_curves, projector
        self.folder: Path | None = None
        self._hparams: dict[str, Any] | None = None
        self._logits = CatMetric(nan_strategy="disable")  # gathers from all processes, however many each has

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        log_dir = trainer.log_dir
        self.folder = Path(log_dir) if log_dir else None
        if not trainer.is_global_zero:
            return
        dataset, indices = trainer.datamodule.splits["train"]
        images, labels = (tensor[indices[:GRID_IMAGES]] for tensor in dataset.tensors)
        self._draw("train_images", trainer, figures.sample_grid, images.squeeze(1), labels)
        if writer := _writer(trainer):
            writer.add_custom_scalars(CHARTS)
            facts = environment(trainer)
            versions = "".join(f"| {name} | {version} |\n" for name, version in facts.pop("versions").items())
            rows = "".join(f"| {name} | {value} |\n" for name, value in facts.items())
            writer.add_text("environment", f"| | |\n| --- | --- |\n{rows}{versions}")
            if (config := self.folder / "config.yaml").is_file():
                writer.add_text("config", f"```yaml\n{config.read_text()}```")
        self._hparams = _hparams(trainer, pl_module)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        [record] = [callback for callback in trainer.callbacks if isinstance(callback, RunRecord)]
        for metric in ("loss", "accuracy"):
            self._draw(metric, trainer, figures.curves, record.rows, metric)
        if self.graph and (writer := _writer(trainer)):
            _add_graph(writer, pl_module.network, trainer.datamodule.splits["test"][0].tensors[0][:1])

    def on_test_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Tensor,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if list(trainer.datamodule.splits)[dataloader_idx] == "test":
            self._logits.to(outputs.device).update(outputs)

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        data, step = trainer.datamodule, trainer.global_step
        dataset, indices = data.splits["test"]
        gathered = self._logits.compute().float().cpu()  # (N, 10), each process' share after the other
        self._logits.reset()
        if not trainer.is_global_zero or len(gathered) != len(indices):  # as under `limit_test_batches`
            return
        ranks = range(trainer.world_size)
        shares = [evaluation_batches(indices, data.eval_batch_size, rank, trainer.world_size) for rank in ranks]
        probabilities = torch.empty_like(gathered)
        probabilities[torch.cat([batch for share in shares for batch in share])] = gathered.softmax(1)

        images, labels = dataset.tensors[0].squeeze(1), dataset.tensors[1]
        predictions = probabilities.argmax(1)
        counts = torch.zeros(len(CLASSES), len(CLASSES), dtype=torch.int64)
        counts.index_put_((labels, predictions), torch.tensor(1), accumulate=True)
        first = slice(GRID_IMAGES)
        self._draw("predictions", trainer, figures.prediction_grid, images[first], predictions[first], labels[first])
        self._draw("mistakes", trainer, figures.mistake_grid, images, probabilities, labels)
        self._draw("confusion_matrix", trainer, figures.confusion_matrix, counts)
        self._draw("class_accuracy", trainer, figures.class_accuracies, counts)

        if not (writer := _writer(trainer)):
            return
        for index, name in enumerate(CLASSES):
            writer.add_scalar(f"class_accuracy/{name}", counts[index, index] / counts[index].sum(), step)
            if self.pr_curves:
                writer.add_pr_curve(f"test/{name}", labels == index, probabilities[:, index], step)
        if self.projector:
            _add_embedding(writer, pl_module, images[:PROJECTOR_IMAGES], labels[:PROJECTOR_IMAGES], step)
        if self._hparams:
            final = {f"hp/{s}_accuracy": trainer.callback_metrics[f"{s}/accuracy"] for s in data.splits if s != "train"}
            _board(trainer).log_hyperparams(self._hparams, final, step)
        writer.flush()

    def _draw(self, name: str, trainer: pl.Trainer, draw: Any, *args: Any) -> None:
        """Draws once, for the PNG and for TensorBoard."""
        if not self.figures or not self.folder:
            return
        pixels = _pixels(draw(*args))
        path = self.folder / "figures" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
        if writer := _writer(trainer):
            writer.add_image(f"figures/{name}", pixels, trainer.global_step, dataformats="HWC")


def _hparams(trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
    optimizer, data = trainer.optimizers[0], trainer.datamodule
    return {
        "network": type(pl_module.network).__name__,
        "parameters": sum(p.numel() for p in pl_module.parameters()),
        "optimizer": type(optimizer).__name__,
        "lr": optimizer.param_groups[0]["initial_lr"],
        "lr_scheduler": type(trainer.lr_scheduler_configs[0].scheduler).__name__,
        "batch_size": data.batch_size,
        "max_epochs": trainer.max_epochs,
        "precision": str(trainer.precision),
        "seed": data.seed,
    }


def _pixels(figure: Figure) -> np.ndarray:
    """RGB (height, width, 3) uint8; without pyplot, so there is no display to need and nothing to close."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def _writer(trainer: pl.Trainer) -> SummaryWriter | None:
    """TensorBoard's, if this run has one."""
    board = _board(trainer)
    return board.experiment if board else None


def _board(trainer: pl.Trainer) -> TensorBoardLogger | None:
    return next((logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)), None)


def _add_graph(writer: SummaryWriter, network: nn.Module, image: Tensor) -> None:
    """Traces a copy, so that neither statistics nor random draws of training change."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*jit.trace.* is deprecated")  # SummaryWriter knows no other way
        warnings.filterwarnings("ignore", "Converting a tensor to a Python boolean")  # checks of the input's shape
        try:
            writer.add_graph(copy.deepcopy(network).cpu().eval(), normalize(image))
        except Exception as error:  # tracing fails on many a good network, and must not cost its results
            warnings.warn(f"TensorBoard gets no graph of the network: {error}", stacklevel=2)


def _add_embedding(
    writer: SummaryWriter, pl_module: pl.LightningModule, images: Tensor, labels: Tensor, step: int
) -> None:
    """What the network's last linear layer gets (N, features), or its logits where it has none."""
    features: list[Tensor] = []
    hooks = [
        module.register_forward_pre_hook(lambda module, args: features.append(args[0]))
        for module in pl_module.network.modules()
        if isinstance(module, nn.Linear)
    ]
    with torch.inference_mode():
        logits = pl_module(normalize(images.unsqueeze(1).to(pl_module.device)))
    for hook in hooks:
        hook.remove()
    vectors = features[-1] if features else logits
    thumbnails = (255 - images).unsqueeze(1).expand(-1, 3, -1, -1) / 255
    writer.add_embedding(vectors.float().cpu(), [CLASSES[label] for label in labels], thumbnails, step, "test")

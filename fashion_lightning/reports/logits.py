"""Logits of an evaluation, gathered from all processes in the order of the split, and how calibrated they are."""

from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torchmetrics import CatMetric

from fashion_lightning.data.module import data_of
from fashion_lightning.data.sampling import gathered_order
from fashion_lightning.reports.calibration import measure


class EvaluationLogits(Callback):
    """Those of the validation and the test images in `trainer.test`; comes before the callbacks that read them.

    Attributes:
        whole: Of each split whose images were all evaluated logits (N, classes) float32 and labels (N,), on the CPU.
        calibration: What `calibration.measure` says of these.
    """

    def __init__(self) -> None:
        # Each gathers from all processes, however many images each has.
        self._batches = {split: CatMetric(nan_strategy="disable") for split in ("val", "test")}
        self.whole: dict[str, tuple[Tensor, Tensor]] = {}
        self.calibration: dict[str, dict[str, float]] = {}

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for batches in self._batches.values():
            batches.reset()  # also of those that an exception has left

    def on_test_batch_end(  # type: ignore[override]  # our test_step returns logits
        self, trainer: Trainer, pl_module: Any, outputs: Tensor, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        name = pl_module.tested_splits()[dataloader_idx]
        if name in self._batches:
            self._batches[name].to(outputs.device).update(outputs)

    def on_test_end(self, trainer: Trainer, pl_module: Any) -> None:
        data, self.whole = data_of(trainer), {}
        for name in (name for name in pl_module.tested_splits() if name in self._batches):
            gathered = self._batches[name].compute().float().cpu()  # one process after the other
            _, labels = data.splits[name][:]
            if len(gathered) == len(labels):  # not so under `limit_test_batches`
                order = gathered_order(torch.arange(len(labels)), data.eval_batch_size, trainer.world_size)
                self.whole[name] = gathered[order.argsort()], labels
        self.calibration = measure(self.whole)

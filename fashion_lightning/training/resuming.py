"""What makes a resumed run equal, to the bit, to one that was never interrupted.

A checkpoint is made between two steps, when validation, logging and schedule of the steps before are done. Batches and
random draws are functions of (seed, batches done). Lightning lacks the sums of the training metrics, counters that fit
between two epochs, and what some callbacks set when an epoch starts.
"""

import struct
import warnings
import zlib
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import GradientAccumulationScheduler, StochasticWeightAveraging
from torchmetrics.utilities.distributed import gather_all_tensors

from fashion_lightning.data.module import data_of
from fashion_lightning.storage.provenance import describe_device
from fashion_lightning.training.metrics import metrics_of

# They set at the start of an epoch what holds during all of it, and do it again without harm.
SET_BY_EPOCH = (GradientAccumulationScheduler, StochasticWeightAveraging)


class ExactResume(Callback):
    """Adds to checkpoints what Lightning leaves out, restores it, and seeds every batch."""

    def __init__(self) -> None:
        self._is_restarting = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._is_restarting = trainer.fit_loop.restarting

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        epochs = trainer.fit_loop.epoch_progress.current
        if self._is_restarting:
            epochs.completed -= 1
            _repeat_epoch_start(trainer, pl_module)
            epochs.completed += 1
        self._is_restarting = False

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        if self._is_restarting:  # within an epoch
            _repeat_epoch_start(trainer, pl_module)
        self._is_restarting = False
        _repair_counters(trainer)
        _seed_batch(trainer, pl_module.device)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint["made_with"] = numerics(trainer)
        checkpoint["train_metrics"] = _gathered_sums(pl_module)
        checkpoint["loops"]["fit_loop"] |= _counters_between_batches(trainer)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        now, then = numerics(trainer), dict(checkpoint.get("made_with", {}))
        then.setdefault("compile", "False")  # older versions compiled nothing
        then["device"] = then.get("device", "").replace("(1 threads", "(1 thread")  # of version 0.2.0
        if now != {**now, **then} and trainer.is_global_zero:
            made = f"the checkpoint was made with {then}, now it is {now}"
            warnings.warn(f"the last bits may differ: {made}", stacklevel=2)
        _restore_sums(pl_module, checkpoint.get("train_metrics", {}))


def numerics(trainer: Trainer) -> dict[str, str]:
    """What the last bits of a sum depend on."""
    how = {"precision": str(trainer.precision), "compile": str(getattr(trainer.lightning_module, "compiles", False))}
    return {"torch": str(torch.__version__), "device": describe_device(trainer), **how}


def _repeat_epoch_start(trainer: Trainer, pl_module: LightningModule) -> None:
    """The start of the epoch that was trained last, which Lightning leaves out, for the callbacks that need it."""
    groups = trainer.optimizers[0].param_groups
    rates = [group["lr"] for group in groups]
    for callback in trainer.callbacks:  # type: ignore[attr-defined]  # Lightning sets it and does not declare it
        if isinstance(callback, SET_BY_EPOCH):
            callback.on_train_epoch_start(trainer, pl_module)
    for group, rate in zip(groups, rates, strict=True):
        group["lr"] = rate  # which the new schedule of StochasticWeightAveraging has changed


def _repair_counters(trainer: Trainer) -> None:
    """Lightning counts one too many of both after a restart; the second numbers the steps in logs."""
    loop = trainer.fit_loop.epoch_loop
    loop.batch_progress.total.ready = loop.batch_progress.total.completed + 1
    loop._batches_that_stepped = trainer.global_step


def _counters_between_batches(trainer: Trainer) -> dict[str, Any]:
    """State of Lightning's fit loop before the next batch; empty where Lightning's own is right, within a batch."""
    epochs: Any = trainer.fit_loop.epoch_progress
    batches: Any = trainer.fit_loop.epoch_loop.batch_progress
    epoch, batch, is_started = epochs.current.completed, batches.current.processed, True
    if epochs.current.started == epoch:  # between two epochs
        is_whole = batches.is_last_batch or not batch
        epoch, batch, is_started = (epoch, 0, False) if is_whole else (epoch - 1, batch, True)
    elif batches.current.ready == batch:
        return {}

    def before_next(done: int, is_started: bool = False) -> dict[str, int]:
        return {"ready": done + 1, "started": done + is_started, "processed": done, "completed": done}

    counted = {name: before_next(epoch, is_started) for name in ("total", "current")}
    total = before_next(batches.total.processed)
    return {
        "epoch_progress": counted,
        "epoch_loop.batch_progress": {"total": total, "current": before_next(batch), "is_last_batch": False},
    }


def _seed_batch(trainer: Trainer, device: torch.device) -> None:
    """Seeds PyTorch by (seed, batches done, rank)."""
    # 32 bits are all that the CPU's generator takes; its own method is fifty times as fast as torch.manual_seed.
    done = trainer.fit_loop.epoch_loop.batch_progress.total.completed
    seed = zlib.crc32(struct.pack("3Q", data_of(trainer).seed, done, trainer.global_rank))
    (torch.default_generator.manual_seed if device.type == "cpu" else torch.manual_seed)(seed)


def _gathered_sums(pl_module: LightningModule) -> dict[str, torch.Tensor]:
    """Sums of the training metrics in the current epoch: name to (processes,)."""
    sums = {name: torch.as_tensor(value).clone() for name, value in metrics_of(pl_module, "train").metric_state.items()}
    several = pl_module.trainer.world_size > 1
    return {name: torch.stack(gather_all_tensors(own) if several else [own]) for name, own in sums.items()}


def _restore_sums(pl_module: LightningModule, sums: dict[str, torch.Tensor]) -> None:
    """Gives each process its own sums, or the first one all of them if the number of processes has changed."""
    rank, world_size = pl_module.trainer.global_rank, pl_module.trainer.world_size
    own = {name: of[rank] if len(of) == world_size else of.sum(0) * (rank == 0) for name, of in sums.items()}
    metrics = metrics_of(pl_module, "train")
    # The device of the checkpoint may have had another dtype: MPS has no float64.
    metrics.load_state_dict({name: value.to(getattr(metrics, name).dtype) for name, value in own.items()})

"""What makes a resumed run equal, to the bit, to one that was never interrupted.

A checkpoint is made between two steps, when validation, logging and schedule of the steps before are done. Batches and
random draws are functions of (seed, step). Lightning lacks the sums of the training metrics and counters that fit.
"""

import struct
import warnings
import zlib
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torchmetrics.utilities.distributed import gather_all_tensors

from fashion_lightning.data.module import data_of
from fashion_lightning.storage.provenance import describe_device
from fashion_lightning.training.metrics import metrics_of


class ExactResume(Callback):
    """Adds to checkpoints what Lightning leaves out, restores it, and seeds every step."""

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        _repair_counters(trainer)
        _seed_step(trainer, pl_module.device)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint["made_with"] = _numerics(trainer)
        checkpoint["train_metrics"] = _gathered_sums(pl_module)
        checkpoint["loops"]["fit_loop"] |= _counters_between_steps(trainer)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        now, then = _numerics(trainer), checkpoint.get("made_with")
        if now != then and trainer.is_global_zero:
            made = f"the checkpoint was made with {then}, now it is {now}"
            warnings.warn(f"the last bits may differ: {made}", stacklevel=2)
        _restore_sums(pl_module, checkpoint.get("train_metrics", {}))


def _numerics(trainer: Trainer) -> dict[str, str]:
    """What the last bits of a sum depend on."""
    return {"torch": str(torch.__version__), "device": describe_device(trainer)}


def _repair_counters(trainer: Trainer) -> None:
    """Lightning counts one too many of both after a restart; the second numbers the steps in logs."""
    loop = trainer.fit_loop.epoch_loop
    loop.batch_progress.total.ready = loop.batch_progress.total.completed + 1
    loop._batches_that_stepped = trainer.global_step


def _counters_between_steps(trainer: Trainer) -> dict[str, Any]:
    """State of Lightning's fit loop before the first batch of the next step, from the steps done."""
    epoch, batch = data_of(trainer).progress(trainer.global_step)

    def before_next(done: int) -> dict[str, int]:
        return {"ready": done + 1, "started": done, "processed": done, "completed": done}

    epochs = {**before_next(epoch), "started": epoch + 1}  # the epoch of the next batch is started already
    batches = before_next(epoch * int(trainer.num_training_batches) + batch)
    return {
        "epoch_progress": {"total": epochs, "current": epochs},
        "epoch_loop.batch_progress": {"total": batches, "current": before_next(batch), "is_last_batch": False},
    }


def _seed_step(trainer: Trainer, device: torch.device) -> None:
    """Seeds PyTorch by (seed, step, rank)."""
    # 32 bits are all that the CPU's generator takes; its own method is fifty times as fast as torch.manual_seed.
    seed = zlib.crc32(struct.pack("3Q", data_of(trainer).seed, trainer.global_step, trainer.global_rank))
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
    metrics_of(pl_module, "train").load_state_dict(own)

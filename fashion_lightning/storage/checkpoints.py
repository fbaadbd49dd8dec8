"""Checkpoint files: written so that they are whole or not there, and read without trusting them."""

import io
import shutil
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins import TorchCheckpointIO

from fashion_lightning.errors import CheckpointError
from fashion_lightning.storage.run_folders import Run
from fashion_lightning.storage.whole_files import replacing

# What resuming needs beside the weights.
TRAINING_STATE = {"optimizer_states", "lr_schedulers", "loops", "callbacks", "global_step", "made_with"}

RECORDED = ("callbacks", "RunRecord", "settings")  # where checkpoints of a run hold its settings


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint; its content is tensors on the CPU and plain values."""

    path: Path
    content: dict[str, Any]
    changed_ns: int = 0  # when the file was, by its time stamp

    def check_unchanged(self) -> None:
        """Raises CheckpointError if the file was replaced since it was read."""
        if self.path.stat().st_mtime_ns != self.changed_ns:
            raise CheckpointError(f"{self.path} was replaced by another fit while this one started: start it again")

    def part(self, *keys: str) -> dict[str, Any]:
        """The dict in the content that the keys lead to; empty if there is none."""
        found: Any = self.content
        for key in keys:
            found = found.get(key) if isinstance(found, dict) else None
        return found if isinstance(found, dict) else {}

    @property
    def recorded(self) -> dict[str, Any]:
        """Settings of the run that wrote it, as plain values; empty if it has none."""
        return self.part(*RECORDED)

    def load_into(self, model: torch.nn.Module) -> None:
        """Loads the weights. Raises CheckpointError if they are not of this model."""
        try:
            model.load_state_dict(self.content["state_dict"])
        except (RuntimeError, LookupError, TypeError, ValueError, AttributeError) as error:
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            remedy = "name another with --ckpt_path, or its model with --model.network"
            raise CheckpointError(f"{self.path} is not a checkpoint of this model ({reason}); {remedy}") from error


def read(path: Path) -> Checkpoint:
    """Loads tensors and plain types, and runs no code. Raises CheckpointError, which names whole files beside it."""
    content: Any = None
    try:
        changed_ns = path.stat().st_mtime_ns
        reason = damage(path)
        content = content if reason else torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # an arbitrary file may raise anything
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        return Checkpoint(path, content, changed_ns)
    whole = [str(other) for other in sorted(path.parent.glob("*.ckpt")) if other != path and not damage(other)]
    beside = f"; whole ones beside it: {', '.join(whole)}" if whole else ""
    reason = reason or "it has no state_dict"
    raise CheckpointError(f"{path} is not a whole checkpoint ({reason}): name another with --ckpt_path{beside}")


def damage(path: Path) -> str | None:
    """What is wrong with the file by its checksums, which `torch.load` does not verify."""
    try:
        with zipfile.ZipFile(path) as archive:
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                return "its parts are compressed, as PyTorch's never are"
            part = archive.testzip()
            return f"the checksum of its part {part} does not match" if part else None
    except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError) as error:
        return str(error)


class DurableCheckpointIO(TorchCheckpointIO):
    """Lightning's way to checkpoint files. One that cannot be written leaves the one before as it is."""

    def __init__(self, opened: Checkpoint | None = None) -> None:
        self._opened = opened  # the one to resume from, which is not read again
        self.problems: dict[Path, str] = {}  # what was wrong with the newest checkpoint of a path

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: dict[str, Any] | None = None
    ) -> None:
        """Writes `checkpoint`, with the entries of `storage_options` in place of its own."""
        path, run, content = Path(path), Run(Path(path).parent.parent), io.BytesIO()
        torch.save({**checkpoint, **(storage_options or {})}, content)
        try:
            with replacing(path, previous=run.previous if path == run.last else None) as stream:
                stream.write(content.getbuffer())
        except OSError as error:
            free = shutil.disk_usage(path.parent).free if path.parent.is_dir() else 0
            problem = f"cannot save {path}: {error.strerror}, {free:,} bytes free, {content.tell():,} needed"
            if not self.problems:
                warnings.warn(f"{problem}; training continues, the checkpoint before it is kept", stacklevel=2)
            self.problems[path] = problem
        else:
            self.problems.pop(path, None)

    def load_checkpoint(self, path: str | Path, *args: Any, **kwargs: Any) -> dict[str, Any]:
        opened, self._opened = self._opened, None  # later the file may have another content
        return opened.content if opened and opened.path == Path(path) else read(Path(path)).content

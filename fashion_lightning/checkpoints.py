"""Runs and their checkpoints: found by name, and read with distrust."""

import zipfile
from pathlib import Path
from typing import Any

from fashion_lightning.errors import UserError

LOGS = "lightning_logs"
BEST, LAST, PREVIOUS = "best.ckpt", "last.ckpt", "previous.ckpt"  # the last one is the `last` before


class CheckpointError(UserError):
    """There is no such checkpoint, or it is none; the message says what there is."""


def runs(root: Path) -> list[Path]:
    """Run folders under `root`, newest first."""
    folders = [path for path in (root / LOGS).glob("version_*") if path.name[8:].isdecimal()]
    return sorted(folders, key=lambda path: int(path.name[8:]), reverse=True)


def find(name: str, root: Path, of_run: str = "best") -> Path:
    """The checkpoint that `name` means.

    Args:
        name: `best` or `last`, of the newest run that has one; `run:N`, that of run N; or a path.
        root: The folder that holds `lightning_logs`.
        of_run: Whether `run:N` means its `best` or its `last`.

    Raises:
        CheckpointError: There is no such file.
    """
    files = {"best": [BEST], "last": [LAST, PREVIOUS]}
    if name in files:
        paths = [run / "checkpoints" / file for run in runs(root) for file in files[name]]
    elif name.startswith("run:"):
        paths = [root / LOGS / f"version_{name[4:]}" / "checkpoints" / file for file in files[of_run]]
    else:
        paths = [Path(name)]
    for path in paths:
        if path.is_file():
            return path
    there = ", ".join(run.name for run in runs(root) if (run / "checkpoints" / "best.ckpt").is_file()) or "none"
    raise CheckpointError(
        f"--ckpt_path {name}: expected best, last, run:N or the path of a checkpoint, found no such file; "
        f"runs with a checkpoint in {root / LOGS}: {there}; to make one: python -m fashion_lightning.fit"
    )


def run_of(checkpoint: Path) -> Path | None:
    """The folder of the run that wrote `checkpoint`, if that is where it lies."""
    run = checkpoint.parent.parent
    return run if (run / "config.yaml").is_file() else None


def read(path: Path) -> dict[str, Any]:
    """Content of a checkpoint on the CPU: tensors and plain types, whatever the file would like to be loaded as.

    Raises:
        CheckpointError: It is damaged or something else; the message names good ones beside it.
    """
    import torch  # seconds, for which `runs` does not wait

    try:
        reason = _damage(path)
        content = None if reason else torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # anything may come out of a file of anything
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    if not reason and not (isinstance(content, dict) and isinstance(content.get("state_dict"), dict)):
        reason = "it has no state_dict"
    if not reason:
        return content
    good = [str(other) for other in sorted(path.parent.glob("*.ckpt")) if other != path and not _damage(other)]
    beside = f"; good ones beside it: {', '.join(good)}" if good else ""
    raise CheckpointError(f"{path} is not a whole checkpoint ({reason}): name another with --ckpt_path{beside}")


def _damage(path: Path) -> str | None:
    """What is wrong with the file by its checksums, which `torch.load` does not look at."""
    try:
        with zipfile.ZipFile(path) as archive:
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                return "its parts are compressed, as PyTorch's never are"
            part = archive.testzip()
            return f"the checksum of its part {part} does not match" if part else None
    except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError) as error:
        return str(error)

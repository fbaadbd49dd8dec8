"""Runs and their checkpoints by name. Knows folders, not what is in a checkpoint."""

from pathlib import Path

from fashion_lightning.errors import UserError

LOGS = "lightning_logs"
BEST, LAST, PREVIOUS = "best.ckpt", "last.ckpt", "previous.ckpt"  # the last one is the `last` before


class CheckpointError(UserError):
    """There is no such checkpoint; the message says what there is."""


def runs(root: Path) -> list[Path]:
    """Run folders under `root`, newest first."""
    folders = [path for path in (root / LOGS).glob("version_*") if path.name[8:].isdecimal()]
    return sorted(folders, key=lambda path: int(path.name[8:]), reverse=True)


def find(name: str, root: Path) -> Path:
    """The checkpoint that `name` means.

    Args:
        name: `best` or `last`, of the newest run that has one; `run:N`, the best of run N; or a path.
        root: The folder that holds `lightning_logs`.

    Raises:
        CheckpointError: There is no such file.
    """
    if name in ("best", "last"):
        paths = [
            run / "checkpoints" / file
            for run in runs(root)
            for file in (f"{name}.ckpt", PREVIOUS)[: 1 + (name == "last")]
        ]
    elif name.startswith("run:"):
        paths = [root / LOGS / f"version_{name[4:]}" / "checkpoints" / "best.ckpt"]
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

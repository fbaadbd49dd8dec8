"""Runs and their folders: `lightning_logs/version_N` and what is in it. Knows paths, not contents."""

from pathlib import Path

from fashion_lightning.errors import CheckpointError

LOGS, PREFIX = "lightning_logs", "version_"


class Run:
    """One training: the paths in its folder, whether the files are there or not."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.figures, self.checkpoints = folder, folder / "figures", folder / "checkpoints"
        self.config, self.metrics = folder / "config.yaml", folder / "metrics.csv"
        self.results = folder / "results.json"
        self.previous_results = folder / "previous_results.json"  # of a finished run that was then trained longer
        self.best, self.last = self.checkpoints / "best.ckpt", self.checkpoints / "last.ckpt"
        self.previous = self.checkpoints / "previous.ckpt"  # the `last` before

    @property
    def number(self) -> int:
        return int(self.folder.name.removeprefix(PREFIX))

    def files(self, kind: str) -> list[Path]:
        """The checkpoints that `best` or `last` may mean, first choice first."""
        return [path for path in ([self.best] if kind == "best" else [self.last, self.previous]) if path.is_file()]


def runs(root: Path) -> list[Run]:
    """Runs under `root`, newest first."""
    folders = [path for path in (root / LOGS).glob(f"{PREFIX}*") if path.name.removeprefix(PREFIX).isdecimal()]
    return sorted(map(Run, folders), key=lambda run: run.number, reverse=True)


def newest_run(root: Path) -> Run | None:
    """The newest run of this program; one without settings was killed at once, unless it has checkpoints."""
    return next((run for run in runs(root) if run.config.is_file() or not list(run.checkpoints.glob("*"))), None)


def run_of(checkpoint: Path) -> Run | None:
    """The run that wrote `checkpoint`, if it is still in that run's folder."""
    run = Run(checkpoint.parent.parent)
    return run if run.config.is_file() else None


def find_checkpoint(name: str, root: Path, of_run: str = "best") -> Path:
    """The checkpoint that `name` means, of the runs in `root/lightning_logs`.

    `best` and `last` mean those of the newest run that has one; `run:N` means the `of_run` of run N; the rest are
    paths. Raises CheckpointError if there is no such file.
    """
    if name in ("best", "last"):
        found = [path for run in runs(root) for path in run.files(name)]
    elif name.startswith("run:"):
        found = Run(root / LOGS / f"{PREFIX}{name[4:]}").files(of_run)
    else:
        found = [Path(name)] if Path(name).is_file() else []
    if found:
        return found[0]
    there = ", ".join(run.folder.name for run in runs(root) if run.best.is_file()) or "none"
    raise CheckpointError(
        f"--ckpt_path {name}: expected best, last, run:N or the path of a checkpoint, found no such file; "
        f"runs with a checkpoint in {root / LOGS}: {there}; to make one: python -m fashion_lightning.fit"
    )

"""Runs and their folders: `lightning_logs/version_N` and what is in it. Knows paths, and of contents only the mark."""

import contextlib
from pathlib import Path

from fashion_lightning.errors import CheckpointError

LOGS, PREFIX = "lightning_logs", "version_"
MARK = "fashion_lightning=="  # with the version, in a comment of `config.yaml`: the folder is one of this program
MAX_CHARACTERS = 2**20  # read of a `config.yaml` to find the mark


class Run:
    """One training: the paths in its folder, whether the files are there or not."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.figures, self.checkpoints = folder, folder / "figures", folder / "checkpoints"
        self.config, self.metrics = folder / "config.yaml", folder / "metrics.csv"
        self.results, self.lock = folder / "results.json", folder / "fit.lock"
        self.previous_results = folder / "previous_results.json"  # of a finished run that was then trained longer
        self.best, self.last = self.checkpoints / "best.ckpt", self.checkpoints / "last.ckpt"
        self.previous = self.checkpoints / "previous.ckpt"  # the `last` before

    @property
    def number(self) -> int:
        return int(self.folder.name.removeprefix(PREFIX))

    @property
    def is_ours(self) -> bool:
        """Whether this program made the folder, by the text of its `config.yaml`, if that can be known."""
        try:
            with open(self.config, errors="replace") as stream:
                lines = stream.read(MAX_CHARACTERS).splitlines()
        except PermissionError:
            return True  # then an error says what cannot be read, instead of another run being taken in its place
        except OSError:
            return False
        # Versions 0.1.0 and 0.2.0 wrote no mark, but keys of their own.
        keys = {"data:", "inspect:"} <= set(lines) and any(line.startswith("  split_seed:") for line in lines)
        return keys or any(line.startswith(f"# {MARK}") for line in lines)

    @property
    def has_lost_settings(self) -> bool:
        """Whether there are checkpoints, all named like this program's, but no settings of it."""
        found = {path.name for path in self.checkpoints.glob("*.ckpt")}
        return bool(found) and found <= {self.best.name, self.last.name, self.previous.name} and not self.is_ours

    def files(self, kind: str) -> list[Path]:
        """The checkpoints that `best` or `last` may mean, first choice first."""
        return [path for path in ([self.best] if kind == "best" else [self.last, self.previous]) if path.is_file()]


def runs(root: Path) -> list[Run]:
    """Runs of this program under `root`, newest first."""
    return [run for run in _numbered(root) if run.is_ours]


def newest_run(root: Path) -> Run | None:
    """Raises CheckpointError if a newer one has checkpoints, but lost its settings."""
    for run in _numbered(root):
        if run.is_ours:
            return run
        if run.has_lost_settings:
            raise CheckpointError(_lost(run))
    return None


def make_run(root: Path) -> Run:
    """A new run, whose folder is made here: of processes that do this at the same time, each gets its own."""
    while True:
        number = max((run.number for run in _numbered(root)), default=-1) + 1
        run = Run(root / LOGS / f"{PREFIX}{number}")
        run.folder.parent.mkdir(parents=True, exist_ok=True)
        # Another process may make the same folder, or remove that of all runs after a start that failed.
        with contextlib.suppress(FileExistsError, FileNotFoundError):
            run.folder.mkdir()
            return run


def run_of(checkpoint: Path) -> Run | None:
    """The run that wrote `checkpoint`, if it is still in that run's folder."""
    run = Run(checkpoint.parent.parent)
    return run if run.is_ours else None


def find_checkpoint(name: str, root: Path, of_run: str = "best") -> Path:
    """The checkpoint that `name` means, of the runs in `root/lightning_logs`.

    `best` and `last` mean those of the newest run that has one; `run:N` means the `of_run` of run N; the rest are
    paths. Raises CheckpointError if there is no such file.
    """
    if name in ("best", "last"):
        found = [path for run in runs(root) for path in run.files(name)]
    elif name.startswith("run:"):
        run = Run(root / LOGS / f"{PREFIX}{name[4:]}")
        if run.has_lost_settings:
            raise CheckpointError(_lost(run))
        found = run.files(of_run) if run.is_ours else []
    else:
        found = [Path(name)] if Path(name).is_file() else []
    if found:
        return found[0]
    there = ", ".join(run.folder.name for run in runs(root) if run.best.is_file()) or "none"
    raise CheckpointError(
        f"--ckpt_path {name}: expected best, last, run:N or the path of a checkpoint, found no such file; "
        f"runs with a checkpoint in {root / LOGS}: {there}; to make one: python -m fashion_lightning.fit"
    )


def _numbered(root: Path) -> list[Run]:
    """What is named like a run, newest first."""
    paths = [path for path in (root / LOGS).glob(f"{PREFIX}*") if path.name.removeprefix(PREFIX).isdecimal()]
    return sorted(map(Run, paths), key=lambda run: run.number, reverse=True)


def _lost(run: Run) -> str:
    """What is there of a run whose settings are not, and what to do."""
    problem = f"{run.config} holds no settings of this program" if run.config.is_file() else "no config.yaml"
    path = next(path for path in (run.last, run.previous, run.best) if path.is_file())
    remedy = f"restore that file, or name a checkpoint and the flags of the run: --ckpt_path {path}"
    return f"{run.folder} has checkpoints, but {problem}: {remedy}"

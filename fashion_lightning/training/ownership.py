"""The run folder of a fit: nobody else's while it works, and as it was before if it fails before its first step."""

import contextlib
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.loggers import Logger

from fashion_lightning.errors import UserError
from fashion_lightning.storage.locking import locked
from fashion_lightning.storage.run_folders import LOGS, Run, make_run
from fashion_lightning.storage.whole_files import PART, replacing
from fashion_lightning.training.stopping import SignalStop

# What is made, replaced or removed in a run folder before the first step.
FILES_OF_A_START = [
    *("config.yaml", "hparams.yaml", "metrics.csv", "results.json", "previous_results.json"),
    *("events.out.tfevents.*", "figures/*.png", f"checkpoints/*{PART}"),
]


class Ownership:
    """Takes the folder of a run, makes that of a new one, and gives the trainer the loggers that write into it."""

    def __init__(
        self,
        root: Path,
        resumed: Run | None,
        config: str,
        loggers_of: Callable[[Run], list[Logger]] | None,
        stop: SignalStop,
    ) -> None:
        self._root, self._resumed, self._stop = root, resumed, stop
        self._config = config  # content of `config.yaml`, which marks the folder
        self._loggers_of = loggers_of  # None: the folder is that of a logger that the trainer has

    @contextlib.contextmanager
    def during(self, trainer: Trainer, model: LightningModule, first_step: int) -> Iterator[None]:
        """For a fit that starts after `first_step` steps. The first of several processes does it for all.

        Raises UserError if another fit works in the folder, or if it is the folder of another program.
        """
        if not trainer.is_global_zero or trainer.fast_dev_run:  # type: ignore[attr-defined]  # set by Lightning
            yield
            return
        self._stop.setup(trainer, model, "fit")  # from here on, a signal must not end the process at once
        try:
            with self._owned(trainer, first_step):
                yield
        finally:
            self._stop.teardown(trainer, model, "fit")

    @contextlib.contextmanager
    def _owned(self, trainer: Trainer, first_step: int) -> Iterator[None]:
        run, made = self._take_folder(trainer)
        if not run:
            yield
            return
        with locked(run.lock), _undone(run, made, unless=lambda: trainer.global_step > first_step):
            if not run.is_ours:
                with replacing(run.config) as stream:
                    stream.write(self._config.encode())
            if self._loggers_of:
                trainer.loggers = self._loggers_of(run)
            yield

    def _take_folder(self, trainer: Trainer) -> tuple[Run | None, list[Path]]:
        """The run, if a folder is written at all, and what was made for it, the inner folder first."""
        if self._loggers_of and self._resumed:
            return self._resumed, []
        if self._loggers_of:
            around = _missing(self._root / LOGS)
            run = make_run(self._root)
            return run, [run.folder, *around]
        log_dir = trainer.log_dir if trainer.loggers else None
        if not log_dir:
            return None, []
        run = Run(Path(log_dir))
        others = [path for path in run.folder.glob("*") if path != run.lock]
        if others and not run.is_ours:
            raise UserError(f"--trainer.logger: expected a folder of its own, but in {run.folder} are other files")
        made = _missing(run.folder)
        run.folder.mkdir(parents=True, exist_ok=True)
        if made:  # it is not empty only because it is marked
            warnings.filterwarnings("ignore", "Experiment logs directory .* exists and is not empty")
        return run, made


def _missing(folder: Path) -> list[Path]:
    """The folders to make before there is `folder`, the inner one first."""
    return [path for path in (folder, *folder.parents) if not path.exists()]


@contextlib.contextmanager
def _undone(run: Run, made: list[Path], unless: Callable[[], bool]) -> Iterator[None]:
    """Whatever fails, leaves the folder as it was, and none that was `made`, unless the work has begun."""
    before = {} if made else _contents(run)
    try:
        yield
    except BaseException:
        if unless():
            raise
        if made:
            shutil.rmtree(run.folder)
            for folder in made[1:]:
                with contextlib.suppress(OSError):  # another run is in it
                    folder.rmdir()
        else:
            _restore(run, before)
        raise


def _contents(run: Run) -> dict[Path, bytes]:
    paths = (path for pattern in FILES_OF_A_START for path in run.folder.glob(pattern))
    return {path: path.read_bytes() for path in paths if path.is_file()}


def _restore(run: Run, before: dict[Path, bytes]) -> None:
    now = _contents(run)
    for path in now.keys() - before.keys():
        path.unlink()
    for path, content in before.items():
        if now.get(path) != content:
            with replacing(path) as stream:
                stream.write(content)
    with contextlib.suppress(OSError):
        run.figures.rmdir()

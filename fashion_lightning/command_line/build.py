"""Settings to objects: model, data, the Trainer with its callbacks, and the job that gets them."""

import contextlib
import ctypes
import functools
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TextIO

import pytorch_lightning as pl
import torch
from jsonargparse import Namespace
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger
from pytorch_lightning.loggers.logger import DummyLogger

from fashion_lightning.classifier import AT_TEST
from fashion_lightning.command_line import checks
from fashion_lightning.command_line.settings import Settings
from fashion_lightning.data import pictures
from fashion_lightning.errors import UserError
from fashion_lightning.jobs.demo import Demo
from fashion_lightning.jobs.fit import Fit
from fashion_lightning.jobs.predict import Predict
from fashion_lightning.jobs.start import Start
from fashion_lightning.jobs.test import Test
from fashion_lightning.reports import model_card
from fashion_lightning.reports.inspection import Inspection
from fashion_lightning.reports.logits import EvaluationLogits
from fashion_lightning.reports.sheet import pages
from fashion_lightning.storage.run_folders import LOGS, Run
from fashion_lightning.training import checkpointing, determinism, ownership, record, resuming, stopping, turns

if TYPE_CHECKING:
    from fashion_lightning.jobs.export import Export

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


class RunFolder(DummyLogger):
    """Tells Lightning the run folder and logs nothing, for `--trainer.logger false`."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self._run = run

    @property
    def save_dir(self) -> str:
        return str(self._run.folder)


class Curves(TensorBoardLogger):
    """Logs none of the values whose charts would come above the curves: Lightning's `epoch`, and what is of the end."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        super().log_metrics({n: v for n, v in metrics.items() if n != "epoch" and not n.startswith("test/")}, step)


def fit(settings: Settings) -> Fit:
    made, start, flags = _instantiate(settings), settings.start, settings.config.trainer
    made.data.with_test = settings.config.evaluate_test
    stop, text = stopping.SignalStop(), settings.yaml
    run_record = record.RunRecord(text, settings.recipe, start.departures, flags.max_time)
    # The folder of these loggers is the run folder; others get one beside them, which is made with its logger.
    is_folder_given = isinstance(next(iter(_as_list(made.trainer.logger)), None), TensorBoardLogger | CSVLogger)
    makes_folder = not is_folder_given and not flags.barebones
    enabled = flags.enable_checkpointing is not False and not flags.fast_dev_run
    checkpoints = checkpointing.Checkpointing(stop, start.checkpoint, enabled)
    logits = EvaluationLogits()
    ours: list[pl.Callback] = [turns.Turns(), stop, run_record, logits, Inspection(made.inspect, logits, run_record)]
    ours += [determinism.ExactWherePossible(), stopping.FiniteLoss(), resuming.ExactResume(), checkpoints]
    of_user = any(isinstance(callback, Checkpoint) for callback in _as_list(made.trainer.callbacks))
    trainer = _trainer(
        made,
        ours,
        logger=DummyLogger() if makes_folder and isinstance(made.trainer.logger, bool | None) else made.trainer.logger,
        plugins=[*_as_list(made.trainer.plugins), checkpoints.io],
        enable_checkpointing=of_user and flags.enable_checkpointing is not False,  # or Lightning adds one of its own
    )
    checks.check_objects(trainer, made.model, made.data)
    checks.check_training(trainer, made.model, made.data)
    if not flags.fast_dev_run:
        checks.check_writable("--trainer.default_root_dir", start.run.folder if start.run else settings.root / LOGS)
    if _load(made.data, trainer):
        checks.check_batches(trainer, made.data)
    loggers_of = functools.partial(_loggers, made.trainer.logger, start) if makes_folder else None
    owner = ownership.Ownership(settings.root, start.run, text, loggers_of, stop)
    is_resume, evaluate_test = settings.config.get("resume", False), settings.config.evaluate_test
    objects = trainer, made.model, made.data, logits
    return Fit(*objects, run_record, checkpoints, start, owner, is_resume, evaluate_test)


def test(settings: Settings) -> Test:
    made = _instantiate(settings)
    run = settings.start.run if settings.start.is_best_of_run else None  # its figures are of nothing else
    logits = EvaluationLogits()
    callbacks = [turns.Turns(), logits, Inspection(made.inspect, logits, run=run), stopping.SignalStop()]
    trainer = _trainer(made, callbacks, logger=False, enable_checkpointing=False)
    _check_evaluation(settings, made, trainer)
    checks.check_compiler(trainer, made.model)
    if settings.start.checkpoint:
        made.data.trained_with = settings.start.checkpoint.part(type(made.data).__qualname__)
    _load(made.data, trainer)
    return Test(trainer, made.model, made.data, logits, settings.start)


def predict(settings: Settings) -> Predict:
    config = settings.config
    out = checks.check_output("--out", config.out, (".csv", ".json"))
    sheet = checks.check_output("--sheet", config.sheet, (".png",))
    found = pictures.find(config.pictures)
    sheets = pages(sheet, len(found.files)) if sheet else []
    for flag, paths in (("--out", [out] if out else []), ("--sheet", sheets)):
        checks.check_replaced(flag, paths, found.files, config.overwrite)
    made, trainer = _alone(settings, [stopping.SignalStop()])
    # A bar of Lightning's would not count what is skipped; on stdout, rich would print stderr there as well.
    progress = _shows_progress(made, sys.stderr)
    return Predict(trainer, made.model, made.data.eval_batch_size, settings.start, found, out, sheets, progress)


def export(settings: Settings) -> "Export":
    from fashion_lightning.jobs.export import Export  # which needs an extra

    out = checks.check_output("MODEL.onnx", settings.config.file, (".onnx",), makes_folder=True)
    if not out:
        raise UserError("MODEL.onnx: expected the name of a file to write, got none")
    checks.check_replaced("MODEL.onnx", [out], [], settings.config.overwrite)
    if not (card := model_card.place(out)):
        texts = f"README.md and {out.stem}.md in {out.parent} are other texts"
        raise UserError(f"MODEL.onnx: expected a place for its card, but {texts}: name a file in another folder")
    made, trainer = _alone(settings, accelerator="cpu", precision="32-true")
    if settings.start.checkpoint:
        made.data.trained_with = settings.start.checkpoint.part(type(made.data).__qualname__)
    _load(made.data, trainer)
    # The file is in float32, whatever the precision.
    departures = tuple(line for line in settings.start.departures if not line.startswith("--trainer.precision"))
    return Export(made.model, made.data, replace(settings.start, departures=departures), out, card)


def demo(settings: Settings) -> Demo:
    port = settings.config.port
    if not 0 <= port < 2**16:
        raise UserError(f"--port: expected 0 to {2**16 - 1}, got {port}")
    made, trainer = _alone(settings)
    return Demo(made.model, trainer.strategy.root_device, trainer.precision_plugin, settings.start, port)


def _alone(settings: Settings, callbacks: Sequence[pl.Callback] = (), **arguments: Any) -> tuple[Namespace, pl.Trainer]:
    """What evaluates in this process alone, and writes nothing."""
    made = _instantiate(settings)
    arguments |= {"devices": 1, "num_nodes": 1, "strategy": "auto", "logger": False, "enable_checkpointing": False}
    trainer = _trainer(made, list(callbacks), False, **arguments)
    _check_evaluation(settings, made, trainer)
    return made, trainer


def _check_evaluation(settings: Settings, made: Namespace, trainer: pl.Trainer) -> None:
    checks.check_objects(trainer, made.model, made.data)
    if any(line.startswith(tuple(f"--model.{name}" for name in AT_TEST)) for line in settings.start.departures):
        checks.warn_of_views(trainer, made.model)


def _instantiate(settings: Settings) -> Namespace:
    """The objects named by the settings: `model`, `data` and `inspect`; `trainer` holds the Trainer's arguments."""
    pl.seed_everything(settings.config.seed_everything, workers=True)
    tune_process()
    return settings.parser.instantiate_classes(settings.config)


def _shows_progress(made: Namespace, stream: TextIO) -> bool:
    """On a terminal, if the user does not mind."""
    return stream.isatty() and made.trainer.enable_progress_bar is not False and not made.trainer.barebones


def _trainer(made: Namespace, callbacks: list[pl.Callback], progress: bool = True, **arguments: Any) -> pl.Trainer:
    """With the user's arguments and callbacks, and these."""
    show_progress = progress and _shows_progress(made, sys.stdout)
    bar = [record.ProgressBar(refresh_rate=50)] if show_progress else []  # steps from one drawing to the next
    arguments |= {"enable_progress_bar": show_progress}
    arguments |= {"callbacks": [*callbacks, *_as_list(made.trainer.callbacks), *bar]}
    if made.trainer.barebones:  # Lightning refuses what it does without
        arguments |= {"log_every_n_steps": None}
    trainer = pl.Trainer(**{**vars(made.trainer), **arguments})
    # Lightning converts it after it has loaded a checkpoint, which may need the precision.
    trainer.precision_plugin.convert_module(made.model)
    return trainer


def _loggers(chosen: Logger | list[Logger] | bool | None, start: Start, run: Run) -> list[Logger]:
    """The user's, if any, after that of the folder of `run`, which is new or the one to resume."""
    if chosen is not True and chosen is not None:
        return [RunFolder(run), *(_as_list(chosen) if chosen else [])]
    # What an interrupted run has logged after its last checkpoint is dropped.
    purge: dict[str, Any] = {"purge_step": start.first_step} if start.run else {}
    folder: dict[str, Any] = {"save_dir": run.folder.parent, "name": "", "version": run.folder.name}
    return [Curves(**folder, default_hp_metric=False, **purge)]


def _load(data: pl.LightningDataModule, trainer: pl.Trainer) -> bool:
    """In the first process, before it starts others, which would report the same error, or wait for it."""
    environment = getattr(trainer.strategy, "cluster_environment", None)  # None for one process
    is_first = not environment or not environment.creates_processes_externally
    if is_first:
        data.setup("fit")
    return is_first


def _as_list(value: Any) -> list[Any]:
    """Of an argument of the Trainer that may be None, one object or a list."""
    return [] if value is None else list(value) if isinstance(value, list) else [value]


def tune_process() -> None:
    """Removes costs of every step without a change of results."""
    # Deterministic mode would fill fresh tensors before they are written.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # a property
    if not torch.cuda.is_available():
        # Lightning sets it for processes that fork beside a GPU; without one, Adam looks for its driver in every step.
        os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)
    # Keep the pages of freed tensors instead of faulting in fresh ones, where there is a glibc; see mallopt(3).
    with contextlib.suppress(AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_THRESHOLD, 2**25)  # the largest value it accepts
        mallopt(M_TRIM_THRESHOLD, 2**30)

"""The one command line of all jobs: flags, YAML, defaults, and what a user sees when something is wrong.

The assignment's numbers are the defaults of the classes that use them; the Trainer's are in `TRAINER_DEFAULTS`.
"""

import contextlib
import ctypes
import errno
import io
import logging
import os
import sys
import tempfile
import warnings
from argparse import ArgumentError
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from jsonargparse import Namespace
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning import Trainer
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger

from fashion_lightning import augmentation, checkpoints, networks, saving, schedules
from fashion_lightning.atomic import replacing
from fashion_lightning.callbacks import DEFAULT_CONFIG, ProgressBar, RunRecord
from fashion_lightning.classifier import FashionClassifier
from fashion_lightning.data import FashionMNISTDataModule
from fashion_lightning.errors import UserError, explain
from fashion_lightning.files import CLASSES, IMAGE_SIZE
from fashion_lightning.inspection import Inspection
from fashion_lightning.saving import Keeper
from fashion_lightning.stopping import FiniteLoss, Stopper

TRAINER_DEFAULTS = {
    "max_epochs": 5,
    "devices": 1,  # every number of GPUs found by "auto" would be another experiment
    "deterministic": True,
    "use_distributed_sampler": False,  # the data module shares the batches out, without padding
    "log_every_n_steps": 100,
    "enable_model_summary": False,  # the heading says it in a line
}

# Warnings of a sound run, each with what makes it harmless.
HARMLESS = {
    r".*LeafSpec.* is deprecated": "Lightning 2.6 uses what torch 2.10 deprecated",
    r"(?s).*(By default only one Jsonargparse|deprecated\s+in\s+v4\.)": "and what jsonargparse 4 deprecated",
    r".*does not have many workers": "a batch is one index operation, and workers would only be in its way",
    r"The number of training batches .* is smaller than the logging interval": "means are logged every epoch",
    r"It is recommended to use `self.log": "what is logged was counted over all processes",
    r"Total length of `list` across ranks is zero": "nothing is validated where all images are trained on",
    r".*your dataloader is not resumable": "it begins with the batch that the restored step says",
}


M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


# What a wrong setting raises while settings are read and objects are made of them; training has its own errors.
USER_ERRORS = (MisconfigurationException, ValueError, TypeError, OSError)


class RunFolder(CSVLogger):
    """A run's folder without a log in it, for `--trainer.logger false`."""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        pass

    def save(self) -> None:
        pass


class SaveConfig(SaveConfigCallback):
    """Lightning's, but that a kill leaves no half of a file, which would be other settings.

    The settings of a run that goes on are replaced when it does: they may yet be refused.
    """

    def setup(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        self._save(trainer, replace=False)

    def on_train_start(self, trainer: Trainer, *args: Any) -> None:
        self._save(trainer, replace=True)

    def _save(self, trainer: Trainer, replace: bool) -> None:
        log_dir = trainer.log_dir  # asks all processes
        if not log_dir or not trainer.is_global_zero:
            return
        path = Path(log_dir) / self.config_filename
        if replace or not path.exists():
            config = self.config.clone()
            config.pop("resume")  # says where to begin, not what to do, and only a fit knows it
            config.ckpt_path = None
            with replacing(path) as stream:
                stream.write(self.parser.dump(config, skip_none=False).encode())


class FashionCLI(LightningCLI):
    """Everything a job needs, from its command line: `trainer`, `model`, `datamodule`, `checkpoint`, and for a
    fit `record` and `keeper` of checkpoints.

    A job that starts from a checkpoint takes the settings of the checkpoint's run; flags win over them.

    Attributes:
        checkpoint: What the job starts from, if anything.
        run_folder: Of the run that goes on or that the checkpoint is of, if any.
        step: Optimiser steps that a fit has behind it.
        departures: Settings that are not those of that run.
    """

    def __init__(self, job: str, args: list[str] | None) -> None:
        self.job = job
        self.checkpoint: Path | None = None
        self.run_folder: Path | None = None
        self.step = 0
        self.departures: list[str] = []
        self.record: RunRecord | None = None
        self.keeper: Keeper | None = None
        super().__init__(
            FashionClassifier,
            FashionMNISTDataModule,
            run=False,  # the job is in the module's name
            args=args,
            trainer_defaults=TRAINER_DEFAULTS,
            auto_configure_optimizers=False,  # they are arguments of the model
            load_from_checkpoint_support=False,  # checkpoints hold no hyperparameters that could name code
            save_config_callback=SaveConfig,
            parser_kwargs={"allow_abbrev": False, "exit_on_error": False, "description": f"Fashion-MNIST: {job}"},
        )

    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        # Lightning's also takes true and false, which would be seed 0 and none.
        parser.add_argument("--seed_everything", type=int, default=0, help="Seed of the weights and of the order.")

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.link_arguments("seed_everything", "data.seed")
        parser.add_lightning_class_args(Inspection, "inspect")
        parser.add_argument(
            "--ckpt_path",
            type=str | None,
            default=None,
            help="Checkpoint to start from: best, last, run:N or a path.",
        )
        if self.job == "fit":
            parser.add_argument("--resume", action="store_true", help="Go on with the newest run, wherever it ended.")
        if self.job == "predict":
            parser.add_argument("pictures", nargs="*", help="Pictures, and folders of pictures.")
            parser.add_argument("--out", type=str | None, default=None, help="File for programs: .csv or .json.")
            parser.add_argument("--sheet", type=str | None, default=None, help="PNG that shows what the network saw.")

    def parse_arguments(self, parser: LightningArgumentParser, args: list[str] | None) -> None:
        args = sys.argv[1:] if args is None else args
        if "--help_all" in args:
            parser.print_help()
            raise SystemExit(0)
        self.config = _parse(parser, args)
        name = self.config.ckpt_path or ("best" if self.job != "fit" else None)
        root = Path(self.config.trainer.default_root_dir or ".")
        if self.config.get("resume"):
            self._find_newest(root)
        elif name:
            self.checkpoint = checkpoints.find(name, root, of_run="last" if self.job == "fit" else "best")
            self.run_folder = checkpoints.run_of(self.checkpoint)
        if self.run_folder and (self.run_folder / "config.yaml").is_file():
            settings = ["--config", str(self.run_folder / "config.yaml")]
            of_run, self.config = _parse(parser, settings), _parse(parser, [*settings, *args])
            self.departures = _departures(of_run, self.config)
        if self.config.get("resume") and not isinstance(self.config.trainer.logger, bool | None):
            raise UserError("--resume: expected no --trainer.logger of your own, whose folder is not known here")
        if self.checkpoint and self.job == "fit":
            content = checkpoints.read(self.checkpoint)
            if not content.keys() >= saving.PARTS:
                message = f"{self.checkpoint} holds weights, but no training to go on with: expected a save of a fit"
                raise checkpoints.CheckpointError(message)
            self.step = content["global_step"]
        seed = self.config.seed_everything
        if not 0 <= seed < 2**32:
            raise UserError(f"--seed_everything: expected 0 to {2**32 - 1}, got {seed}")

    def _find_newest(self, root: Path) -> None:
        """The newest run, and its last save that is whole.

        Raises:
            CheckpointError: None of its saves is whole; to begin anew would cost what else it has.
        """
        if self.config.ckpt_path:
            raise UserError("--resume: expected no --ckpt_path beside it, as it takes the last save of the newest run")
        for run in checkpoints.runs(root):
            # Without settings it was killed at once, or is of another program, which has checkpoints by other names.
            if (run / "config.yaml").is_file() or not list(run.glob("checkpoints/*")):
                self.run_folder = run
                break
        else:
            return
        paths = [self.run_folder / "checkpoints" / name for name in (checkpoints.LAST, checkpoints.PREVIOUS)]
        for path in (saves := [path for path in paths if path.is_file()]):
            try:
                checkpoints.read(path)
            except checkpoints.CheckpointError as error:
                if path == saves[-1]:
                    raise
                warnings.warn(f"{error}; going on from the save before it", stacklevel=2)
            else:
                self.checkpoint = path
                break

    @property
    def _config_name(self) -> str:
        """Names of the YAML files given, but for those that runs saved."""
        stems = [Path(os.fspath(path)).stem for path in self.config.config or []]
        return "+".join(stem for stem in stems if stem != "config") or DEFAULT_CONFIG

    def before_instantiate_classes(self) -> None:
        tune_process()

    def after_instantiate_classes(self) -> None:
        # What training would find is found before any data is loaded or any process is started.
        batch_size, processes = self.datamodule.batch_size, self.trainer.world_size
        if batch_size % processes:
            raise UserError(f"--data.batch_size: expected a multiple of the {processes} processes, got {batch_size}")
        if self.trainer.overfit_batches:
            raise UserError("--trainer.overfit_batches: expected 0, as batches here are not redrawn from single images")
        for departure in self.departures if self.job == "fit" else []:
            if departure.startswith(("--model.optimizer", "--model.lr_scheduler")):
                raise UserError(f"{departure}: training goes on with the optimiser and schedule it began with")
        self._check_validation()
        self._try_network()
        try:
            schedule = self.model.configure_optimizers()["lr_scheduler"]["scheduler"]
        except (ValueError, TypeError) as error:
            raise UserError(f"--model.optimizer, --model.lr_scheduler: {error}") from error
        if isinstance(schedule, torch.optim.lr_scheduler.ReduceLROnPlateau):
            raise UserError("--model.lr_scheduler: expected a schedule by the step, got ReduceLROnPlateau")
        if self.job == "fit" and not self.trainer.fast_dev_run:
            _check_writable(self.run_folder or Path(self.trainer.default_root_dir, checkpoints.LOGS))
        if self.job != "predict" and "LOCAL_RANK" not in os.environ:
            self.datamodule.setup()  # before there are others who would find the same, or wait for it

    def _check_validation(self) -> None:
        accumulate, interval = self.trainer.accumulate_grad_batches, self.trainer.val_check_interval
        if accumulate > 1 and interval != 1.0 and not (isinstance(interval, int) and interval % accumulate == 0):
            expected = f"a multiple of the {accumulate} --trainer.accumulate_grad_batches"
            raise UserError(f"--trainer.val_check_interval: expected {expected}, got {interval}")

    def _try_network(self) -> None:
        try:
            with torch.no_grad(), torch.random.fork_rng():
                logits = self.model.eval()(torch.zeros(2, 1, *IMAGE_SIZE))
        except Exception as error:  # a network of the user's own may raise anything
            raise UserError(f"--model.network: cannot use images (B, 1, 28, 28): {error}") from error
        self.model.train()
        if logits.shape != (2, len(CLASSES)):
            expected = f"logits (B, {len(CLASSES)}) for images (B, 1, 28, 28)"
            raise UserError(f"--model.network: expected {expected}, got {tuple(logits.shape)} for B = 2")

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        settings = self.config_init.trainer
        root = settings.default_root_dir or ""
        folder = {"save_dir": root, "name": checkpoints.LOGS}
        if self.run_folder:  # training goes on where it was
            folder = {"save_dir": self.run_folder.parent, "name": "", "version": self.run_folder.name}
        stopper = Stopper()
        callbacks = [stopper]
        show_progress = sys.stdout.isatty() and settings.enable_progress_bar is not False
        if show_progress:
            callbacks.append(ProgressBar(refresh_rate=50))
        self.config_init.inspect.folder = self.run_folder
        if self.job != "fit":
            self.save_config_callback = None
            kwargs |= {"logger": False, "enable_checkpointing": False}
            if self.job == "predict":
                kwargs |= {"devices": 1, "num_nodes": 1, "strategy": "auto"}
        else:
            if settings.logger in (None, True):
                purge = {"purge_step": self.step} if self.run_folder else {}  # what a killed run logged after its save
                kwargs["logger"] = TensorBoardLogger(**folder, default_hp_metric=False, **purge)
            elif settings.logger is False:
                kwargs["logger"] = RunFolder(**folder)
            keep = settings.enable_checkpointing is not False and not settings.fast_dev_run
            self.record = RunRecord(settings.max_time, self._config_name)
            self.keeper = Keeper(stopper, keep)
            callbacks += [self.record, FiniteLoss(), self.keeper]
            kwargs["enable_checkpointing"] = True  # the keeper counts as a checkpoint callback, even if it keeps none
            others = settings.plugins or []
            kwargs["plugins"] = [*(others if isinstance(others, list) else [others]), self.keeper.io]
        self.trainer_defaults = {**TRAINER_DEFAULTS, "callbacks": callbacks}
        return super().instantiate_trainer(**kwargs, enable_progress_bar=show_progress)


def tune_process() -> None:
    """Takes away what costs time in every step and changes no result."""
    # Deterministic mode would fill fresh tensors before they are written.
    torch.utils.deterministic.fill_uninitialized_memory = False
    if not torch.cuda.is_available():
        # Lightning sets it for processes that fork beside a GPU; without one, Adam looks for its driver in every step.
        os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)
    # Keep the pages of freed tensors instead of faulting in fresh ones, where there is a glibc; see mallopt(3).
    with contextlib.suppress(AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_THRESHOLD, 2**25)  # the largest it accepts
        mallopt(M_TRIM_THRESHOLD, 2**30)


def _check_writable(folder: Path) -> None:
    """Raises UserError if files cannot be written there; better now than at the first save."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise UserError(
            f"--trainer.default_root_dir: expected a folder to write to, but {folder}: {error.strerror}"
        ) from error


def _parse(parser: LightningArgumentParser, args: list[str]) -> Namespace:
    try:
        return parser.parse_args(args)
    except ArgumentError as error:
        modules = (torch.optim, torch.optim.lr_scheduler, networks, augmentation, schedules)
        classes = [name for module in modules for name in vars(module)]
        raise UserError(explain(str(error), [*parser.get_defaults().keys(), *classes])) from error


def _departures(of_run: Namespace, config: Namespace) -> list[str]:
    """What is another than it was in the run of the checkpoint, but for where to look and what to predict."""
    before, now = of_run.as_flat().__dict__, config.as_flat().__dict__
    groups = ("seed_everything", "model.", "data.", "trainer.")
    keys = [key for key in now if key.startswith(groups) and now[key] != before.get(key)]
    keys = [key for key in keys if key not in ("data.seed", "trainer.default_root_dir")]  # the first is seed_everything
    return [f"--{key}: {now[key]}, in the run of the checkpoint {before.get(key)}" for key in keys]


def _show_warning(message: Warning | str, *details: Any) -> None:
    print(f"warning: {' '.join(str(message).split())}", file=sys.stderr)


def run(body: Callable[[FashionCLI], Any], args: list[str] | None) -> Any:
    """Does the job `body` with what `args` (default: the command line) say.

    Raises:
        UserError: They are wrong, or the data or a checkpoint is.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # a log shows an epoch when it is done, and keeps it after a kill
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        for message in HARMLESS:
            warnings.filterwarnings("ignore", message)
        warnings.showwarning = _show_warning
        try:
            cli = FashionCLI(body.__name__, args)
        except USER_ERRORS as error:
            raise UserError(explain(str(error), known=[])) from error
        try:
            return body(cli)
        except MisconfigurationException as error:
            raise UserError(explain(str(error), known=[])) from error
        except Exception as error:
            if not _is_of_full_disk(error):
                raise
            raise saving.SaveError(f"{os.strerror(errno.ENOSPC)}: make room, and go on with --resume") from error


def _is_of_full_disk(error: BaseException | None) -> bool:
    """Whether that is the cause, which TensorBoard's thread and Lightning wrap in other errors."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return error is not None and _is_of_full_disk(error.__cause__ or error.__context__)

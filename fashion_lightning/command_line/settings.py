"""Settings of fit, test and predict: their flags, YAML files, and the run that they start from. Makes no objects.

The assignment's numbers are defaults of the classes that the flags configure; the Trainer's are in `TRAINER_DEFAULTS`.
"""

import importlib.metadata
import json
import os
import sys
import warnings
from argparse import ArgumentError
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from jsonargparse import ActionConfigFile, Namespace
from jsonargparse.typing import register_type
from pytorch_lightning.cli import LightningArgumentParser

from fashion_lightning import augmentation, networks, schedules
from fashion_lightning.classifier import FashionClassifier
from fashion_lightning.command_line import class_defaults
from fashion_lightning.command_line.messages import explain
from fashion_lightning.data.module import FashionMNISTDataModule
from fashion_lightning.errors import CheckpointError, UserError
from fashion_lightning.jobs.start import Start
from fashion_lightning.reports.inspection import InspectionParts
from fashion_lightning.storage.checkpoints import TRAINING_STATE, Checkpoint, read
from fashion_lightning.storage.run_folders import MARK, Run, find_checkpoint, newest_run, run_of

TRAINER_DEFAULTS = {
    "max_epochs": 5,
    "devices": 1,  # "auto" would use every GPU, which is another experiment
    "deterministic": True,
    "use_distributed_sampler": False,  # the data module shares the batches, without padding
    "log_every_n_steps": 100,
    "enable_model_summary": False,  # the heading has it in a line
}
# Where classes are looked for by name.
MODULES = (torch.optim, torch.optim.lr_scheduler, networks, augmentation, schedules)
register_type(torch.device)  # an argument of callbacks, which a config could not hold otherwise
COMPARED = ("seed_everything", "model.", "data.", "trainer.")
# Of a run that is resumed: its optimiser state, or its best validation accuracy, would be of something else.
FIXED = ("--model.optimizer", "--model.lr_scheduler", "--model.mirror_at_test")
NOT_COMPARED = ("data.seed", "trainer.default_root_dir")  # the first is linked to seed_everything


@dataclass(frozen=True)
class Settings:
    parser: LightningArgumentParser  # of `config`; makes objects of it
    config: Namespace  # every setting; those of the run that the command starts from hold where no flag differs
    start: Start
    root: Path  # the folder that holds `lightning_logs`

    @property
    def recipe(self) -> str:
        """Names of the YAML files given, without those that runs saved; empty if there are none."""
        stems = [Path(os.fspath(path)).stem for path in self.config.config or []]
        return "+".join(stem for stem in stems if stem != "config")

    @property
    def evaluation(self) -> dict[str, Any]:
        """What an evaluation of the network depends on beside its weights, as plain values."""
        network = self.config.model.network.as_dict()
        return {"model.network": network, "trainer.precision": self.config.trainer.precision}

    @property
    def yaml(self) -> str:
        """What to train, without where to start: content of a run's `config.yaml`."""
        config = self.config.clone()
        config.pop("resume", None)
        config.ckpt_path = None
        return self.parser.dump(config, skip_unset=False)


def resolve(job: str, args: list[str] | None) -> Settings:
    """Settings of fit, test or predict from `args` (default: the command line). Raises UserError if any is wrong."""
    args = sys.argv[1:] if args is None else args
    parser = _make_parser(job)
    if "--help_all" in args:
        parser.print_help()
        raise SystemExit(0)
    config = _parse(parser, args)
    root = Path(config.trainer.default_root_dir or ".")
    checkpoint, run = _find_start(job, config, root)
    kept = ["--config", str(run.config)] if run and run.config.is_file() else []  # of the run or the checkpoint
    if checkpoint and job != "fit":
        kept += _evaluation(checkpoint)
    departures: tuple[str, ...] = ()
    if kept:
        source = run.config if run and run.config.is_file() else config.ckpt_path
        before, config = _parse_kept(parser, kept, source), _parse(parser, [*kept, *args])
        departures = _departures(before, config)
    if job == "fit":
        _check_resume(checkpoint, departures)
    elif checkpoint:
        _check_network(checkpoint, config)
    if config.get("resume") and not isinstance(config.trainer.logger, bool | None):
        raise UserError("--resume: expected no --trainer.logger of your own: its folder is not known here")
    if not 0 <= config.seed_everything < 2**32:
        raise UserError(f"--seed_everything: expected 0 to {2**32 - 1}, got {config.seed_everything}")
    return Settings(parser, config, Start(checkpoint, run, departures), root)


def _find_start(job: str, config: Namespace, root: Path) -> tuple[Checkpoint | None, Run | None]:
    """The checkpoint to start from, and the run that is resumed or that wrote it."""
    if config.get("resume"):
        if config.ckpt_path:
            raise UserError("--resume: expected no --ckpt_path beside it: it takes the last one of the newest run")
        return _last_of_newest(root)
    name = config.ckpt_path or ("best" if job != "fit" else None)
    if not name:
        return None, None
    path = find_checkpoint(name, root, of_run="last" if job == "fit" else "best")
    return read(path), run_of(path)


def _last_of_newest(root: Path) -> tuple[Checkpoint | None, Run | None]:
    """Raises CheckpointError if none is whole: to start from the beginning would overwrite what else the run has."""
    run = newest_run(root)
    if not run or not run.files("last"):
        return None, run
    *newer, oldest = run.files("last")
    for path in newer:
        try:
            return read(path), run
        except CheckpointError as error:
            warnings.warn(f"{error}; resuming from the checkpoint before it", stacklevel=2)
    return read(oldest), run


def _check_resume(checkpoint: Checkpoint | None, departures: tuple[str, ...]) -> None:
    """Raises UserError if training cannot be resumed from the checkpoint, or not with these settings."""
    if checkpoint and not checkpoint.content.keys() >= TRAINING_STATE:
        raise UserError(f"{checkpoint.path} holds weights but no training state: expected a checkpoint of a fit")
    for line in departures:
        if line.startswith(FIXED):
            raise UserError(f"cannot resume with another optimiser, schedule or evaluation: {line}")
    averaged = checkpoint.content["callbacks"].get("StochasticWeightAveraging", {}) if checkpoint else {}
    limits = [line for line in departures if line.startswith("--trainer.max_epochs")]
    if averaged.get("scheduler_state") and limits:
        raise UserError(f"cannot resume with StochasticWeightAveraging, whose schedule has begun, and {limits[0]}")


def _evaluation(checkpoint: Checkpoint) -> list[str]:
    """Flags for what the checkpoint says of its evaluation. Nothing that it names is imported but networks of ours."""
    content = checkpoint.content
    values = dict(_recorded(checkpoint))
    if not values.get("model.network", {}).get("class_path", "").startswith(f"{networks.__name__}."):
        values.pop("model.network", None)
    if "mirror_at_test" in content:
        values["model.mirror_at_test"] = content["mirror_at_test"]
    split = content.get(FashionMNISTDataModule.__qualname__, {})
    values |= {f"data.{name}": split[name] for name in ("val_fraction", "split_seed") if name in split}
    return [f"--{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in values.items()]


def _check_network(checkpoint: Checkpoint, config: Namespace) -> None:
    """Raises UserError if the checkpoint names another class of network than the settings."""
    network, now = _recorded(checkpoint).get("model.network"), config.model.network.class_path
    if network and network["class_path"] != now:
        arguments = "".join(f" --model.network.{name} {value}" for name, value in network.get("init_args", {}).items())
        named = f"--model.network {network['class_path']}{arguments}"
        raise UserError(f"{checkpoint.path} is of another network than {now}: if you trust its code, add {named}")


def _recorded(checkpoint: Checkpoint) -> dict[str, Any]:
    """`Settings.evaluation` of the run that wrote the checkpoint; empty if it was not written by a run."""
    return checkpoint.content.get("callbacks", {}).get("RunRecord", {}).get("evaluation", {})


def _departures(of_run: Namespace, config: Namespace) -> tuple[str, ...]:
    """Settings that differ from those of the run; of a class that was changed, no arguments."""
    keys = [key for key in vars(config.as_flat()) if key.startswith(COMPARED) and key not in NOT_COMPARED]
    differ = [key for key in keys if config[key] != of_run.get(key)]
    classes = tuple(key.removesuffix("class_path") for key in differ if key.endswith(".class_path"))
    lines = []
    for key in differ:
        if key.endswith(".class_path") or not key.startswith(classes):
            key = key.removesuffix(".class_path")
            now, before = _typed(config[key]), _typed(of_run.get(key))
            lines.append(f"--{key.replace('.init_args.', '.')}: {now}, in the run: {before}")
    return tuple(lines)


def _typed(value: object) -> str:
    """A value as on a command line, and of an object its class: by name where that is enough."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_typed, value))}]"
    if isinstance(value, Namespace) and "class_path" in value:
        name = value.class_path.rpartition(".")[2]
        return name if any(name in vars(module) for module in MODULES) else value.class_path
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)


def _make_parser(job: str) -> LightningArgumentParser:
    """LightningCLI's parser, with the flags of `job`."""
    name, version = f"python -m fashion_lightning.{job}", importlib.metadata.version("fashion_lightning")
    header = [f"{MARK}{version}", f"pytorch_lightning=={pl.__version__}"]
    parser = LightningArgumentParser(name, dump_header=header, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("-c", "--config", action=ActionConfigFile, help="YAML file with settings.")
    parser.add_argument("--seed_everything", type=int, default=0, help="Seed of the weights and of the order.")
    parser.add_lightning_class_args(pl.Trainer, "trainer")
    parser.set_defaults({f"trainer.{name}": value for name, value in TRAINER_DEFAULTS.items()})
    parser.add_lightning_class_args(FashionClassifier, "model")
    parser.add_lightning_class_args(FashionMNISTDataModule, "data")
    parser.link_arguments("seed_everything", "data.seed")
    parser.add_class_arguments(InspectionParts, "inspect")
    start_help = "Checkpoint to start from: best, last, run:N or a path."
    parser.add_argument("--ckpt_path", type=str | None, default=None, help=start_help)
    test_help = "Whether fit evaluates the test set at its end."
    parser.add_argument("--evaluate_test", type=bool, default=True, help=test_help)
    if job == "fit":
        parser.add_argument("--resume", action="store_true", help="Resume the newest run from its last checkpoint.")
    if job == "predict":
        parser.add_argument("pictures", nargs="*", help="Pictures, and folders of pictures.")
        parser.add_argument("--out", type=str | None, default=None, help="File for programs: .csv or .json.")
        parser.add_argument("--sheet", type=str | None, default=None, help="PNG with what the network gets.")
    return parser


def _parse_kept(parser: LightningArgumentParser, kept: list[str], source: Path | str) -> Namespace:
    """Raises UserError, which names the file that is wrong and not a flag."""
    try:
        return _parse(parser, kept)
    except UserError as error:
        remedy = "mend that file, or move it away and name a checkpoint and the flags of the run"
        raise UserError(f"cannot use the settings in {source}: {error}; {remedy}") from error


def _parse(parser: LightningArgumentParser, args: list[str]) -> Namespace:
    """Raises UserError, which names the flag or key and what was expected."""
    try:
        return class_defaults.parse(parser, args)
    except (ArgumentError, UnicodeDecodeError) as error:
        classes = [name for module in MODULES for name in vars(module)]
        line = explain(str(error), [*parser.get_defaults().keys(), *classes])
        raise UserError(_naming_the_file(line, str(error), parser, args)) from error


def _naming_the_file(line: str, message: str, parser: LightningArgumentParser, args: list[str]) -> str:
    """The line, after the name of the YAML file among `args` that has the same error on its own."""
    for flag, value in zip(args, [*args[1:], ""], strict=True):
        name = flag.removeprefix("--config=") if flag.startswith("--config=") else value
        if flag.startswith(("--config", "-c")) and Path(name).name not in line:
            try:
                class_defaults.parse(parser, ["--config", name])
            except (ArgumentError, UnicodeDecodeError) as error:
                if str(error) == message:
                    return f"{name}: {line}"
    return line

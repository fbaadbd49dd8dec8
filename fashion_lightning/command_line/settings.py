"""Settings of a command: its flags, YAML files, and the run that they start from. Makes no objects.

The assignment's numbers are defaults of the classes that the flags configure; the Trainer's are in `TRAINER_DEFAULTS`.
"""

import importlib.metadata
import os
import sys
from argparse import ArgumentError
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import yaml
from jsonargparse import ActionConfigFile, Namespace
from jsonargparse.typing import register_type
from pytorch_lightning.cli import LightningArgumentParser

from fashion_lightning.classifier import FashionClassifier
from fashion_lightning.command_line import class_defaults, starting, variants
from fashion_lightning.command_line.messages import explain
from fashion_lightning.data.module import FashionMNISTDataModule
from fashion_lightning.errors import UserError
from fashion_lightning.jobs.start import Start
from fashion_lightning.reports.inspection import InspectionParts
from fashion_lightning.storage.run_folders import MARK

TRAINER_DEFAULTS = {
    "max_epochs": 5,
    "devices": 1,  # "auto" would use every GPU, which is another experiment
    "deterministic": True,
    "use_distributed_sampler": False,  # the data module shares the batches, without padding
    "log_every_n_steps": 100,
    "enable_model_summary": False,  # the heading has it in a line
}
register_type(torch.device)  # an argument of callbacks, which a config could not hold otherwise


@dataclass(frozen=True)
class Settings:
    parser: LightningArgumentParser  # of `config`; makes objects of it
    config: Namespace  # every setting; those of the run that the command starts from hold where no flag differs
    start: Start
    root: Path  # the folder that holds `lightning_logs`
    args: tuple[str, ...]  # of the command line

    @property
    def recipe(self) -> str:
        """Names of the YAML files given, without those that runs saved; empty if there are none."""
        stems = [Path(os.fspath(path)).stem for path in self.config.config or []]
        return "+".join(stem for stem in stems if stem != "config")

    @property
    def yaml(self) -> str:
        """What to train, without where to start: content of a run's `config.yaml`."""
        return _yaml(self.parser, self.config)


def resolve(job: str, args: list[str] | None) -> Settings:
    """Settings of a command from `args` (default: the command line). Raises UserError if any is wrong."""
    args = sys.argv[1:] if args is None else args
    parser = _make_parser(job)
    if "--help_all" in args:
        parser.print_help()
        raise SystemExit(0)
    config = _parse(parser, args)
    root = Path(config.trainer.default_root_dir or ".")
    checkpoint, run = starting.find(job, config, root)
    of_run = ["--config", str(run.config)] if run and run.config.is_file() else []
    of_checkpoint = starting.flags_of_evaluation(checkpoint) if checkpoint and job != "fit" else []
    before = _complete(parser, checkpoint.recorded) if checkpoint else {}
    if of_run or of_checkpoint:
        kept = _parse_kept(parser, of_run, of_checkpoint, config.ckpt_path)
        before = yaml.safe_load(_yaml(parser, kept)) if of_run else before
        config = _parse(parser, [*of_run, *of_checkpoint, *args])
    departures: tuple[str, ...] = ()
    if before:
        compared = starting.COMPARED if of_run or job == "fit" else starting.OF_EVALUATION
        departures = starting.departures(before, yaml.safe_load(_yaml(parser, config)), compared)
    if job == "fit":
        starting.check_resume(checkpoint, departures)
    elif checkpoint:
        starting.check_network(checkpoint, config)
    if config.get("resume") and not isinstance(config.trainer.logger, bool | None):
        raise UserError("--resume: expected no --trainer.logger of your own: its folder is not known here")
    if not 0 <= config.seed_everything < 2**32:
        raise UserError(f"--seed_everything: expected 0 to {2**32 - 1}, got {config.seed_everything}")
    return Settings(parser, config, Start(checkpoint, run, departures), root, tuple(args))


def _make_parser(job: str) -> LightningArgumentParser:
    """LightningCLI's parser, with the flags of `job`."""
    name, version = f"python -m fashion_lightning.{job}", importlib.metadata.version("fashion_lightning")
    header = [f"{MARK}{version}", f"pytorch_lightning=={pl.__version__}"]
    parser = LightningArgumentParser(name, dump_header=header, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("-c", "--config", action=ActionConfigFile, help="YAML file with settings.")
    parser.add_argument("--seed_everything", type=int, default=0, help="Seed of the weights and of the order.")
    parser.add_lightning_class_args(pl.Trainer, "trainer")
    for action in parser._actions:  # of equal Unions `typing` keeps the first, maybe float | int: 1 batch would be 1.0
        if getattr(action, "_typehint", None) == int | float | None:
            action._typehint = int | float | None  # type: ignore[attr-defined]  # of jsonargparse's actions
    parser.set_defaults({f"trainer.{name}": value for name, value in TRAINER_DEFAULTS.items()})
    parser.add_lightning_class_args(FashionClassifier, "model")
    parser.add_lightning_class_args(FashionMNISTDataModule, "data")
    parser.link_arguments("seed_everything", "data.seed")
    parser.add_class_arguments(InspectionParts, "inspect")
    start_help = "Checkpoint to start from: best, last, run:N or a path."
    parser.add_argument("--ckpt_path", type=str | None, default=None, help=start_help)
    test_help = "Whether fit reads the test set and evaluates it at its end; of no meaning to other commands."
    parser.add_argument("--evaluate_test", type=bool, default=True, help=test_help)
    if job == "fit":
        parser.add_argument("--resume", action="store_true", help="Resume the newest run from its last checkpoint.")
    if job == "study":
        variants.add_flags(parser)
    if job == "predict":
        parser.add_argument("pictures", nargs="*", help="Pictures, folders, quoted patterns, or - for a list on stdin.")
        parser.add_argument("--out", type=str | None, default=None, help="File for programs: .csv or .json.")
        parser.add_argument("--sheet", type=str | None, default=None, help="PNG with what the network gets.")
        parser.add_argument("--overwrite", action="store_true", help="Replace existing files of --out and --sheet.")
    if job == "export":
        parser.add_argument("file", nargs="?", type=str | None, default=None, help="The ONNX file to write.")
        parser.add_argument("--overwrite", action="store_true", help="Replace an existing file.")
    if job == "demo":
        parser.add_argument("--port", type=int, default=8000, help="Of the page's address; 0 for any that is free.")
    return parser


def _yaml(parser: LightningArgumentParser, config: Namespace, skip_validation: bool = False) -> str:
    config = config.clone()
    for name in ("resume", *variants.FLAGS):
        config.pop(name, None)
    config.ckpt_path = None
    return parser.dump(config, skip_unset=False, skip_validation=skip_validation)


def _complete(parser: LightningArgumentParser, recorded: dict[str, Any]) -> dict[str, Any]:
    """With defaults for the settings that older versions did not have."""
    defaults = yaml.safe_load(_yaml(parser, parser.get_defaults(), skip_validation=True))  # pictures are missing
    groups = {name: {**defaults.get(name, {}), **value} for name, value in recorded.items() if isinstance(value, dict)}
    return {**recorded, **groups}


def _parse_kept(
    parser: LightningArgumentParser, of_run: list[str], of_checkpoint: list[str], checkpoint: str
) -> Namespace:
    """Raises UserError, which names the file that is wrong and not a flag."""
    source = of_run[-1] if of_run else checkpoint
    try:
        kept = _parse(parser, of_run)
        source = checkpoint
        return _parse(parser, [*of_run, *of_checkpoint]) if of_checkpoint else kept
    except UserError as error:
        remedy = "mend that file, or move it away and name a checkpoint and the flags of the run"
        raise UserError(f"cannot use the settings in {source}: {error}; {remedy}") from error


def _parse(parser: LightningArgumentParser, args: list[str]) -> Namespace:
    """Raises UserError, which names the flag or key and what was expected."""
    try:
        config = class_defaults.parse(parser, args)
    except (ArgumentError, UnicodeDecodeError) as error:
        classes = [name for module in starting.MODULES for name in vars(module)]
        line = explain(str(error), [*parser.get_defaults().keys(), *classes])
        raise UserError(_naming_the_file(line, str(error), parser, args)) from error
    for group, default in vars(parser.get_defaults()).items():
        found = config.get(group)
        names = vars(found).keys() if isinstance(found, Namespace) else set()  # the parser takes a number for a group
        if isinstance(default, Namespace) and not vars(default).keys() <= names:
            raise UserError(f"--config: expected names and values under {group}, as --print_config prints them")
    return config


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

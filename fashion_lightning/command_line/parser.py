"""The flags and YAML keys of fit, test and predict: those of the classes that they configure, and a few more.

The assignment's numbers are defaults of those classes; the Trainer's are in `TRAINER_DEFAULTS`.
"""

from argparse import ArgumentError

import pytorch_lightning as pl
import torch
from jsonargparse import ActionConfigFile, Namespace
from pytorch_lightning.cli import LightningArgumentParser

from fashion_lightning import augmentation, networks, schedules
from fashion_lightning.classifier import FashionClassifier
from fashion_lightning.command_line.messages import explain
from fashion_lightning.data.module import FashionMNISTDataModule
from fashion_lightning.errors import UserError
from fashion_lightning.reports.inspection import InspectionParts

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


def make_parser(job: str) -> LightningArgumentParser:
    """LightningCLI's parser, with the flags of `job`."""
    header = [f"pytorch_lightning=={pl.__version__}"]
    parser = LightningArgumentParser(
        description=f"Fashion-MNIST: {job}", dump_header=header, allow_abbrev=False, exit_on_error=False
    )
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
    if job == "fit":
        parser.add_argument("--resume", action="store_true", help="Resume the newest run from its last checkpoint.")
    if job == "predict":
        parser.add_argument("pictures", nargs="*", help="Pictures, and folders of pictures.")
        parser.add_argument("--out", type=str | None, default=None, help="File for programs: .csv or .json.")
        parser.add_argument("--sheet", type=str | None, default=None, help="PNG with what the network gets.")
    return parser


def parse(parser: LightningArgumentParser, args: list[str]) -> Namespace:
    """Raises UserError, which names the flag or key and what was expected."""
    try:
        return parser.parse_args(args)
    except ArgumentError as error:
        classes = [name for module in MODULES for name in vars(module)]
        raise UserError(explain(str(error), [*parser.get_defaults().keys(), *classes])) from error

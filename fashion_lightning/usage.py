"""What `--help` and `--version` print. Text alone, so that the answer does not wait for torch."""

import importlib.metadata
import sys

COMMON = """
  --ckpt_path best|last|run:N|PATH   the checkpoint: of the newest run, of run N, or a file
  --data.data_dir FOLDER             where the four files of Fashion-MNIST are, or are fetched to
  --trainer.accelerator auto|cpu|gpu|mps
  --trainer.default_root_dir FOLDER  what holds lightning_logs, if not the current folder
  --config FILE                      settings from a YAML file; the last one wins, and flags win over it
  --print_config                     prints all settings as YAML and stops
  --help_all, --version              every flag with its default; the version
"""

HELP = {
    "fit": f"""usage: python -m fashion_lightning.fit [--flag VALUE ...]

Trains a CNN on Fashion-MNIST, evaluates its best checkpoint, and writes all of it to lightning_logs/version_N.
Without flags it does the assignment: its network, optimiser, schedule, batches, epochs and seed.

examples
  python -m fashion_lightning.fit
  python -m fashion_lightning.fit --trainer.max_epochs 10 --seed_everything 1
  python -m fashion_lightning.fit --model.optimizer SGD --model.optimizer.lr 0.1
  python -m fashion_lightning.fit --model.network my_networks.MyNetwork
  python -m fashion_lightning.fit --config configs/fast.yaml
  python -m fashion_lightning.fit --resume

flags that people use
  --trainer.max_epochs N, --trainer.max_steps N, --trainer.max_time DD:HH:MM:SS
  --trainer.precision 32-true|bf16-mixed|16-mixed
  --trainer.devices N --trainer.strategy ddp    several GPUs, or processes on a CPU
  --trainer.logger false             no TensorBoard
  --resume                           goes on with the newest run, wherever it was killed or has ended
  --seed_everything N                weights at the start and order of the images
  --data.batch_size N                images a step, over all processes
  --model.network CLASS              a class or its path, and --model.network.ARGUMENT VALUE
  --model.optimizer CLASS            likewise, of torch.optim; --model.optimizer.lr RATE
  --model.lr_scheduler CLASS         likewise, of torch.optim.lr_scheduler; steps after every batch
  --model.augmentation Augmentation  mirrors, shifts and covers training images
  --data.val_fraction 0              trains on all images, validates none
  --inspect.figures false            no figures; likewise graph, pr_curves; --inspect.projector true{COMMON}""",
    "test": f"""usage: python -m fashion_lightning.test [--ckpt_path best|last|run:N|PATH] [--flag VALUE ...]

Prints loss and accuracy of a checkpoint on the training, validation and test images, and redraws the test figures
of its run. The settings are those of the run; flags win over them.

examples
  python -m fashion_lightning.test
  python -m fashion_lightning.test --ckpt_path run:3
  python -m fashion_lightning.test --ckpt_path lightning_logs/version_0/checkpoints/last.ckpt

flags that people use{COMMON}""",
    "predict": f"""usage: python -m fashion_lightning.predict PICTURE_OR_FOLDER ... [--flag VALUE ...]

Names the garments on photographs: any format, size and colour, transparent or not, on a light or dark background.
Files that are no pictures are named and skipped, and the exit status is then 1.

examples
  python -m fashion_lightning.predict photo.jpg
  python -m fashion_lightning.predict wardrobe/ --out predictions.csv --sheet sheet.png
  python -m fashion_lightning.predict photo.jpg --ckpt_path run:3

flags that people use
  --out FILE.csv|FILE.json           the table for programs
  --sheet FILE.png                   each picture beside what the network saw of it{COMMON}""",
    "runs": """usage: python -m fashion_lightning.runs [--sort when|val_accuracy|test_accuracy|fit_seconds]

Lists what was trained: when, with which settings, on what, for how long, and how good it is. What stands under
checkpoint goes into --ckpt_path of any command.

examples
  python -m fashion_lightning.runs
  python -m fashion_lightning.runs --sort val_accuracy

flags
  --sort KEY                         the newest, best or fastest first
  --trainer.default_root_dir FOLDER  what holds lightning_logs, if not the current folder
  --version                          the version
""",
    "verify": """usage: python -m fashion_lightning.verify [--flag VALUE ...]

Tries on this machine what the README promises: two runs are one, to the bit; a run killed and resumed is one never
killed; two processes evaluate as one does. Trains for some seconds, four times, and prints what held. Flags are
those of fit, and go to every run.

examples
  python -m fashion_lightning.verify
  python -m fashion_lightning.verify --trainer.precision bf16-mixed
""",
}


def answer(job: str, args: list[str] | None) -> None:
    """Prints and exits, if that is all that `args` (default: the command line) ask for."""
    args = sys.argv[1:] if args is None else args
    if {"-h", "--help"} & set(args):
        print(HELP[job].rstrip())
    elif "--version" in args:
        print(f"fashion_lightning {importlib.metadata.version('fashion_lightning')}")
    else:
        return
    raise SystemExit(0)

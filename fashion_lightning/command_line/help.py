"""What `--help` and `--version` print: the head of the command's file. No torch, for which the answer would wait."""

import importlib.metadata
import sys

FLAGS = """\
  --ckpt_path best|last|run:N|PATH   the checkpoint: of the newest run, of run N, or a file
  --data.data_dir FOLDER             where the four files of Fashion-MNIST are, or are downloaded to
  --trainer.accelerator auto|cpu|gpu|mps
  --trainer.default_root_dir FOLDER  what holds lightning_logs, if not the current folder
  --config FILE                      settings from a YAML file; of files and flags, the last one wins
  --print_config                     prints all settings as YAML and stops
  --help_all, --version              every flag with its default; the version"""


def answer(page: str, args: list[str] | None) -> None:
    """Prints `page` or the version and exits, if that is all that `args` (default: the command line) ask for."""
    args = sys.argv[1:] if args is None else args
    if {"-h", "--help"} & set(args):
        print(page.rstrip())
    elif "--version" in args:
        print(f"fashion_lightning {importlib.metadata.version('fashion_lightning')}")
    else:
        return
    raise SystemExit(0)

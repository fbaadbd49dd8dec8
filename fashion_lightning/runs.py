"""usage: python -m fashion_lightning.runs [--sort when|val_accuracy|test_accuracy|fit_seconds]

Lists the runs in lightning_logs with their settings, times and accuracies.
The value under checkpoint goes into --ckpt_path of any command.

examples
  python -m fashion_lightning.runs --sort val_accuracy

flags
  --sort KEY                         the newest, best or fastest first
  --trainer.default_root_dir FOLDER  what holds lightning_logs, if not the current folder
"""

from argparse import ArgumentError
from pathlib import Path
from typing import Any, Literal

from fashion_lightning.command_line.command import answer_help
from fashion_lightning.command_line.messages import explain
from fashion_lightning.errors import UserError, reported


def main(args: list[str] | None = None) -> list[dict[str, Any]]:
    """Returns the rows of the table."""
    answer_help(__doc__, args)
    from jsonargparse import ArgumentParser  # for which `--help` does not wait

    from fashion_lightning.reports.results import print_runs, summarize
    from fashion_lightning.storage.run_folders import LOGS, runs

    parser = ArgumentParser(allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--sort", type=Literal["when", "val_accuracy", "test_accuracy", "fit_seconds"], default="when")
    parser.add_argument("--trainer.default_root_dir", type=str, default=".")
    with reported():
        try:
            options = parser.parse_args(args)
        except ArgumentError as error:
            raise UserError(explain(str(error), parser.get_defaults().keys())) from error
    key, root = options.sort, Path(options.trainer.default_root_dir)
    missing, sign = (float("inf"), 1) if key == "fit_seconds" else (-1.0, -1)
    rows = sorted(map(summarize, runs(root)), key=lambda row: sign * (missing if row.get(key) is None else row[key]))
    if rows:
        print_runs(rows)
    else:
        print(f"no runs in {root / LOGS} yet; to make one: python -m fashion_lightning.fit")
    return rows


if __name__ == "__main__":
    main()

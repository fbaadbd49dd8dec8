"""usage: python -m fashion_lightning.study --name NAME [--flag VALUE ...]

Trains variants of a fit with the same seeds, and says what is better and what is noise.
The flags of fit are those of the baseline, and of all variants.

examples
  python -m fashion_lightning.study --name sgd --variant 'sgd=--model.optimizer SGD --model.optimizer.lr 0.1'
  python -m fashion_lightning.study --name lr --config configs/fast.yaml --vary model.optimizer.lr=0.005,0.015,0.03
  python -m fashion_lightning.study --name search --search model.optimizer.lr=0.001..0.1:log --trials 30

flags
  --name NAME                        all is written to studies/NAME; the same command resumes it
  --variant 'NAME=FLAGS'             a variant, its flags after those of all; or NAME=FILE.yaml
  --vary KEY=VALUE,VALUE             a variant for each value; several make a grid
  --seeds 5                          so many seeds, from --seed_everything on; or a list, as in 3,5,8
  --difference POINTS                the difference of accuracy that matters, for the number of seeds; 0.1
  --search KEY=LOW..HIGH[:log]       draws settings, and compares the best with the baseline on new seeds
  --trials 30, --sampler random|tpe  of the search; KEY=VALUE,VALUE draws from choices
  --workers N                        cells at a time: by default one a GPU, or by cores and memory
  --threads 1                        of a cell
  --storage URL                      a database, for the same command on several machines with one folder
  --dry_run                          lists the cells and the time that they take
  --retry_failed                     trains failed cells again
  --test_winner                      evaluates the winner on the test set at the end, once
"""

from typing import Any

from fashion_lightning.command_line import command


def main(args: list[str] | None = None) -> list[dict[str, Any]]:
    """Returns the rows of `comparison.csv`; with `--dry_run`, the names of the cells to train."""
    return command.run("study", __doc__, args)


if __name__ == "__main__":
    command.run_process(main)

"""usage: python -m fashion_lightning.test [--ckpt_path best|last|run:N|PATH] [--flag VALUE ...]

Evaluates a checkpoint on every split, and draws the test figures of its run again, if it is the best of the run.
The settings are those of the run or the checkpoint; flags win over them.

examples
  python -m fashion_lightning.test
  python -m fashion_lightning.test --ckpt_path run:3

flags that people use
  --data.match_checkpoint false      evaluates on another split or data set than that of training
"""

from fashion_lightning.command_line import command


def main(args: list[str] | None = None) -> dict[str, dict[str, float]]:
    """Returns split to `{"loss", "accuracy", "images"}` and calibration, as in `results.json`."""
    return command.run("test", __doc__, args)


if __name__ == "__main__":
    command.run_process(main)

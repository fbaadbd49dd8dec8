"""`python -m fashion_lightning.test`: loss and accuracy of a checkpoint on every split."""

from typing import Any

from fashion_lightning import cli, results
from fashion_lightning.callbacks import describe_device


def test(setup: cli.FashionCLI) -> dict[str, Any]:
    splits = results.evaluate(setup.trainer, setup.model, setup.datamodule, setup.checkpoint)
    if setup.trainer.is_global_zero:
        print(f"device      {describe_device(setup.trainer)}")
        print(f"checkpoint  {setup.checkpoint}")
        results.print_splits(splits)
    return splits


def main(args: list[str] | None = None) -> dict[str, Any]:
    """Returns split to `{"loss", "accuracy", "images"}`."""
    return cli.run("test", test, args)


if __name__ == "__main__":
    main()

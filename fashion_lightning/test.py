"""`python -m fashion_lightning.test`: loss and accuracy of a checkpoint on every split."""

from typing import Any

from fashion_lightning import process, usage
from fashion_lightning.errors import reported


def main(args: list[str] | None = None) -> dict[str, Any]:
    """Returns split to `{"loss", "accuracy", "images"}`."""
    usage.answer("test", args)
    with reported():
        from fashion_lightning import cli, jobs  # seconds of imports, for which `--help` does not wait

        return cli.run(jobs.test, args)


if __name__ == "__main__":
    process.run(main)

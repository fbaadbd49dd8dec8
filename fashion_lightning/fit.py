"""`python -m fashion_lightning.fit`: trains, evaluates the best checkpoint, and writes it all down."""

from typing import Any

from fashion_lightning import process, usage
from fashion_lightning.errors import reported


def main(args: list[str] | None = None) -> dict[str, Any]:
    """Returns what `results.json` holds."""
    usage.answer("fit", args)
    with reported():
        from fashion_lightning import cli, jobs  # seconds of imports, for which `--help` does not wait

        return cli.run(jobs.fit, args)


if __name__ == "__main__":
    process.run(main)

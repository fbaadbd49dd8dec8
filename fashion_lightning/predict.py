"""`python -m fashion_lightning.predict PICTURE_OR_FOLDER ...`: the class of garments on pictures of one's own."""

from typing import Any

from fashion_lightning import process, usage
from fashion_lightning.errors import reported


def main(args: list[str] | None = None) -> list[dict[str, Any]]:
    """Returns a row a picture: `file`, and `top`, its three likeliest classes, each with its `probability`."""
    usage.answer("predict", args)
    with reported():
        from fashion_lightning import cli, jobs  # seconds of imports, for which `--help` does not wait

        return cli.run(jobs.predict, args)


if __name__ == "__main__":
    process.run(main)

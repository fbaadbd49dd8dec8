"""usage: python -m fashion_lightning.predict PICTURE_OR_FOLDER ... [--flag VALUE ...]

Predicts the class of garments on photographs of your own.
They may have any format, size and colour. Files that are no pictures are named and skipped, with exit status 1.

examples
  python -m fashion_lightning.predict photo.jpg
  python -m fashion_lightning.predict wardrobe/ --out predictions.csv --sheet sheet.png
  python -m fashion_lightning.predict photo.jpg --ckpt_path run:3

flags that people use
  --out FILE.csv|FILE.json           the table for programs
  --sheet FILE.png                   each picture beside its input to the network
"""

from typing import Any

from fashion_lightning.command_line import command


def main(args: list[str] | None = None) -> list[dict[str, Any]]:
    """Returns a row per picture: `file`, and `top`, its three likeliest classes, each with its `probability`."""
    return command.run("predict", __doc__, args)


if __name__ == "__main__":
    command.run_process(main)

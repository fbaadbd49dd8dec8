"""usage: python -m fashion_lightning.predict PICTURE|FOLDER|PATTERN|- ... [--flag VALUE ...]

Predicts the class of garments on photographs of your own.
They may have any format, size and colour. Folders are searched, also those below them; - reads paths from stdin.
Files that cannot be used are named and skipped, with exit status 1.

examples
  python -m fashion_lightning.predict photo.jpg
  python -m fashion_lightning.predict wardrobe/ --out predictions.csv --sheet sheet.png
  python -m fashion_lightning.predict 'photos/**/*.jpg' --ckpt_path run:3
  find photos -name '*.jpg' -mtime -7 | python -m fashion_lightning.predict -

flags that people use
  --out FILE.csv|FILE.json           the table for programs
  --sheet FILE.png                   each picture, with what was cropped, beside its input to the network
  --overwrite                        replaces files of these names; pictures are never replaced
"""

from typing import Any

from fashion_lightning.command_line import command


def main(args: list[str] | None = None) -> list[dict[str, Any]]:
    """Returns a row per picture: `file`, `top`, `uncertain`.

    `top` has the three likeliest classes, each with its `probability`. `uncertain` is empty, or says what is uncertain:
    `classes`, where the likeliest one is improbable, `garment`, where it is hard to tell from the background, or both.
    """
    return command.run("predict", __doc__, args)


if __name__ == "__main__":
    command.run_process(main)

"""Contact sheets: pictures with what was cropped, beside the inputs to the network. Knows no network."""

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from fashion_lightning.data.labels import IMAGE_SIZE
from fashion_lightning.data.photographs import Garment
from fashion_lightning.data.pictures import SOFTWARE
from fashion_lightning.reports.figures import ORANGE, RED
from fashion_lightning.reports.results import printable
from fashion_lightning.storage.whole_files import replacing

PICTURES = 36  # on a page
COLUMNS = 3
# In pixels; a page is looked at as it is, without scaling.
SIDE = 6 * IMAGE_SIZE[0]
GAP = 24  # between cells
INNER_GAP = 4
FONT_SIZE = 12
LINE = 16
NAME_LINES = 2
CELL = (2 * SIDE + INNER_GAP, (NAME_LINES + 1) * LINE + SIDE)


@dataclass(frozen=True)
class Shown:
    picture: Image.Image  # as `shrunk` gives it
    garment: Garment
    row: dict[str, Any]  # `file`, `top` and `uncertain`


def pages(first: Path, pictures: int) -> list[Path]:
    """Files for so many pictures: sheet.png, sheet-2.png, ..."""
    count = -(-pictures // PICTURES)
    return [first, *(first.with_stem(f"{first.stem}-{page}") for page in range(2, count + 1))]


def shrunk(picture: Image.Image) -> Image.Image:
    """A copy of the size that a sheet shows, on grey where it is transparent; small pictures are enlarged."""
    copy = Image.new("RGB", picture.size, "silver")
    copy.paste(picture, mask=picture if picture.mode == "RGBA" else None)
    copy.thumbnail((SIDE, SIDE))
    factor = SIDE // max(copy.size)
    return copy.resize((factor * copy.width, factor * copy.height), Image.Resampling.NEAREST)


def write(path: Path, shown: Sequence[Shown]) -> None:
    """A page, as PNG. Raises OSError."""
    mark = PngImagePlugin.PngInfo()
    mark.add_text("Software", SOFTWARE)
    with replacing(path) as stream:
        draw(shown).save(stream, "PNG", pnginfo=mark)


def draw(shown: Sequence[Shown]) -> Image.Image:
    """Each picture under its file name and likeliest class, with a frame around what was cropped."""
    columns, rows = min(COLUMNS, len(shown)), -(-len(shown) // COLUMNS)
    page = Image.new("RGB", (columns * (CELL[0] + GAP) + GAP, rows * (CELL[1] + GAP) + GAP), "white")
    font = _font()
    for index, one in enumerate(shown):
        row, column = divmod(index, COLUMNS)
        _draw_cell(page, (GAP + column * (CELL[0] + GAP), GAP + row * (CELL[1] + GAP)), one, font)
    return page


def _font() -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"), FONT_SIZE)


def _draw_cell(page: Image.Image, corner: tuple[int, int], shown: Shown, font: ImageFont.FreeTypeFont) -> None:
    pen, (left, top) = ImageDraw.Draw(page), corner
    lines = _lines(printable(shown.row["file"]), font)
    for number, line in enumerate(lines, NAME_LINES - len(lines)):
        pen.text((left, top + number * LINE), line, "black", font)
    best, top = shown.row["top"][0], top + NAME_LINES * LINE
    said = f"{best['class']} {best['probability']:.1%}"
    pen.text((left, top), said, "black", font, stroke_width=0.3)
    if uncertain := shown.row["uncertain"]:
        pen.text((left + font.getlength(f"{said}  "), top), f"uncertain: {uncertain}", RED, font)
    top += LINE
    width, height = shown.picture.size
    place = (left + (SIDE - width) // 2, top + (SIDE - height) // 2)
    pen.rectangle((place[0] - 1, place[1] - 1, place[0] + width, place[1] + height), outline="silver")
    page.paste(shown.picture, place)
    edges = zip(shown.garment.box, shown.picture.size * 2, place * 2, strict=True)
    x, y, right, bottom = (round(share * size) + start for share, size, start in edges)
    for color, line_width in (("black", 3), (ORANGE, 2)):  # seen on any picture
        pen.rectangle((x, y, max(right - 1, x), max(bottom - 1, y)), outline=color, width=line_width)
    garment = Image.fromarray(shown.garment.image.numpy()).resize((SIDE, SIDE), Image.Resampling.NEAREST)
    page.paste(garment, (left + SIDE + INNER_GAP, top))


def _lines(name: str, font: ImageFont.FreeTypeFont) -> list[str]:
    """The name in at most NAME_LINES lines as wide as a cell, without its middle if it is too long."""

    def width(text: str) -> int:
        return math.ceil(font.getlength(text))

    kept = bisect.bisect_right(range(len(name)), CELL[0], key=lambda end: width(name[: end + 1]))
    rest = name[kept:]
    if width(rest) <= CELL[0]:
        return [name[:kept], rest] if rest else [name]
    cut = bisect.bisect_left(range(len(rest)), -CELL[0], key=lambda start: -width(f"…{rest[start:]}"))
    return [name[:kept], f"…{rest[cut:]}"]

"""The promise of contact sheets: whatever files are called and look like, they are shown, and nothing is cut off."""

import numpy as np
import pytest
import torch
from PIL import Image

from fashion_lightning.data.photographs import Garment
from fashion_lightning.data.pictures import PictureError, opened
from fashion_lightning.reports import sheet
from fashion_lightning.reports.figures import ORANGE, RED

INPUT = torch.arange(28 * 28).remainder(251).to(torch.uint8).view(28, 28)
LEFT, TOP = sheet.GAP, sheet.GAP + 3 * sheet.LINE  # of the first picture


def shown(picture=None, box=(0.0, 0.0, 1.0, 1.0), file="boot.jpg", uncertain=""):
    picture = picture or Image.new("RGB", (400, 400), "navy")
    row = {"file": file, "top": [{"class": "Ankle boot", "probability": 0.9}], "uncertain": uncertain}
    return sheet.Shown(sheet.shrunk(picture), Garment(INPUT, box, bool(uncertain)), row)


def places(page, color):
    """Columns and rows of the pixels of a colour."""
    wanted = Image.new("RGB", (1, 1), color).getpixel((0, 0))
    rows, columns = np.nonzero((np.asarray(page) == wanted).all(2))
    return columns, rows


def test_pages_are_numbered(tmp_path):
    first = tmp_path / "my.sheet.png"
    assert [page.name for page in sheet.pages(first, 2 * sheet.PICTURES + 1)] == [
        "my.sheet.png",
        "my.sheet-2.png",
        "my.sheet-3.png",
    ]
    assert sheet.pages(first, 0) == sheet.pages(first, sheet.PICTURES) == [first]


def test_the_picture_is_beside_the_input_with_a_frame_around_what_was_cropped():
    page = sheet.draw([shown(box=(0.25, 0.5, 0.75, 1.0))])
    columns, rows = places(page, ORANGE)
    side = sheet.SIDE
    assert (columns.min(), columns.max() + 1) == (LEFT + side // 4, LEFT + side * 3 // 4)
    assert (rows.min(), rows.max() + 1) == (TOP + side // 2, TOP + side)
    corner = (LEFT + side + sheet.INNER_GAP, TOP)
    seen = (
        page.crop((*corner, corner[0] + side, corner[1] + side)).convert("L").resize((28, 28), Image.Resampling.NEAREST)
    )
    assert (np.asarray(seen) == INPUT.numpy()).all()


@pytest.mark.parametrize("count", [1, 4, 5, sheet.PICTURES])
def test_cells_fill_rows_inside_margins(count):
    page = sheet.draw([shown()] * count)
    columns, _ = places(page, "navy")
    assert page.width == sheet.GAP + min(count, sheet.COLUMNS) * (sheet.CELL[0] + sheet.GAP)
    assert page.height == sheet.GAP + -(-count // sheet.COLUMNS) * (sheet.CELL[1] + sheet.GAP)
    assert len(columns) == count * ((sheet.SIDE - 6) ** 2)  # but for the frames
    for edge in (page.crop((0, 0, page.width, 4)), page.crop((page.width - 4, 0, page.width, page.height))):
        assert edge.getextrema() == ((255, 255),) * 3


def test_what_is_uncertain_is_said_in_colour():
    assert not places(sheet.draw([shown()]), RED)[0].size
    columns, rows = places(sheet.draw([shown(uncertain="classes, garment")]), RED)
    assert columns.size
    assert rows.max() < TOP
    assert columns.max() < LEFT + sheet.CELL[0]


NAMES = ["prix_$5_and_$6^2.png", "{x}_[bold]\\frac.png", "a\nb\x1b[31m\r.png", "caf\udce9.png", "рубашка_シャツ_👕.png"]


@pytest.mark.parametrize("name", [*NAMES, "W" * 40, "deep/" * 200 + "IMG_0001.jpg", ""])
def test_any_name_is_drawn_inside_its_cell(name):
    page = sheet.draw([shown(file=name)])
    text = page.crop((0, 0, page.width, TOP - 1))
    columns = np.nonzero((np.asarray(text.convert("L")) < 200).any(0))[0]
    assert columns.min() >= LEFT
    assert columns.max() < LEFT + sheet.CELL[0]


def lines(name):
    return sheet._lines(name, sheet._font())


def test_names_are_whole_up_to_40_characters_and_lose_their_middle_beyond():
    for name in ("boot.jpg", "W" * 40, "IMG_20240101_123456_HDR_BURST_EDITED.JPG"):
        assert "".join(lines(name)) == name
    first, last = lines("holiday_" * 30 + "number_0001.jpg")
    assert first.startswith("holiday_holiday_")
    assert last.startswith("…")
    assert last.endswith("holiday_number_0001.jpg")
    assert len(first) > 30
    assert len(last) > 30


@pytest.mark.parametrize("size", [(1, 512), (512, 1), (8, 8), (28, 28), (512, 300)])
@pytest.mark.parametrize("box", [(0.0, 0.0, 1.0, 1.0), (0.5, 0.5, 0.5, 0.5), (0.999, 0.0, 1.0, 0.001)])
def test_pictures_of_any_shape_fit(size, box):
    one = shown(Image.new("RGBA", size, (0, 0, 0, 0)), box)
    assert max(one.picture.size) in (sheet.SIDE, sheet.SIDE - sheet.SIDE % max(size))
    sheet.draw([one])


def test_what_is_transparent_is_grey():
    picture = Image.new("RGBA", (400, 400), (0, 0, 0, 0))
    assert sheet.shrunk(picture).getcolors() == [(sheet.SIDE**2, (192, 192, 192))]


def test_a_sheet_is_not_taken_for_a_picture(tmp_path):
    sheet.write(tmp_path / "sheet.png", [shown()])
    with pytest.raises(PictureError, match="a sheet of predictions, not a picture"):
        opened(tmp_path / "sheet.png")

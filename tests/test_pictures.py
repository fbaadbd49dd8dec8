"""The promise of finding and opening pictures: what cannot be used is named, and nothing is left out."""

import contextlib
import io
import os
import threading
import warnings

import numpy as np
import pytest
from PIL import Image

from fashion_lightning.data import pictures
from fashion_lightning.data.pictures import PictureError, find, opened
from fashion_lightning.errors import UserError


def shirt(size=(300, 240), background=255, garment=60):
    """A dark T on a light ground, somewhat off the middle."""
    pixels = np.full(size, background, np.uint8)
    pixels[40:80, 50:210] = garment
    pixels[80:240, 90:170] = garment
    return Image.fromarray(pixels)


def transparent():
    image = shirt().convert("RGBA")
    image.putalpha(shirt(garment=0).point(lambda value: 255 - value))
    return image


def deep(image):
    return Image.fromarray(np.asarray(image, np.uint16) * 257)


def turned():
    return shirt().transpose(Image.Transpose.ROTATE_90)


def values(image):
    return np.asarray(image.convert("L"), np.float64)


def listed(monkeypatch, content):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))


@pytest.fixture
def wardrobe(tmp_path, monkeypatch):
    """Empty files in nested folders, and what is no file."""
    monkeypatch.chdir(tmp_path)
    for name in ("b/2.png", "b/1.png", "b/c/3.png", "a.png", "photo[1].png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def names(found):
    return [str(path) for path in found.files]


def test_folders_are_searched_in_order_and_files_named_once(wardrobe):
    found = find(["b", "a.png", "b/1.png", "b/../a.png"])
    assert names(found) == ["b/1.png", "b/2.png", "b/c/3.png", "a.png"]
    assert found.problems == []


def test_links_are_followed_but_not_in_circles(wardrobe):
    (wardrobe / "b/c/up").symlink_to(wardrobe / "b")
    (wardrobe / "b/d.png").symlink_to("1.png")
    (wardrobe / "linked").symlink_to("b/c")
    expected = ["b/1.png", "b/2.png", "b/c/3.png", "b/d.png"]
    assert names(find(["b"])) == names(find(["b", "b/c/up/c"])) == expected
    assert names(find(["b/**/*.png"])) == expected
    (wardrobe / "b/c/up").unlink()
    assert names(find(["linked"])) == ["linked/3.png"]


def test_patterns_are_expanded_unless_a_file_has_the_name(wardrobe):
    assert names(find(["b/?.png"])) == ["b/1.png", "b/2.png"]
    assert names(find(["**/[12].png"])) == ["b/1.png", "b/2.png"]
    assert names(find(["photo[1].png"])) == ["photo[1].png"]
    assert find(["nothing*"]).problems == [("nothing*", "no file has this name or matches this pattern")]


def test_a_list_on_stdin(wardrobe, monkeypatch):
    listed(monkeypatch, b"b/c\r\n\na.png\ngone\xff.png\nphoto[1].png")
    found = find(["-"])
    assert names(found) == ["b/c/3.png", "a.png", "photo[1].png"]
    assert found.problems == [(os.fsdecode(b"gone\xff.png"), "No such file or directory")]
    listed(monkeypatch, b"\n")
    assert find(["-"]).problems == [("-", "no paths on standard input")]


def test_what_is_no_file_is_said(wardrobe):
    os.mkfifo("b/pipe.png")  # opening it would wait for ever
    (wardrobe / "b/c/empty").mkdir()
    (wardrobe / "b/dangling.png").symlink_to("gone")
    found = find(["b", "b/c/empty", "/dev/null", "nul\0.png"])
    assert names(found) == ["b/1.png", "b/2.png", "b/c/3.png"]
    assert found.problems == [
        ("b/dangling.png", "No such file or directory"),
        ("b/pipe.png", "expected a file or folder, got a named pipe"),
        ("b/c/empty", "the folder is empty"),
        ("b/c/empty", "the folder is empty"),
        ("/dev/null", "expected a file or folder, got a device"),
        ("nul\0.png", "embedded null byte"),
    ]


def test_an_unreadable_folder_is_said_at_any_depth(wardrobe, monkeypatch):
    scan = os.scandir

    def scandir(path):
        if str(path).endswith("c"):
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr("os.scandir", scandir)  # permissions do not stop root
    found = find(["b"])
    assert names(found) == ["b/1.png", "b/2.png"]
    assert found.problems == [("b/c", "Permission denied")]


def test_no_names_are_an_error():
    with pytest.raises(UserError, match="expected pictures or folders of pictures, got none"):
        find([])


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P"])
def test_an_image_of_the_data_set_stays_as_it_is(mode, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (28, 28), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(tmp_path / "image.png")
    assert (values(opened(tmp_path / "image.png")) == pixels).all()


TURN = Image.Exif()
TURN[0x0112] = 6  # to be turned by 90 degrees clockwise to be seen upright


@pytest.mark.parametrize(
    ("picture", "file", "options"),
    [
        (lambda: shirt().convert("RGB"), "a.png", {}),
        (lambda: shirt().convert("CMYK"), "a.jpg", {"quality": 95}),
        (lambda: shirt().convert("LA"), "a.png", {}),
        (lambda: shirt().convert("1"), "a.tif", {}),
        (lambda: shirt().quantize(4), "a.gif", {"save_all": True, "append_images": [shirt(garment=255)]}),
        (lambda: deep(shirt()), "a.png", {}),
        (lambda: deep(turned()), "a.png", {"exif": TURN}),
        (lambda: Image.fromarray(np.asarray(shirt(), np.int32) * 1000), "a.tif", {}),
        (lambda: Image.fromarray(np.asarray(shirt(), np.float32) / 255), "a.tif", {}),
        *((turned, f"a.{ending}", {"exif": TURN}) for ending in ("png", "jpg", "tif")),
    ],
)
def test_mode_format_and_rotation_make_no_difference(picture, file, options, tmp_path):
    picture().save(tmp_path / file, **options)
    read = opened(tmp_path / file)
    assert read.mode == ("RGBA" if "A" in picture().mode else "RGB")
    difference = np.abs(values(read) - values(shirt()))
    assert difference.mean() < (40 if picture().mode == "1" else 2)  # one bit shows grey as dots


@pytest.mark.parametrize("picture", [transparent, lambda: transparent().quantize(8)])
def test_transparency_is_kept(picture, tmp_path):
    picture().save(tmp_path / "a.png")
    read = opened(tmp_path / "a.png")
    assert read.mode == "RGBA"
    assert np.abs(np.asarray(read.getchannel("A"), np.float64) - np.asarray(transparent().getchannel("A"))).mean() < 1


@pytest.mark.parametrize("mode", ["RGB", "P", "1", "F"])
def test_large_pictures_are_reduced_by_averaging(mode, tmp_path):
    """Stripes of one pixel become grey, instead of black or white as the nearest pixel."""
    stripes = Image.fromarray(np.tile(np.array([0, 255], np.uint8), (1000, 1000)))
    (stripes.convert("RGB").quantize(2) if mode == "P" else stripes.convert(mode)).save(tmp_path / "a.tif")
    read = opened(tmp_path / "a.tif")
    assert read.size == (512, 256)
    assert np.abs(values(read) - 127.5).max() < 30


def test_small_sides_are_said(tmp_path):
    Image.new("L", (7, 3000)).save(tmp_path / "a.png")
    with pytest.raises(PictureError, match="too small: expected 8 or more pixels a side, got 7 x 3,000"):
        opened(tmp_path / "a.png")


def test_what_no_memory_could_hold_is_said(tmp_path):
    (tmp_path / "a.pgm").write_bytes(b"P5 1000000 1000000 255\n")
    with pytest.raises(PictureError, match=r"too large: 1,000,000 x 1,000,000 pixels; needs 1,000\.0 GB of memory, of"):
        opened(tmp_path / "a.pgm")


@pytest.mark.parametrize(("progressive", "fits"), [(False, True), (True, False)])
def test_a_jpeg_needs_the_memory_of_its_reduction(progressive, fits, tmp_path, monkeypatch):
    """Unless it is progressive: then its decoder holds all of it."""
    Image.new("RGB", (8192, 4096)).save(tmp_path / "a.jpg", progressive=progressive)
    monkeypatch.setattr(pictures, "available_memory", lambda: 1e7)
    if fits:
        assert opened(tmp_path / "a.jpg").size == (512, 256)
    else:
        with pytest.raises(PictureError, match="too large"):
            opened(tmp_path / "a.jpg")


def test_the_limit_of_pillow_is_replaced_and_stays_for_others(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    Image.new("L", (30, 30)).save(tmp_path / "a.png")
    threads = [threading.Thread(target=opened, args=[tmp_path / "a.png"]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert opened(tmp_path / "a.png").size == (30, 30)
    assert Image.MAX_IMAGE_PIXELS == 100


@pytest.mark.parametrize(
    ("value", "message"),
    [(np.nan, "not finite"), (np.inf, "not finite"), (-np.inf, "not finite"), (-2, "has negative values: .* got -2")],
)
def test_values_that_are_no_brightness_are_said(value, message, tmp_path):
    for place in ((0, 0), (700, 500)):
        pixels = np.ones((800, 800), np.float32)
        pixels[place] = value
        Image.fromarray(pixels).save(tmp_path / "a.tif")
        with pytest.raises(PictureError, match=message):
            opened(tmp_path / "a.tif")


@pytest.mark.parametrize(("content", "message"), [(b"notes", "not a picture"), (b"", "the file is empty")])
def test_files_that_are_no_pictures_are_said(content, message, tmp_path):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(PictureError, match=message):
        opened(tmp_path / "a.png")


def test_a_file_that_went_away_is_said(tmp_path):
    with pytest.raises(PictureError, match="cannot be read: No such file or directory"):
        opened(tmp_path / "gone.png")


@pytest.mark.parametrize("file", ["a.png", "a.jpg", "a.gif", "a.webp", "a.tif", "a.ppm", "a.bmp", "a.ico", "a.jp2"])
def test_damaged_files_are_opened_or_said(file, tmp_path):
    picture, path = shirt().convert("RGB"), tmp_path / file
    picture.save(path)
    content, rng = path.read_bytes(), np.random.default_rng(0)
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(PictureError):
        opened(path)
    for _ in range(20):
        damaged = bytearray(content)
        for place in rng.integers(0, min(len(content), 200), 4):
            damaged[place] = rng.integers(256)
        path.write_bytes(damaged)
        with warnings.catch_warnings(action="ignore"), contextlib.suppress(PictureError):  # warnings are of metadata
            opened(path)


def test_odd_metadata_is_a_warning_with_the_name(tmp_path):
    shirt().save(tmp_path / "a.jpg", exif=b"Exif\0\0II*\0\x08\0\0\0\x05\0")
    with pytest.warns(UserWarning, match=r"a\.jpg: .*EXIF"):
        assert opened(tmp_path / "a.jpg").size == (240, 300)

import numpy as np
import pytest
import torch
from PIL import Image

from fashion_lightning.data.photographs import find, prepare
from fashion_lightning.errors import UserError


def shirt(size=(300, 240), background=255, garment=60):
    """A dark T on a light ground, somewhat off the middle."""
    pixels = np.full(size, background, np.uint8)
    pixels[40:80, 50:210] = garment
    pixels[80:240, 90:170] = garment
    return Image.fromarray(pixels)


def test_a_data_set_image_stays_as_it_is():
    pixels = np.random.default_rng(0).integers(0, 256, (28, 28), dtype=np.uint8)
    assert torch.equal(prepare(Image.fromarray(pixels)), torch.from_numpy(pixels))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P"])
def test_its_format_does_not_matter(mode):
    pixels = np.random.default_rng(0).integers(0, 256, (28, 28), dtype=np.uint8)
    assert torch.equal(prepare(Image.fromarray(pixels).convert(mode)), torch.from_numpy(pixels))


def test_a_photograph_becomes_a_light_garment_on_black():
    seen = prepare(shirt())
    assert seen.shape == (28, 28)
    assert seen.dtype == torch.uint8
    assert seen[0].max() > 150  # cropped: the garment reaches top and bottom
    assert seen[-1].max() > 150
    assert seen[10:, :6].max() == 0
    assert seen[10:, -6:].max() == 0
    assert (seen[:, :14].float().mean() - seen[:, 14:].float().mean()).abs() < 10  # in the middle


def transparent():
    image = shirt().convert("RGBA")
    image.putalpha(shirt(garment=0).point(lambda value: 255 - value))
    return image


def palette():
    image = transparent().quantize(8)
    assert image.mode == "P"
    return image


def turned():
    image = shirt().transpose(Image.Transpose.ROTATE_90)
    image.getexif()[0x0112] = 6  # to be turned by 90 degrees clockwise to be seen upright
    return image


@pytest.mark.parametrize(
    "picture",
    [
        lambda: shirt().convert("RGB"),
        lambda: shirt().convert("CMYK"),
        lambda: shirt().convert("RGBA"),
        lambda: shirt().convert("LA"),
        lambda: shirt().resize((2400, 3000)),
        lambda: shirt(background=0, garment=195),
        lambda: Image.fromarray(np.asarray(shirt(), np.uint16) * 257),
        lambda: Image.fromarray(np.asarray(shirt(), np.float32)),
        turned,
    ],
)
def test_mode_size_background_and_rotation_make_no_difference(picture):
    difference = (prepare(picture()).float() - prepare(shirt()).float()).abs()
    assert difference.mean() < 3


@pytest.mark.parametrize("picture", [transparent, palette])
def test_what_is_transparent_is_background(picture):
    difference = ((prepare(picture()) > 100) != (prepare(shirt()) > 100)).float()
    assert difference.mean() < 0.02


def test_noise_of_the_background_is_no_garment():
    rng = np.random.default_rng(0)
    noisy = np.clip(np.asarray(shirt(background=240), np.float64) + rng.normal(0, 3, (300, 240)), 0, 255)
    noisy[5, 5] = 0
    difference = prepare(Image.fromarray(noisy.astype(np.uint8))).float() - prepare(shirt(background=240)).float()
    assert difference.abs().mean() < 4


@pytest.mark.parametrize("value", [0, 128, 255])
def test_an_empty_picture_is_black(value):
    assert prepare(Image.new("RGB", (100, 50), (value,) * 3)).max() == 0


def test_a_picture_of_one_pixel_is_no_error():
    assert prepare(Image.new("RGB", (1, 1), "red")).shape == (28, 28)


def test_folders_are_searched_in_order(tmp_path):
    (tmp_path / "b" / "c").mkdir(parents=True)
    for name in ("b/2.png", "b/1.png", "b/c/3.png", "a.png"):
        (tmp_path / name).touch()
    found = find([str(tmp_path / "b"), str(tmp_path / "a.png")])
    assert [path.name for path in found] == ["1.png", "2.png", "3.png", "a.png"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="expected pictures or folders of pictures, got none"):
        find([str(tmp_path / "empty")])

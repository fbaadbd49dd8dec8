"""The promise of segmentation: the pixels of the garment, and the ground as it goes on behind them."""

import numpy as np
import pytest
from drawings import GROUNDS, HEIGHT, LUMINANCE, SIZE, WIDTH, bag, painted, picture, tshirt
from PIL import Image

from fashion_lightning.data.segmentation import segment

NAVY = np.array([60.0, 70, 110])


def colors(ground, *masks, color=NAVY):
    """YCbCr of garments on a ground."""
    for mask in masks:
        ground = painted(ground, mask, color)
    return np.asarray(picture(ground).convert("YCbCr"), np.float32)


def trousers():
    mask = np.zeros(SIZE, bool)
    mask[40:260, 70:170] = True
    mask[100:260, 112:128] = False
    return mask


@pytest.mark.parametrize("shape", [tshirt, bag, trousers])
@pytest.mark.parametrize("ground", ["white", "red", "gradient", "texture", "noise"])
def test_opacity_is_that_of_the_drawing(ground, shape):
    mask = shape()
    segments = segment(colors(GROUNDS[ground], mask))
    found = segments.opacity > 0.5
    assert (found & mask).sum() / (found | mask).sum() > 0.95
    assert segments.opacity.dtype == np.float32
    assert 0 <= segments.opacity.min() < segments.opacity.max() <= 1
    assert segments.opacity.sum() == pytest.approx(mask.sum(), rel=0.06)  # pixels of the outline count in part


def test_both_of_a_pair_are_found_and_dust_is_not():
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    left, right, dust = (np.hypot(x - at, (y - 150) / 2) < radius for at, radius in ((60, 40), (180, 30), (120, 3)))
    found = segment(colors(GROUNDS["beige"], left, right, dust)).opacity > 0.5
    assert (found & (left | right)).sum() > 0.97 * (left | right).sum()
    assert not found[dust].any()


@pytest.mark.parametrize("ground", ["beige", "gradient", "vignette"])
def test_the_ground_goes_on_behind_the_garment(ground):
    expected = colors(GROUNDS[ground])
    segments = segment(colors(GROUNDS[ground], tshirt()))
    assert np.abs(segments.ground - expected)[tshirt()].max() < 10  # light that changes from 150 to 220
    assert np.abs(segments.ground - expected).mean() < 1


def test_contrast_grows_with_the_difference():
    greys = [segment(colors(GROUNDS["grey"], tshirt(), color=128 + step)).contrast for step in (16, 32, 64, 127)]
    assert greys == sorted(greys)
    assert greys[-1] == pytest.approx(127 / 16 * greys[0], rel=0.05)
    # In colour only: further from grey, at the same luminance.
    hue = np.array([1, 0, 0]) - LUMINANCE[0]
    reds = [segment(colors(GROUNDS["grey"], tshirt(), color=128 + step * hue)).contrast for step in (32, 64, 127)]
    assert reds == sorted(reds)


def test_contrast_is_relative_to_the_texture():
    """The same garment on stronger and stronger patches of light."""
    noise = Image.fromarray(np.random.default_rng(0).normal(size=(50, 40)).astype(np.float32))
    patches = np.asarray(noise.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))[..., None]
    found = [segment(colors(GROUNDS["beige"] + strength * patches, tshirt())) for strength in (0, 2, 6, 12)]
    contrasts = [segments.contrast for segments in found]
    assert contrasts == sorted(contrasts, reverse=True)
    assert [segments.has_texture for segments in found] == [False, False, True, True]
    assert segment(colors(GROUNDS["beige"] + 12 * patches)) is None


def test_the_picture_is_not_changed():
    given = colors(GROUNDS["noise"], tshirt())
    before = given.copy()
    segment(given)
    assert (given == before).all()

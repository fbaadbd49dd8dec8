"""The promise of preparation: the garment as the data set shows it, whatever is behind it, or a refusal."""

import numpy as np
import pytest
import torch
from drawings import GROUNDS, HEIGHT, LUMINANCE, SIZE, WIDTH, bag, box, painted, picture, tshirt
from PIL import Image

from fashion_lightning.data.photographs import NoGarmentError, prepare

DARK, LIGHT, GREEN, NAVY = (40, 42, 45), (243, 241, 240), (40, 150, 70), (60, 70, 110)
BODY = slice(8, 24), slice(11, 17)  # of the T, in the input of the network
OUTSIDE = slice(10, 28), [0, 1, 2, 3, 4, 5, -5, -4, -3, -2, -1]  # left and right of it
NEAR = 0.01  # share of the picture: one pixel of the 256 in which a garment is looked for, and the blur of its edge


def values(garment):
    return garment.image.numpy().astype(float)


def check_tshirt(garment, mask):
    """Of one colour, which is stretched to 255."""
    assert garment.box == pytest.approx(box(mask), abs=NEAR)
    assert values(garment)[BODY] == pytest.approx(255, abs=3)
    assert values(garment)[OUTSIDE].max() <= 6  # of the blur


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_an_image_of_the_data_set_stays_as_it_is(mode):
    pixels = np.random.default_rng(0).integers(0, 256, (28, 28), dtype=np.uint8)
    garment = prepare(Image.fromarray(pixels).convert(mode))
    assert torch.equal(garment.image, torch.from_numpy(pixels))
    assert (garment.box, garment.is_faint) == ((0, 0, 1, 1), False)


@pytest.mark.parametrize("channel", [2, 3])
def test_a_small_picture_in_colour_or_with_transparency_is_a_photograph(channel):
    pixels = np.full((28, 28, 4), 255, np.uint8)
    pixels[8:20, 8:20, :3] = 0
    pixels[:4, :, channel] = 0
    assert not np.array_equal(prepare(Image.fromarray(pixels)).image, pixels[..., 0])


@pytest.mark.parametrize("ground", GROUNDS)
def test_it_is_found_on_any_ground_in_any_colour(ground):
    for color in (DARK, GREEN):
        garment = prepare(picture(painted(GROUNDS[ground], tshirt(), color)))
        check_tshirt(garment, tshirt())
        assert not garment.is_faint
    light = prepare(picture(painted(GROUNDS[ground], tshirt(), LIGHT)))
    assert light.box == pytest.approx(box(tshirt()), abs=NEAR)
    assert light.is_faint  # it is nearly white


@pytest.mark.parametrize("color", [(200, 100, 100), (90, 150, 90), (100, 100, 220)])
def test_a_difference_in_colour_is_enough(color):
    grey = (LUMINANCE @ color).repeat(3)
    for garment, ground in ((color, grey), (grey, color)):
        check_tshirt(prepare(picture(painted(ground * np.ones((*SIZE, 3)), tshirt(), garment))), tshirt())


def test_a_soft_shadow_is_ground():
    shadow = np.roll(tshirt(), (14, 10), (0, 1))
    ground = painted(GROUNDS["beige"], shadow, 0.75 * GROUNDS["beige"], blur=9)
    check_tshirt(prepare(picture(painted(ground, tshirt(), NAVY))), tshirt())


@pytest.mark.parametrize("place", [(0, 40), (WIDTH - 140, 40), (50, 0), (50, HEIGHT - 160), (0, 0)])
def test_it_may_touch_the_border(place):
    mask = tshirt(*place)
    check_tshirt(prepare(picture(painted(GROUNDS["beige"], mask, NAVY))), mask)


@pytest.mark.parametrize("width", [42, 70, 210])
def test_its_size_makes_no_difference(width):
    """A small one is looked at again from closer: in 256 pixels it would be 12 wide, and blurred in 28."""
    mask = tshirt(300, 200, width, size=(3 * HEIGHT, 3 * WIDTH))
    garment = prepare(picture(painted(np.full((*mask.shape, 3), 230.0), mask, NAVY, blur=0.3)))
    check_tshirt(garment, mask)
    cut_out = prepare(picture(np.broadcast_to(NAVY, (*mask.shape, 3)), 255.0 * mask))
    assert np.abs(values(garment) - values(cut_out)).mean() < 14


def test_the_resolution_makes_no_difference():
    small = picture(painted(GROUNDS["red"], tshirt(), NAVY))
    difference = values(prepare(small)) - values(prepare(small.resize((8 * WIDTH, 8 * HEIGHT))))
    assert np.abs(difference).mean() < 3


def test_the_ground_is_seen_through_a_handle():
    seen = values(prepare(picture(painted(GROUNDS["red"], bag(), NAVY))))
    assert seen[6:10, 14:16].max() <= 6
    assert seen[14:, 4:-4] == pytest.approx(255, abs=8)


@pytest.mark.parametrize(("color", "radius", "blur"), [((90, 95, 105), 25, 8), (NAVY, 6, 0.5)])
def test_a_part_with_the_colour_of_the_ground_belongs_to_the_garment(color, radius, blur):
    """A faded print, whose edges are soft, and a button. A hole would be black."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    spot = np.hypot(x - 120, y - 140) < radius
    shirt = painted(GROUNDS["grey"], tshirt(), color)
    seen = values(prepare(picture(painted(shirt, spot, (128, 128, 128), blur))))
    assert seen[BODY].min() == pytest.approx(255 * (255 - 128) / (255 - LUMINANCE @ color), abs=15)


def test_its_negative_brightness_is_stretched():
    """The darkest part becomes white, as in all images of the data set; the rest in proportion."""
    halves = np.where(np.arange(WIDTH)[None, :, None] < 120, 120.0, 200.0) * np.ones((*SIZE, 3))
    seen = values(prepare(picture(halves, 255.0 * tshirt())))
    assert seen[12:26, 9:13] == pytest.approx(255, abs=2)
    assert seen[12:26, 16:19] == pytest.approx(255 * (255 - 200) / (255 - 120), abs=2)


@pytest.mark.parametrize(("level", "is_faint"), [(200, False), (235, True), (251, None)])
def test_a_garment_without_shades_is_uncertain_or_refused(level, is_faint):
    shirt = picture(painted(GROUNDS["black"], tshirt(), (level,) * 3))
    if is_faint is None:
        with pytest.raises(NoGarmentError, match="white, without shades"):
            prepare(shirt)
    else:
        assert prepare(shirt).is_faint == is_faint


def test_the_outline_has_no_colour_of_the_ground():
    """Its pixels mix both colours: without what belongs to the ground, the mixture with any ground is the same."""
    on_red, on_black = (values(prepare(picture(painted(GROUNDS[g], tshirt(), NAVY)))) for g in ("red", "black"))
    assert np.abs(on_red - on_black).max() < 18


def test_transparency_tells_where_the_garment_is():
    opacity = 255.0 * tshirt()
    for hidden in (0, 255):  # the colour of what is transparent
        colors = np.where(tshirt()[..., None], GREEN, hidden).astype(float)
        garment = prepare(picture(colors, opacity))
        check_tshirt(garment, tshirt())
        assert garment.box == pytest.approx(box(tshirt()))
        assert not garment.is_faint


def test_a_transparent_frame_is_no_ground():
    photograph, mask = np.zeros((HEIGHT + 100, WIDTH + 60, 3)), np.zeros((HEIGHT + 100, WIDTH + 60), bool)
    inner = slice(60, 60 + HEIGHT), slice(20, 20 + WIDTH)
    photograph[inner], mask[inner] = painted(GROUNDS["beige"], tshirt(), NAVY), tshirt()
    opacity = np.zeros(mask.shape)
    opacity[inner] = 255
    check_tshirt(prepare(picture(photograph, opacity)), mask)


def test_a_rectangle_that_is_cut_out_is_the_garment():
    """As a towel; with an odd margin, whose larger part is on the left and at the top, as in the data set."""
    opacity = np.zeros(SIZE)
    opacity[50:190, 40:165] = 255  # 28:25
    garment = prepare(picture(np.broadcast_to(NAVY, (*SIZE, 3)), opacity))
    assert garment.box == pytest.approx(box(opacity > 0))
    assert values(garment)[:, 2:27] == pytest.approx(255, abs=1)
    assert not values(garment)[:, [0, 1, 27]].any()


@pytest.mark.parametrize("ground", GROUNDS)
def test_a_ground_is_no_garment(ground):
    for colors in (GROUNDS[ground], GROUNDS[ground][:40, :40]):
        with pytest.raises(NoGarmentError, match="nothing stands out from the background"):
            prepare(picture(colors))


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (7, 100), (100, 7)])
def test_strips_are_refused(size):
    with pytest.raises(NoGarmentError, match="too narrow"):
        prepare(Image.effect_noise(size, 100).convert("RGB"))


@pytest.mark.parametrize("value", [0, 128, 255])
def test_blank_pictures_are_refused(value):
    with pytest.raises(NoGarmentError, match="the picture is blank"):
        prepare(Image.new("RGB", (28, 28), (value,) * 3))
    with pytest.raises(NoGarmentError, match="the picture is transparent"):
        prepare(Image.new("RGBA", (300, 200), (value, value, value, 0)))


def test_small_pictures_of_anything_are_prepared_or_refused():
    """Without a warning, such as of a mean of nothing."""
    rng = np.random.default_rng(0)
    prepared = 0
    for width in range(1, 41):
        height = rng.integers(1, 41)
        noise = rng.integers(0, 256, (height, width, 3))
        specks = np.where(rng.random((height, width, 1)) < 0.1, noise, 200)
        halves = np.where(np.arange(width)[None, :, None] < width / 2, noise[:1, :1], noise[-1:, -1:])
        halves = halves.repeat(height, 0)
        for colors in (noise, specks, halves):
            for opacity in (None, 255.0 * (noise[..., 0] > 250), noise[..., 1]):
                try:
                    garment = prepare(picture(colors, opacity))
                except NoGarmentError:
                    continue
                left, top, right, bottom = garment.box
                assert 0 <= left < right <= 1
                assert 0 <= top < bottom <= 1
                assert (garment.image.shape, garment.image.dtype) == ((28, 28), torch.uint8)
                prepared += 1
    assert prepared > 100

import pytest
import torch

from fashion_lightning.augmentation import BLACK, Augmentation
from fashion_lightning.data.module import normalize


@pytest.fixture
def images():
    torch.manual_seed(0)
    return normalize(torch.randint(1, 256, (500, 1, 28, 28), dtype=torch.uint8))


def shifts(image, most):
    """By slices alone: every image that a shift can make of `image` (28, 28)."""
    padded = torch.full((28 + 2 * most, 28 + 2 * most), BLACK)
    padded[most : most + 28, most : most + 28] = image
    places = range(2 * most + 1)
    return {(down, right): padded[down : down + 28, right : right + 28] for down in places for right in places}


def test_black_is_what_a_black_pixel_becomes():
    assert normalize(torch.zeros(1, dtype=torch.uint8)) == BLACK


def test_each_image_is_mirrored_or_not_by_itself(images):
    changed = Augmentation(mirror=True, shift=0)(images)
    mirrored = [bool(torch.equal(after, before.flip(-1))) for before, after in zip(images, changed, strict=True)]
    same = [bool(torch.equal(after, before)) for before, after in zip(images, changed, strict=True)]
    assert [not m for m in mirrored] == same
    assert 200 < sum(mirrored) < 300


@pytest.mark.parametrize("most", [1, 2])
def test_each_image_is_shifted_by_itself_and_black_comes_in(images, most):
    changed = Augmentation(mirror=False, shift=most)(images)
    seen = []
    for before, after in zip(images, changed, strict=True):
        [place] = [key for key, shifted in shifts(before[0], most).items() if torch.equal(after[0], shifted)]
        seen.append(place)
    assert set(seen) == {(down, right) for down in range(2 * most + 1) for right in range(2 * most + 1)}


@pytest.mark.parametrize("length", [1, 8, 15])
def test_a_square_of_each_image_is_covered(images, length):
    changed = Augmentation(mirror=False, shift=0, cutout=length)(images)
    sizes = []
    for before, after in zip(images, changed, strict=True):
        rows, columns = (before[0] != after[0]).nonzero().unbind(1)
        assert (after[0][rows, columns] == 0).all()
        sizes.append((int(rows.max() - rows.min()) + 1, int(columns.max() - columns.min()) + 1))
        assert len(rows) == sizes[-1][0] * sizes[-1][1]  # a full rectangle
    assert max(sizes) == (length, length)
    assert min(height for height, _ in sizes) >= length // 2  # the rest is beyond the edge


def test_nothing_to_do_is_nothing_done(images):
    assert Augmentation(mirror=False, shift=0)(images) is images


def test_draws_are_the_seed_s(images):
    outcomes = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        outcomes.append(Augmentation(shift=2, cutout=8)(images))
    assert torch.equal(outcomes[0], outcomes[1])
    assert not torch.equal(outcomes[0], outcomes[2])
    assert outcomes[0].shape == images.shape


@pytest.mark.parametrize("setting", [{"shift": -1}, {"shift": 28}, {"cutout": -1}, {"cutout": 100}])
def test_refuses_what_leaves_nothing_of_an_image(setting):
    [(name, value)] = setting.items()
    with pytest.raises(ValueError, match=rf"^Augmentation\.{name}: expected 0 to 2[78], got {value}$"):
        Augmentation(**setting)

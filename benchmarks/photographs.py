"""Labels that `predict` keeps, if images of the data set are made into photographs on many grounds.

    python -m benchmarks.photographs --images 300

Each image becomes a photograph: the garment in the brightness of the product photo, cut out by its pixels that are not
black, on a ground, at a random place and size, grey or in a random colour of the same brightness. The label of the
photograph is compared with that of the untouched image, which is the one that `test` gives. It takes 50 ms per picture.

    python -m benchmarks.photographs --faint

Garments that fade into the ground: the overlap of the garment that is found with the true one, by contrast. This is how
`FAINT` was chosen. `--split val` is for all choices; the test set is for the table in docs/predicting.md.
"""

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import numpy as np
from numpy import ndarray
from numpy.random import Generator
from PIL import Image

from fashion_lightning.data.module import FashionMNISTDataModule
from fashion_lightning.data.photographs import FAINT, SIDE
from fashion_lightning.data.segmentation import segment

HEIGHT, WIDTH = 600, 480  # of a photograph, in pixels
SIZES = 0.45, 0.95  # of a garment, as shares of the width
LUMINANCE = np.array([0.299, 0.587, 0.114])  # of red, green and blue, as Pillow has it
QUALITY, LOW_QUALITY = 90, 25  # of JPEG
STRENGTHS = 0.04, 0.08, 0.15, 0.3, 0.6  # of fading garments: their share in the mixture with the ground
CONTRASTS = 0, 2, 3, FAINT, 5, 6, 8, 12, 20, np.inf


def plain(*color: float) -> Callable[[Generator], ndarray]:
    return lambda rng: np.full((HEIGHT, WIDTH, 3), color, float)


def noise(rng: Generator, cells: tuple[int, int]) -> ndarray:
    """Smooth noise (HEIGHT, WIDTH) of standard deviation 1 in so many cells."""
    small = Image.fromarray(rng.normal(size=cells).astype(np.float32))
    return np.asarray(small.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))


def gradient(rng: Generator) -> ndarray:
    """Light from one side."""
    y, x = np.mgrid[-0.5 : 0.5 : HEIGHT * 1j, -0.5 : 0.5 : WIDTH * 1j]
    angle = rng.uniform(0, 2 * np.pi)
    share = np.clip(np.cos(angle) * x + np.sin(angle) * y + 0.5, 0, 1)[..., None]
    return (1 - share) * [235, 235, 240] + share * [120, 125, 140]


def wood(rng: Generator) -> ndarray:
    """Brown grain, along or across."""
    if rng.random() < 0.5:
        grain = 10 * noise(rng, (5, 40)) + 7 * noise(rng, (12, 160))
    else:
        grain = 10 * noise(rng, (50, 4)) + 7 * noise(rng, (200, 10))
    return [164, 116, 73] + grain[..., None] * [1, 0.85, 0.65]


def cloth(rng: Generator) -> ndarray:
    """A blue-grey weave that is not quite flat."""
    y, x = 2 * np.pi * np.mgrid[:HEIGHT, :WIDTH] / rng.uniform(5, 9)
    weave = 8 * np.sin(x) * np.sin(y) + 5 * rng.normal(size=x.shape) + 5 * noise(rng, (6, 5))
    return [120, 130, 150] + weave[..., None]


def grainy(rng: Generator) -> ndarray:
    """Noise of a camera in low light."""
    return [215, 215, 220] + 6 * rng.normal(size=(HEIGHT, WIDTH, 3))


GROUNDS: Mapping[str, Callable[[Generator], ndarray]] = {
    "white": plain(255, 255, 255),
    "light grey": plain(205, 205, 205),
    "beige": plain(225, 205, 175),
    "dark grey": plain(70, 70, 70),
    "black": plain(0, 0, 0),
    "red": plain(190, 40, 45),
    "green": plain(50, 130, 70),
    "blue": plain(45, 80, 170),
    "gradient": gradient,
    "soft shadow": plain(240, 240, 240),
    "wood": wood,
    "cloth": cloth,
    "camera noise": grainy,
    "JPEG noise": plain(235, 235, 235),
}


def photograph(
    image: ndarray, ground: str, rng: Generator, is_tinted: bool, strength: float = 1
) -> tuple[Image.Image, ndarray]:
    """A garment of the data set, image (28, 28) uint8, on a ground; and its opacity (HEIGHT, WIDTH) in [0, 1].

    With a strength below 1 the garment fades into the ground; its opacity is given as without.
    """
    side = int(rng.uniform(*SIZES) * WIDTH)
    top, left = (int(rng.uniform() * (length - side)) for length in (HEIGHT, WIDTH))
    if rng.random() < 0.1:  # touches the border
        top = int(rng.choice([0, HEIGHT - side]))
    place = slice(top, top + side), slice(left, left + side)
    grey, opacity = np.full((HEIGHT, WIDTH), 255.0), np.zeros((HEIGHT, WIDTH))
    grey[place] = 255 - _enlarged(image, side, Image.Resampling.LANCZOS)
    # A step in 28 x 28 pixels, and an edge in the photograph.
    opacity[place] = np.clip(4 * (_enlarged(image > 0, side, Image.Resampling.BICUBIC) - 0.5) + 0.5, 0, 1)
    colors = _tinted(grey, rng) if is_tinted else grey[..., None]
    behind = GROUNDS[ground](rng)
    if ground == "soft shadow":
        behind *= 1 - 0.3 * _shadow(opacity, rng)[..., None]
    share = strength * opacity[..., None]
    pixels = share * colors + (1 - share) * behind
    return Image.fromarray(pixels.clip(0, 255).round().astype(np.uint8)), opacity


def _enlarged(image: ndarray, side: int, resampling: Image.Resampling) -> ndarray:
    return np.asarray(Image.fromarray(image.astype(np.float32)).resize((side, side), resampling))


def _shadow(opacity: ndarray, rng: Generator) -> ndarray:
    shift = np.eye(2, 3)
    shift[:, 2] = rng.integers(8, 20, 2)
    return cv2.GaussianBlur(cv2.warpAffine(opacity, shift, (WIDTH, HEIGHT)), (0, 0), 14)


def _tinted(grey: ndarray, rng: Generator) -> ndarray:
    """Colours (H, W, 3) of one random hue with the luminance of `grey` (H, W), at most as saturated as that allows."""
    hue = rng.uniform(size=3)
    direction = 255 * (hue - hue.min()) / (hue.max() - hue.min())
    direction -= direction @ LUMINANCE
    room = np.where(direction > 0, 255 - grey[..., None], grey[..., None]) / np.abs(direction)
    return grey[..., None] + np.minimum(room.min(-1, keepdims=True), rng.uniform(0.3, 0.9)) * direction


def predicted(folder: Path, flags: list[str]) -> dict[str, str]:
    """File name to label, by the command that users run; without pictures in which it finds no garment."""
    out = folder.with_suffix(".json")
    command = [sys.executable, "-m", "fashion_lightning.predict", str(folder), "--out", str(out), *flags]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode not in (0, 1):
        raise SystemExit(done.stderr)
    return {Path(row["file"]).stem: row["top"][0]["class"] for row in json.loads(out.read_text())}


def kept(images: ndarray, flags: list[str]) -> None:
    """Prints the table of labels that are kept, of images (N, 28, 28) uint8."""
    shares = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, "untouched")
        folder.mkdir()
        for index, image in enumerate(images):
            Image.fromarray(image).save(folder / f"{index}.png")
        labels = predicted(folder, flags)
        print(f"| labels kept, of {len(images)} | grey | in colour |\n| --- | --- | --- |")
        for ground in GROUNDS:
            of_ground = []
            for is_tinted in (False, True):
                folder = Path(temporary, f"{ground} {is_tinted}")
                folder.mkdir()
                for index, image in enumerate(images):
                    picture, _ = photograph(image, ground, np.random.default_rng(index), is_tinted)
                    quality = LOW_QUALITY if ground == "JPEG noise" else QUALITY
                    picture.save(folder / f"{index}.jpg", quality=quality)
                found = predicted(folder, flags)
                of_ground.append(np.mean([found.get(name) == label for name, label in labels.items()]))
            shares.append(of_ground)
            print(f"| {ground} | {of_ground[0]:.1%} | {of_ground[1]:.1%} |", flush=True)
    mean = np.mean(shares, 0)
    print(f"| mean | {mean[0]:.1%} | {mean[1]:.1%} |")


def faint(images: ndarray) -> None:
    """Prints how well fading garments are found, of images (N, 28, 28) uint8."""
    found = []
    for index, image in enumerate(images):
        for strength in STRENGTHS:
            for ground in GROUNDS:
                picture, opacity = photograph(image, ground, np.random.default_rng(index), index % 2 == 1, strength)
                picture.thumbnail((SIDE, SIDE), Image.Resampling.BOX)
                if segments := segment(np.asarray(picture.convert("YCbCr"), np.float32)):
                    true = np.asarray(Image.fromarray(opacity).resize(picture.size)) > 0.5
                    both, any_ = (true & (segments.opacity > 0.5)).sum(), (true | (segments.opacity > 0.5)).sum()
                    found.append((segments.contrast, both / any_))
    contrasts, overlaps = np.array(found).T
    print(f"| contrast | garments, of {len(STRENGTHS) * len(GROUNDS) * len(images)} | overlap over 80 % |")
    print("| --- | --- | --- |")
    for low, high in itertools.pairwise(CONTRASTS):
        of_range = overlaps[(low <= contrasts) & (contrasts < high)]
        print(f"| {low:g} to {high:g} | {len(of_range)} | {np.mean(of_range > 0.8):.0%} |")


def main(images: int, split: str, data_dir: str, is_faint: bool, flags: list[str]) -> None:
    data = FashionMNISTDataModule(data_dir)
    chosen = data.splits["val" if is_faint else split][:images][0].squeeze(1).numpy()
    faint(chosen) if is_faint else kept(chosen, flags)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--split", choices=("val", "test"), default="test")
    parser.add_argument("--data_dir", default="data")
    parser.add_argument("--faint", dest="is_faint", action="store_true")
    known, unknown = parser.parse_known_args()
    main(**vars(known), flags=unknown)  # the rest are flags of predict, such as --ckpt_path

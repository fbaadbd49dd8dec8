"""Users' photographs of garments, converted to images like those of the data set. Knows pixels, not networks."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from fashion_lightning.data.labels import IMAGE_SIZE
from fashion_lightning.errors import UserError

DEEP_MODES = ("I", "F")  # 16 or 32 bits a pixel
MIN_CONTRAST = 3  # of 255: pixels that differ less from the background belong to it
MIN_DEVIATIONS = 4  # the same, in standard deviations of the border
MIN_SHARE = 0.01  # of a row or column: with fewer garment pixels it is noise


def find(names: Iterable[str]) -> list[Path]:
    """The named files, and all files in and below the named folders, each once. Raises UserError if there are none."""
    paths: list[Path] = []
    for name in names:
        path = Path(name)
        paths += sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    if not paths:
        example = "python -m fashion_lightning.predict photo.jpg"
        raise UserError(f"expected pictures or folders of pictures, got none: {example}")
    return list(dict.fromkeys(paths))


def prepare(image: Image.Image) -> Tensor:
    """A light garment on black (28, 28) uint8, as in the data set, from a picture of any size and mode.

    The background is the median of the border; if it is light, the picture is inverted. The rest is cropped to the
    garment, padded to a square and scaled down, as in Xiao et al., arXiv 1708.07747. A grey picture of 28x28 pixels,
    in any format, is taken as an image of the data set and returned unchanged.
    """
    if image.size == IMAGE_SIZE and not image.mode.startswith(DEEP_MODES):
        colors = np.array(image.convert("RGBA"))
        if (colors[..., :3] == colors[..., :1]).all() and (colors[..., 3] == 255).all():
            return torch.from_numpy(colors[..., 0].copy())
    pixels = _grey(ImageOps.exif_transpose(image))
    width = max(1, min(pixels.shape) // 50)
    border = np.concatenate([edge[:width].ravel() for edge in (pixels, pixels[::-1], pixels.T, pixels.T[::-1])])
    background = np.median(border)
    deviation = 1.4826 * np.median(np.abs(border - background))  # robust: the garment may touch the border
    if background > 127:
        pixels, background = 255 - pixels, 255 - background
    pixels = np.clip((pixels - background) * 255 / (255 - background), 0, 255)
    garment = pixels > max(MIN_CONTRAST, MIN_DEVIATIONS * deviation)
    pixels[~garment] = 0
    rows, columns = (np.flatnonzero(garment.mean(axis) > MIN_SHARE) for axis in (1, 0))
    if len(rows) and len(columns):
        pixels = pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    cropped = Image.fromarray(pixels.round().astype(np.uint8))
    small = ImageOps.contain(cropped, IMAGE_SIZE, Image.Resampling.LANCZOS)
    square = Image.new("L", IMAGE_SIZE)
    # Centered; an odd pixel goes to the left and top margin, as in the data set.
    square.paste(small, ((square.width + 1 - small.width) // 2, (square.height + 1 - small.height) // 2))
    return torch.from_numpy(np.array(square))


def _grey(image: Image.Image) -> np.ndarray:
    """Luminance (H, W) from 0 to 255; transparent pixels become black or white, whichever the garment is not."""
    if image.mode.startswith(DEEP_MODES):
        pixels = np.asarray(image, np.float64)
        return pixels * (255 / max(pixels.max(), 1))
    if not image.has_transparency_data:
        return np.asarray(image.convert("L"), np.float64)
    image = image.convert("RGBA")
    luminance, opacity = np.asarray(image.convert("RGB").convert("L"), np.float64), np.asarray(image)[..., 3] / 255
    is_light = (luminance * opacity).sum() > 127 * opacity.sum()
    return luminance * opacity + (0 if is_light else 255) * (1 - opacity)

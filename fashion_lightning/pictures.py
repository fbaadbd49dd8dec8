"""People's photographs of garments, made into what the network knows. Knows pixels, not networks."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from fashion_lightning.errors import UserError
from fashion_lightning.files import IMAGE_SIZE

DEEP_MODES = ("I", "F")  # 16 or 32 bits a pixel
FAINT = 3  # of 255: what differs less from the background belongs to it,
NOISE = 4  # and what differs by less than this many standard deviations of the border
STRAY = 0.01  # of a row or column: with fewer pixels of garment it is noise


def find(names: Iterable[str]) -> list[Path]:
    """The files that are named, and all files in and below the folders that are named, each once.

    Raises:
        UserError: There is nothing to predict.
    """
    paths: list[Path] = []
    for name in names:
        path = Path(name)
        paths += sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    if not paths:
        raise UserError(
            "expected pictures or folders of pictures, got none: python -m fashion_lightning.predict photo.jpg"
        )
    return list(dict.fromkeys(paths))


def prepare(image: Image.Image) -> Tensor:
    """A light garment on black (28, 28) uint8, as in the data set, from a picture of any size and mode.

    The background is what the border of the picture has; if it is light, the picture is inverted. What is left is
    cropped to the garment, padded to a square and scaled down, as the data set's authors did. A grey picture of
    28x28 pixels, in whatever format, is one of the data set and stays as it is.
    """
    if image.size == IMAGE_SIZE and not image.mode.startswith(DEEP_MODES):
        colors = np.array(image.convert("RGBA"))
        if (colors[..., :3] == colors[..., :1]).all() and (colors[..., 3] == 255).all():
            return torch.from_numpy(colors[..., 0].copy())
    pixels = _grey(ImageOps.exif_transpose(image))
    width = max(1, min(pixels.shape) // 50)
    edges = (pixels[:width], pixels[-width:], pixels[:, :width], pixels[:, -width:])
    border = np.concatenate([edge.ravel() for edge in edges])
    background = np.median(border)
    deviation = 1.4826 * np.median(np.abs(border - background))  # of normal noise, whatever else touches the border
    if background > 127:
        pixels, background = 255 - pixels, 255 - background
    pixels = np.clip((pixels - background) * 255 / (255 - background), 0, 255)
    garment = pixels > max(FAINT, NOISE * deviation)
    pixels[~garment] = 0
    rows, columns = (np.flatnonzero(garment.mean(axis) > STRAY) for axis in (1, 0))
    if len(rows) and len(columns):
        pixels = pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    cropped = Image.fromarray(pixels.round().astype(np.uint8))
    small = ImageOps.contain(cropped, IMAGE_SIZE, Image.Resampling.LANCZOS)
    square = Image.new("L", IMAGE_SIZE)
    # In the middle; where that is between two pixels, the data set has the wider margin on the left and on top.
    square.paste(small, ((square.width + 1 - small.width) // 2, (square.height + 1 - small.height) // 2))
    return torch.from_numpy(np.array(square))


def _grey(image: Image.Image) -> np.ndarray:
    """Luminance (H, W) from 0 to 255; transparency becomes whichever of black and white the garment is not."""
    if image.mode.startswith(DEEP_MODES):
        pixels = np.asarray(image, np.float64)
        return pixels * (255 / max(pixels.max(), 1))
    if not image.has_transparency_data:
        return np.asarray(image.convert("L"), np.float64)
    image = image.convert("RGBA")
    luminance, opacity = np.asarray(image.convert("RGB").convert("L"), np.float64), np.asarray(image)[..., 3] / 255
    is_light = (luminance * opacity).sum() > 127 * opacity.sum()
    return luminance * opacity + (0 if is_light else 255) * (1 - opacity)

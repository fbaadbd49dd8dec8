"""Photographs that are drawn: where the garment is, and which colour it has, is known."""

import numpy as np
from numpy import ndarray
from PIL import Image, ImageFilter

HEIGHT, WIDTH = SIZE = 300, 240  # pixels
LUMINANCE = np.array([0.299, 0.587, 0.114])  # of red, green and blue: ITU-R BT.601

_y, _x = (axis[..., None] for axis in np.mgrid[-1 : 1 : HEIGHT * 1j, -1 : 1 : WIDTH * 1j])
_flat = np.ones((*SIZE, 3))
# Colours (H, W, 3) from 0 to 255.
GROUNDS = {
    "white": 255 * _flat,
    "black": 0 * _flat,
    "grey": 128 * _flat,
    "red": [190, 40, 45] * _flat,
    "beige": [225, 205, 175] * _flat,
    "gradient": [185, 185, 195] - (_x + _y) * [25, 25, 22],
    "vignette": [220, 215, 205] * (1 - 0.25 * (_x**2 + _y**2)),
    "texture": [150, 140, 125] + 10 * np.sin(np.pi * _x * WIDTH / 6) * np.sin(np.pi * _y * HEIGHT / 6),
    "noise": [205, 205, 210] * _flat + np.random.default_rng(0).normal(0, 6, _flat.shape),
}


def tshirt(left: int = 50, top: int = 40, width: int = 140, size: tuple[int, int] = SIZE) -> ndarray:
    """Mask (H, W) of a T; `width` is a multiple of 14."""
    mask, unit = np.zeros(size, bool), width // 14
    mask[top : top + 4 * unit, left : left + width] = True
    mask[top : top + 16 * unit, left + 3 * unit : left + 11 * unit] = True
    return mask


def bag() -> ndarray:
    """Mask (H, W) of a bag, through whose handle the ground is seen."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    distance = np.hypot((x - 120) / 50, (y - 140) / 80)
    mask = (distance > 0.7) & (distance < 1) & (y < 140)
    mask[140:240, 50:190] = True
    return mask


def painted(ground: ndarray, mask: ndarray, color: ndarray | tuple[float, ...], blur: float = 1) -> ndarray:
    """The ground (H, W, 3) with a colour where the mask is, with edges as blurred as a lens leaves them, in pixels."""
    share = np.asarray(Image.fromarray(mask).convert("L").filter(ImageFilter.GaussianBlur(blur)))[..., None] / 255
    return share * color + (1 - share) * ground


def picture(colors: ndarray, opacity: ndarray | None = None) -> Image.Image:
    """Of colours (H, W, 3) and, for mode RGBA, an opacity (H, W), both from 0 to 255."""
    channels = colors if opacity is None else np.dstack([colors, opacity])
    return Image.fromarray(channels.clip(0, 255).round().astype(np.uint8))


def box(mask: ndarray) -> tuple[float, ...]:
    """Left, top, right, bottom of the mask, as shares of the picture."""
    rows, columns = (np.flatnonzero(mask.any(axis)) / length for axis, length in ((1, len(mask)), (0, mask.shape[1])))
    return columns[0], rows[0], columns[-1] + 1 / mask.shape[1], rows[-1] + 1 / len(mask)

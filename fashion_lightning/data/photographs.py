"""Users' photographs of garments, converted to images like those of the data set. Knows pixels, not networks."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy import ndarray
from PIL import Image
from torch import Tensor

from fashion_lightning.data.labels import IMAGE_SIZE
from fashion_lightning.data.segmentation import segment, shrunk

SIDE = 256  # pixels of the longer side of a picture, in which the garment is looked for
CLOSE = SIDE // 3  # on a plain ground, a garment with fewer pixels a side is looked at again, from closer
LEAST_SIDE = 8  # pixels, below which there is no border to tell from the rest
DARKEST = 0.99  # quantile of its pixels, for the darkest part of a garment
CUT_OUT = 0.99  # of its box; a larger opaque part is rather a picture with a transparent frame than a garment
FAINT = 4.0  # contrast; see docs/predicting.md
# Levels of 255 by which the darkest part is darker than white: with fewer there is no garment, or a faint one.
WHITE, LIGHT = 8, 32


class NoGarmentError(ValueError):
    """The picture shows no garment that could be told from the background."""


@dataclass(frozen=True)
class Garment:
    image: Tensor  # (28, 28) uint8, light on black: the input to the network
    box: tuple[float, float, float, float]  # what was cropped: left, top, right, bottom, as shares of the picture
    is_faint: bool  # whether it was hard to tell from the background


def prepare(picture: Image.Image) -> Garment:
    """The garment on a picture of mode RGB or RGBA, as in the data set. Raises NoGarmentError.

    Its negative luminance on black, cropped, scaled down and padded to a square, as in Xiao et al., arXiv 1708.07747.
    It is stretched to 255, which all images of the data set reach.
    A grey picture of 28x28 pixels is taken as an image of the data set and returned unchanged.
    """
    colors = np.asarray(picture.convert("RGBA"))
    is_opaque = colors[..., 3] > 127
    if picture.size == IMAGE_SIZE and is_opaque.all() and (colors[..., :3] == colors[..., :1]).all():
        image = colors[..., 0].copy()
        if image.min() == image.max():
            raise NoGarmentError("no garment found: the picture is blank")
        return Garment(torch.from_numpy(image), (0, 0, 1, 1), False)
    if not is_opaque.any():
        raise NoGarmentError("no garment found: the picture is transparent")
    box = _around(is_opaque)
    if _crop(is_opaque, box).mean() > CUT_OUT:
        try:
            return _found(picture.convert("RGB"), box)
        except NoGarmentError:
            if is_opaque.all():
                raise
    opacity = colors[..., 3] / np.float32(255)
    garment = opacity * (255 - np.asarray(picture.convert("RGB").convert("L"), np.float32))
    return _garment(_crop(garment, box), _crop(opacity == 1, box), box, picture.size, False)


def _found(picture: Image.Image, window: tuple[float, ...]) -> Garment:
    """The garment in a window of a picture of mode RGB."""
    left, top, right, bottom = map(round, window)
    small = picture.crop((left, top, right, bottom))
    if min(small.size) < LEAST_SIDE:
        raise NoGarmentError("no garment found: the picture is too narrow")
    scale = max(1.0, max(small.size) / SIDE)
    small.thumbnail((SIDE, SIDE), Image.Resampling.BOX)
    colors = np.asarray(small.convert("YCbCr"), np.float32)
    segments = segment(colors)
    if not segments:
        raise NoGarmentError("no garment found: nothing stands out from the background")
    inner = _around(segments.opacity > 0.5)
    box = tuple(scale * edge + start for edge, start in zip(inner, (left, top) * 2, strict=True))
    side = max(box[2] - box[0], box[3] - box[1])
    if scale > 1 and side < CLOSE * scale and not segments.has_texture:
        least, most = (max(0, edge - side) for edge in box[:2]), map(min, picture.size, (box[2] + side, box[3] + side))
        return _found(picture, (*least, *most))
    # A pixel mixes the colours of garment and ground: without the ground's part, the garment's is left.
    of_ground = (1 - segments.opacity) * segments.ground[..., 0]
    garment = (255 * segments.opacity - (colors[..., 0] - of_ground)).clip(0, 255) * (segments.opacity > 0)
    is_faint = segments.contrast < FAINT
    far_from_outline = shrunk(segments.opacity == 1, 3)  # where some of the ground may be left
    return _garment(_crop(garment, inner), _crop(far_from_outline, inner), box, picture.size, is_faint)


def _around(pixels: ndarray) -> tuple[int, ...]:
    """Left, top, right, bottom of the pixels (H, W) that are set."""
    rows, columns = (np.flatnonzero(pixels.any(axis)) for axis in (1, 0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _crop(pixels: ndarray, box: tuple[int, ...]) -> ndarray:
    left, top, right, bottom = box
    return pixels[top:bottom, left:right]


def _garment(
    cropped: ndarray, inner: ndarray, box: tuple[float, ...], size: tuple[int, int], is_faint: bool
) -> Garment:
    """From what was cropped, (H, W) from 0 to 255, at a place in a picture of this size; `inner` pixels are pure."""
    darkness = np.quantile(cropped[inner] if inner.any() else cropped, DARKEST)
    if darkness < WHITE:
        raise NoGarmentError("no garment found: what stands out from the background is white, without shades")
    image = Image.fromarray((cropped * (255 / darkness)).clip(0, 255).round().astype(np.uint8))
    scale = IMAGE_SIZE[0] / max(image.size)
    width, height = (max(1, round(scale * length)) for length in image.size)
    square = Image.new("L", IMAGE_SIZE)
    # An odd pixel goes to the left and top margin, as in the data set.
    place = (square.width + 1 - width) // 2, (square.height + 1 - height) // 2
    square.paste(image.resize((width, height), Image.Resampling.LANCZOS), place)
    left, top, right, bottom = (min(1.0, edge / length) for edge, length in zip(box, size * 2, strict=True))
    is_faint = is_faint or bool(darkness < LIGHT)
    return Garment(torch.from_numpy(np.array(square)), (left, top, right, bottom), is_faint)

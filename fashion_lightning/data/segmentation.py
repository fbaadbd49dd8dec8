"""Which pixels of a picture show the garment, by their difference from the ground around it. Knows arrays, not files.

The ground is what the border of the picture shows: a smooth surface of colours, with a texture. A pixel belongs to the
garment if it differs from that surface by more than the texture does, lighter, darker or of another colour. The numbers
below were chosen on validation images made into photographs, see `benchmarks/photographs.py`.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy import ndarray

BORDER = 0.03  # of the shorter side
NOISE = 1.5  # levels of 255 in each channel, by which even a plain ground varies
LEAST, CERTAIN = 3.0, 6.0  # deviations from the ground: of a pixel, and of some pixel of a part, of the garment
OF_TEXTURE, CERTAIN_OF_TEXTURE = 1.2, 3.5  # the same, as multiples of the largest deviations of the ground
STRONG_OF_TEXTURE, OF_CONTRAST = 2.2, 0.35  # on a texture; at most this share of the garment's median deviation
EDGE = 2.5  # levels from pixel to pixel; the outline of a garment is sharper than a change of light
OF_LARGEST = 0.02  # a smaller part is no part of the garment
OF_PICTURE = 0.002  # a smaller garment is none
OF_GARMENT = 0.01  # a smaller hole is part of the garment
OF_HOLE = 0.5  # a hole with sharp edges on a smaller share of its outline has the colour of the ground by chance
# Of a shadow: the darkest ratio to the ground, the steepest step as a share of its brightness, the change of colour.
SHADOW, SOFT, GREY = 0.6, 0.02, 6.0
AROUND = np.ones((3, 3), np.uint8)


@dataclass(frozen=True)
class Segments:
    """Of a picture (H, W)."""

    opacity: ndarray  # (H, W) float32 in [0, 1], how far a pixel shows the garment
    ground: ndarray  # (H, W, 3) float32, colours of the ground, also behind the garment
    contrast: float  # median difference of garment and ground, as a multiple of the largest of the ground itself
    has_texture: bool  # whether deviations of the ground itself reach what would be a garment on a plain one


def segment(colors: ndarray) -> Segments | None:
    """Tells garment and ground apart on a picture of colours (H, W, 3) float32, YCbCr; None if all is ground."""
    border = np.ones(colors.shape[:2], bool)
    width = max(1, round(BORDER * min(border.shape)))
    border[width:-width, width:-width] = False
    edges = _edges(colors)
    ground, weights = _surface(colors, border)
    is_ground = ~border
    is_ground[border] = weights > 0.3
    deviation, largest = _deviation(colors - ground, border & is_ground)
    # Light that changes otherwise than the surface: its mean where the ground is seen.
    is_ground = ~_grown(deviation > max(LEAST, OF_TEXTURE * largest), 3)
    ground = ground + _mean_around(colors - ground, is_ground)
    if (border & is_ground).sum() > border.sum() / 10:
        deviation, largest = _deviation(colors - ground, border & is_ground)
    least, certain = max(LEAST, OF_TEXTURE * largest), max(CERTAIN, CERTAIN_OF_TEXTURE * largest)
    garment = _with_sharp_edges(_parts(deviation > least, deviation > certain), edges)
    if not garment.any():
        return None
    strong = min(STRONG_OF_TEXTURE * largest, OF_CONTRAST * float(np.median(deviation[garment])))
    if strong > least:
        garment = _grown(shrunk(garment & (deviation > strong)))
        garment = _parts(garment, garment)
    garment = _filled(_without_shadow(colors, ground, garment), edges, deviation, largest)
    opacity = _opacity(colors, ground, deviation, garment)
    if (opacity > 0.5).sum() < OF_PICTURE * opacity.size:
        return None
    contrast = float(np.median(deviation[garment])) / max(largest, LEAST / OF_TEXTURE)
    return Segments(opacity, ground, contrast, has_texture=OF_TEXTURE * largest > LEAST)


def _edges(colors: ndarray) -> ndarray:
    """Steepness (H, W) of the colours, in levels from pixel to pixel."""
    return np.linalg.norm(_steps(colors), axis=(0, 3))


def _steps(values: ndarray) -> list[ndarray]:
    """Differences of the slightly smoothed values from pixel to pixel, across and down."""
    smooth = cv2.GaussianBlur(values, (0, 0), 0.7)
    return [cv2.Sobel(smooth, cv2.CV_32F, *order, scale=1 / 8) for order in ((1, 0), (0, 1))]


def _surface(colors: ndarray, border: ndarray) -> tuple[ndarray, ndarray]:
    """Colours (H, W, 3) of the quadratic surface through the border, and weights of the pixels of the border.

    Fitted by iteratively reweighted least squares, since the garment may cover a part of the border.
    """
    y, x = np.mgrid[-1 : 1 : colors.shape[0] * 1j, -1 : 1 : colors.shape[1] * 1j].astype(np.float32)
    terms = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], -1)
    rows, values = terms[border], colors[border]
    weights = _weights(values - np.median(values, 0))
    ridge = np.diag([1e-6, *[1e-3] * 5]) * len(rows)
    for _ in range(10):
        weighted = rows.T * weights
        coefficients = np.linalg.solve(weighted @ rows + ridge, weighted @ values)
        weights = _weights(values - rows @ coefficients)
    return (terms @ coefficients).astype(np.float32), weights


def _weights(residuals: ndarray) -> ndarray:
    """In [0, 1], small for residuals (N, 3) that are larger than most."""
    size = np.abs(residuals).sum(1)
    return 1 / (1 + (size / (2 * max(1.4826 * np.median(size), 2))) ** 2) ** 2


def _deviation(residuals: ndarray, known: ndarray) -> tuple[ndarray, float]:
    """Mahalanobis distance (H, W) of smoothed residuals from those `known` as ground, and the largest of these."""
    smooth = cv2.GaussianBlur(residuals, (0, 0), 1)
    sample = smooth[known]
    size = np.abs(sample - np.median(sample, 0)).sum(1)
    sample = sample[size <= np.quantile(size, 0.9)]
    covariance = np.cov(sample.T) + np.diag([NOISE**2] * 3)
    whitening = np.linalg.cholesky(np.linalg.inv(covariance)).astype(np.float32)
    deviation = np.linalg.norm(smooth @ whitening, axis=-1)
    return deviation, float(np.quantile(deviation[known], 0.99))


def _mean_around(residuals: ndarray, known: ndarray) -> ndarray:
    """Mean of the residuals (H, W, 3) that are `known`, in a window around each pixel; 0 where there are few."""
    window = [max(1, max(known.shape) // 8)] * 2

    def blurred(values: ndarray) -> ndarray:
        return cv2.blur(cv2.blur(values, window), window)

    share = blurred(known.astype(np.float32))[..., None]
    return blurred(residuals * known[..., None]) / np.maximum(share, 1e-6) * np.clip(share / 0.02, 0, 1)


def _grown(pixels: ndarray, steps: int = 1) -> ndarray:
    return cv2.dilate(pixels.astype(np.uint8), AROUND, iterations=steps).astype(bool)


def shrunk(pixels: ndarray, steps: int = 1) -> ndarray:
    """What is beyond the picture takes nothing away."""
    return cv2.erode(pixels.astype(np.uint8), AROUND, iterations=steps).astype(bool)


def _labelled(pixels: ndarray, connectivity: int = 8) -> tuple[ndarray, ndarray]:
    """The number (H, W) of the connected part of each pixel, 0 for none, and the area of each part, 0 for the first."""
    _, labels, boxes, _ = cv2.connectedComponentsWithStats(pixels.astype(np.uint8), connectivity=connectivity)
    areas = boxes[:, cv2.CC_STAT_AREA]
    areas[0] = 0
    return labels, areas


def _touching(pixels: ndarray, seeds: ndarray) -> ndarray:
    """The connected parts of the pixels with a seed among them."""
    labels, areas = _labelled(pixels)
    return (np.bincount(labels[seeds], minlength=len(areas)) * areas > 0)[labels]


def _parts(pixels: ndarray, certain: ndarray) -> ndarray:
    """The connected parts of the pixels with certain ones among them, and that are not small."""
    labels, areas = _labelled(_touching(pixels, certain & pixels))
    return (areas > max(5, OF_LARGEST * areas.max()))[labels]


def _with_sharp_edges(garment: ndarray, edges: ndarray) -> ndarray:
    """Its parts with as many sharp edges as a quarter of the outline of a square of their area."""
    labels, areas = _labelled(garment)
    sharp = np.bincount(labels[edges > EDGE], minlength=len(areas))
    return ((sharp > np.sqrt(areas)) & (areas > 0))[labels]


def _holes(garment: ndarray) -> tuple[ndarray, ndarray]:
    """As `_labelled`, of the parts of the ground from which no way leads to the outside."""
    labels, areas = _labelled(~garment, connectivity=4)
    outside = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    areas[outside] = 0
    return labels, areas


def _without_shadow(colors: ndarray, ground: ndarray, garment: ndarray) -> ndarray:
    """Without what can be reached from the ground over a soft, darker version of its colours."""
    brightness = np.maximum(ground[..., 0], 1)
    ratio, steps = colors[..., 0] / brightness, np.linalg.norm(_steps(colors[..., 0]), axis=0) / brightness
    change = np.abs(colors[..., 1:] - 128 - ratio[..., None] * (ground[..., 1:] - 128)).max(-1)
    soft = (ratio > SHADOW) & (ratio < 1.01) & (change < GREY) & (steps < SOFT)
    labels, areas = _holes(garment)
    outside = ~garment & (areas == 0)[labels]
    wide = shrunk(outside | soft)  # gaps of a pixel or two lead into the garment
    rest = garment & ~(_grown(_touching(wide, wide & outside)) & soft)
    rest = _parts(rest, rest)
    return rest if rest.sum() > garment.sum() / 4 else garment


def _filled(garment: ndarray, edges: ndarray, deviation: ndarray, largest: float) -> ndarray:
    """With its holes, but for those through which the ground is seen: large ones like the ground with sharp edges."""
    labels, areas = _holes(garment)
    sharp = cv2.dilate(edges, AROUND) > EDGE
    filled = garment.copy()
    for label in np.flatnonzero(areas):
        hole = labels == label
        inner, outline = deviation[shrunk(hole, 2)], _grown(hole) & ~hole
        is_like = inner.size and np.quantile(inner, 0.75) < max(largest, 1)
        if areas[label] < OF_GARMENT * garment.sum() or sharp[outline].mean() <= OF_HOLE or not is_like:
            filled |= hole
    return filled


def _opacity(colors: ndarray, ground: ndarray, deviation: ndarray, garment: ndarray) -> ndarray:
    """Of the pixels of the garment; near its outline by their place between the colours of garment and ground."""
    weights = (garment * np.minimum(deviation, 60) ** 2 + 1e-6).astype(np.float32)
    own = cv2.GaussianBlur(colors * weights[..., None], (0, 0), 3) / cv2.GaussianBlur(weights, (0, 0), 3)[..., None]
    direction = own - ground
    share = ((colors - ground) * direction).sum(-1) / np.maximum((direction**2).sum(-1), 25)
    return np.where(shrunk(garment, 2), 1, np.clip(share, 0, 1) * garment).astype(np.float32)

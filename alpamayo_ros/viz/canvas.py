"""Drawing on RGB pictures with OpenCV: smooth text, sub-pixel lines, translucent areas."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from alpamayo_ros.errors import UserError

Rgb = NDArray[np.uint8]
Colour = tuple[int, int, int] | Sequence[int]

# Okabe and Ito's colours, which people with any colour vision tell apart.
ORANGE, SKY, GREEN = (230, 159, 0), (86, 180, 233), (0, 158, 115)
BLUE, VERMILION, YELLOW = (0, 114, 178), (213, 94, 0), (240, 228, 66)
INK, MUTED, FAINT = (31, 37, 46), (102, 112, 125), (226, 230, 235)
PAPER, WHITE = (250, 251, 252), (255, 255, 255)

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_CAP_HEIGHT = 21.0  # pixels of a capital letter at scale 1
_TEXT_MARGIN = 4  # pixels around a text for its antialiasing
_JPEG_QUALITY = [cv2.IMWRITE_JPEG_QUALITY, 85]
_SHIFT = 4  # fractional bits of OpenCV's coordinates


def blank(height: int, width: int, colour: Colour = PAPER) -> Rgb:
    """A picture of one colour."""
    return np.full((height, width, 3), colour, np.uint8)


def text_width(text: str, size: float, weight: float = 1.0) -> float:
    """Pixels that `text` takes in capitals of `size` pixels."""
    scale = 4 * size / _CAP_HEIGHT
    thickness = max(1, round(4 * size * 0.115 * weight))
    return cv2.getTextSize(_ascii(text), _FONT, scale, thickness)[0][0] / 4.0


def text(
    canvas: Rgb,
    at: tuple[float, float],
    string: str,
    size: float = 11.0,
    colour: Colour = INK,
    *,
    weight: float = 1.0,
    align: str = "left",
) -> None:
    """Write `string`, its baseline at `at` (x, y), capitals `size` pixels high.

    OpenCV's strokes are drawn four times as large and averaged, which makes them smooth. They are
    ASCII; other letters become '?'.
    """
    alpha, width, baseline = _text_mask(_ascii(string), size, weight)
    shift = {"left": 0.0, "centre": width / 2, "right": width}[align]
    left, top = round(at[0] - shift - _TEXT_MARGIN), round(at[1] - baseline)
    _blend_patch(canvas, alpha, (left, top), colour)


@functools.lru_cache(maxsize=512)  # labels are the same in every picture of a video
def _text_mask(string: str, size: float, weight: float) -> tuple[NDArray[Any], float, float]:
    """(h, w) shares of ink, the text's width and its baseline below the mask's top, in pixels."""
    scale, thickness = 4 * size / _CAP_HEIGHT, max(1, round(4 * size * 0.115 * weight))
    (width, height), below = cv2.getTextSize(string, _FONT, scale, thickness)
    margin = 4 * _TEXT_MARGIN
    mask = np.zeros((height + below + 2 * margin, width + 2 * margin), np.uint8)
    mask = np.pad(mask, ((0, -mask.shape[0] % 4), (0, -mask.shape[1] % 4)))
    cv2.putText(mask, string, (margin, margin + height), _FONT, scale, 255, thickness, cv2.LINE_AA)
    small = cv2.resize(mask, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    return small / np.float32(255.0), width / 4.0, (margin + height) / 4


def _blend_patch(canvas: Rgb, alpha: NDArray[Any], at: tuple[int, int], colour: Colour) -> None:
    """Mix `colour` in by `alpha`, cut where the patch leaves the canvas."""
    left, top = at
    height, width = canvas.shape[:2]
    x0, y0 = max(left, 0), max(top, 0)
    x1, y1 = min(left + alpha.shape[1], width), min(top + alpha.shape[0], height)
    if x0 >= x1 or y0 >= y1:
        return
    part = alpha[y0 - top : y1 - top, x0 - left : x1 - left, None]
    region = canvas[y0:y1, x0:x1]
    ink = np.asarray(colour, np.float32)
    np.add(region, part * (ink - region) + np.float32(0.5), out=region, casting="unsafe")


def polyline(canvas: Rgb, points: ArrayLike, colour: Colour, thickness: int = 2) -> None:
    """An antialiased line through (n, 2) pixels with fractions."""
    if len(np.asarray(points)) >= 2:
        cv2.polylines(canvas, [_fixed(points)], False, colour, thickness, cv2.LINE_AA, _SHIFT)


def dashed(
    canvas: Rgb, start: ArrayLike, end: ArrayLike, colour: Colour, step: float = 4.0
) -> None:
    """A thin dashed line."""
    a, b = np.asarray(start, dtype=np.float64), np.asarray(end, dtype=np.float64)
    length = float(np.linalg.norm(b - a))
    for k in range(0, int(length / step), 2):
        piece = [a + (b - a) * (step * k / length), a + (b - a) * min(1, step * (k + 1) / length)]
        polyline(canvas, piece, colour, 1)


def polygons(canvas: Rgb, shapes: Sequence[ArrayLike], colour: Colour, alpha: float) -> None:
    """Fill convex (n, 2) shapes as one area: where they overlap or touch there is no seam."""
    corners = [
        np.asarray(shape, dtype=np.float64) for shape in shapes if len(np.asarray(shape)) > 2
    ]
    if not corners:
        return
    every, size = np.vstack(corners), (canvas.shape[1], canvas.shape[0])
    low = np.clip(np.floor(every.min(axis=0)) - 1, 0, size).astype(int)
    high = np.clip(np.ceil(every.max(axis=0)) + 2, 0, size).astype(int)
    width, height = (high - low).tolist()
    if width <= 0 or height <= 0:
        return
    mask = np.zeros((2 * height, 2 * width), np.uint8)
    for shape in corners:
        cv2.fillConvexPoly(mask, _fixed((shape - low) * 2.0), 255, cv2.LINE_8, _SHIFT)
    small = cv2.resize(mask, (width, height), interpolation=cv2.INTER_AREA)
    _blend_patch(canvas, small * np.float32(alpha / 255.0), (int(low[0]), int(low[1])), colour)


def box(
    canvas: Rgb,
    corner: tuple[float, float],
    size: tuple[float, float],
    colour: Colour,
    alpha: float,
) -> None:
    """A translucent rectangle."""
    _blend_patch(
        canvas,
        np.full((round(size[1]), round(size[0])), alpha, np.float32),
        (round(corner[0]), round(corner[1])),
        colour,
    )


def dot(canvas: Rgb, at: ArrayLike, radius: float, colour: Colour, rim: Colour = WHITE) -> None:
    """A filled circle with a rim."""
    centre = [int(v) for v in _fixed([np.asarray(at)])[0, 0]]
    scale = 1 << _SHIFT
    cv2.circle(canvas, centre, round((radius + 1.5) * scale), rim, -1, cv2.LINE_AA, _SHIFT)
    cv2.circle(canvas, centre, round(radius * scale), colour, -1, cv2.LINE_AA, _SHIFT)


def badge(
    canvas: Rgb, at: ArrayLike, label: str, colour: Colour = INK, radius: float = 10.0
) -> None:
    """A circle with a number in it."""
    dot(canvas, at, radius, colour)
    x, y = np.asarray(at, dtype=np.float64)
    text(
        canvas,
        (x + 0.5, y + radius * 0.42),
        label,
        radius * 0.84,
        WHITE,
        weight=1.3,
        align="centre",
    )


def sequential(shares: ArrayLike) -> list[tuple[int, int, int]]:
    """Colours of 0 … 1, dark to light: viridis without the yellow that vanishes on paper."""
    levels = np.round(np.clip(np.asarray(shares, dtype=np.float64), 0, 1) * 205).astype(np.uint8)
    if not levels.size:
        return []
    table = cv2.applyColorMap(levels.reshape(-1, 1), cv2.COLORMAP_VIRIDIS)[:, 0, ::-1]
    return [(int(r), int(g), int(b)) for r, g, b in table]


def save_picture(path: Path, rgb: Rgb) -> None:
    """Write a PNG or JPEG; UserError where that fails. OpenCV takes BGR and reports by a flag."""
    path.parent.mkdir(parents=True, exist_ok=True)
    bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    is_jpeg = path.suffix.lower() in (".jpg", ".jpeg")
    if not cv2.imwrite(str(path), bgr, _JPEG_QUALITY if is_jpeg else []):
        raise UserError(f"cannot write the picture {path}")


def _fixed(points: ArrayLike) -> NDArray[np.int32]:
    """(n, 1, 2) pixels as OpenCV's fixed-point numbers, kept inside its 16-bit range."""
    values = np.clip(np.asarray(points, dtype=np.float64), -30000, 30000)
    return np.round(values * (1 << _SHIFT)).astype(np.int32).reshape(-1, 1, 2)


def _ascii(string: str) -> str:
    return string.encode("ascii", "replace").decode()

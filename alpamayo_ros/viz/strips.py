"""A quantity over time around an instant: recorded and planned, now in between."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from alpamayo_ros.viz import canvas as draw

Array = NDArray[np.float64]
Rgb = NDArray[np.uint8]

# Times from now in s, values, colour, thickness.
Line = tuple[ArrayLike, ArrayLike, draw.Colour, int]

PAST_S, FUTURE_S = 4.0, 6.4
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 12, 28, 20


class Strip:
    """Axes that are drawn once, and the lines of each instant on a copy of them."""

    def __init__(
        self, title: str, low: float, high: float, form: str, size: tuple[int, int]
    ) -> None:
        width, height = size
        self._low, self._high = low, high
        self._x = (_LEFT, width - _RIGHT)
        self._y = (height - _BOTTOM, _TOP)
        self._axes = draw.blank(height, width, draw.WHITE)
        draw.text(self._axes, (10, 18), title, 9.5)
        for level in sorted({low, high, 0.0} if low <= 0 <= high else {low, high}):
            y = float(self._pixels([0.0], [level])[0, 1])
            draw.polyline(self._axes, [(self._x[0], y), (self._x[1], y)], draw.FAINT, 1)
            label = form.format(level)
            draw.text(self._axes, (_LEFT - 6, y + 4), label, 8, draw.MUTED, align="right")
        for second in range(-4, 7, 2):
            x = float(self._pixels([float(second)], [low])[0, 0])
            label = "now" if second == 0 else f"{second:+d} s"
            draw.text(self._axes, (x, height - 6), label, 8, draw.MUTED, align="centre")
        now = self._pixels([0.0, 0.0], [low, high])
        draw.dashed(self._axes, now[0], now[1], draw.MUTED)

    def draw(self, lines: Sequence[Line]) -> Rgb:
        """The strip with its lines."""
        panel = self._axes.copy()
        for times, values, colour, thickness in lines:
            inside = (np.asarray(times) >= -PAST_S) & (np.asarray(times) <= FUTURE_S + 1e-6)
            chosen = np.asarray(times)[inside], np.asarray(values)[inside]
            draw.polyline(panel, self._pixels(*chosen), colour, thickness)
        return panel

    def _pixels(self, times_s: ArrayLike, values: ArrayLike) -> Array:
        across = (np.asarray(times_s, dtype=np.float64) + PAST_S) / (PAST_S + FUTURE_S)
        level = np.clip(np.asarray(values, dtype=np.float64), self._low, self._high)
        up = (level - self._low) / (self._high - self._low)
        x = self._x[0] + across * (self._x[1] - self._x[0])
        return np.stack([x, self._y[0] + up * (self._y[1] - self._y[0])], axis=-1)

"""Speed over time, with the instants of plans and of rejected ticks below it."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from alpamayo_ros.viz import canvas as draw

Array = NDArray[np.float64]
Rgb = NDArray[np.uint8]


def speed_strip(
    times_s: ArrayLike,
    speeds_mps: ArrayLike,
    plan_times_s: ArrayLike,
    rejection_times_s: ArrayLike,
    marked_times_s: Sequence[float],
    width: int,
) -> Rgb:
    """(184, width, 3): the speed, a tick for each plan and each tick without one, badges 1 … n."""
    height, left, right, top, bottom = 184, 64, 24, 74, 46
    row = draw.blank(height, width, draw.WHITE)
    cv2.rectangle(row, (0, 0), (width - 1, height - 1), draw.FAINT, 1)
    draw.text(row, (20, 27), "Speed", 12, weight=1.15)
    times, speeds = np.asarray(times_s, np.float64), np.asarray(speeds_mps, np.float64)
    plans, rejections = np.asarray(plan_times_s), np.asarray(rejection_times_s)
    every = np.concatenate([times, plans, rejections])
    start, end = float(every.min()), float(max(every.max(), every.min() + 1e-3))
    low = min(0.0, float(speeds.min()))
    ceiling = max(5.0, 5.0 * np.ceil(float(speeds.max()) / 5.0))

    def x_of(time: ArrayLike) -> Array:
        return left + (np.asarray(time) - start) / (end - start) * (width - left - right)

    def y_of(speed: ArrayLike) -> Array:
        share = (np.asarray(speed) - low) / (ceiling - low)
        return height - bottom - share * (height - top - bottom)

    for level in (0.0, ceiling):
        y = float(y_of(level))
        draw.polyline(row, [(left, y), (width - right, y)], draw.FAINT, 1)
        draw.text(row, (left - 10, y + 4), f"{level:.0f}", 9, draw.MUTED, align="right")
    line = np.stack([x_of(times), y_of(speeds)], axis=1)
    draw.polyline(row, line, draw.ORANGE, 2)
    for k, marked in enumerate(marked_times_s):
        x = float(x_of(marked))
        draw.dashed(row, (x, top - 8), (x, height - bottom), draw.MUTED)
        draw.badge(row, (x, top - 18), str(k + 1))
    base = height - bottom + 4
    for ticks, colour, end_y in (
        (plans, draw.BLUE, base + 7),
        (rejections, draw.VERMILION, base + 11),
    ):
        for x in x_of(ticks):
            draw.polyline(row, [(x, base), (x, end_y)], colour, 1)
    _time_axis(row, x_of([start, end]), (start, end), height - 10)
    _tick_legend(row, len(plans), len(rejections))
    return row


def _tick_legend(row: Rgb, plans: int, rejections: int) -> None:
    x = 20 + draw.text_width("Speed", 12) + 16
    for colour, words in (
        (draw.ORANGE, "driven, m/s"),
        (draw.BLUE, f"{plans} plans"),
        (draw.VERMILION, f"{rejections} ticks without a plan"),
    ):
        draw.box(row, (x, 16), (10, 10), colour, 1.0)
        draw.text(row, (x + 18, 26), words, 10, draw.MUTED)
        x += 18 + draw.text_width(words, 10) + 28


def _time_axis(row: Rgb, ends_x: Array, span: tuple[float, float], y: float) -> None:
    """Round seconds, at most about twelve."""
    rounds = np.array([m * 10.0**e for e in range(-1, 4) for m in (1, 2, 5)])
    index = int(np.searchsorted(rounds, (span[1] - span[0]) / 12))
    step = float(rounds[min(index, len(rounds) - 1)])
    for time in np.arange(np.ceil(span[0] / step) * step, span[1] + 1e-9, step):
        x = float(np.interp(time, span, ends_x))
        draw.text(row, (x, y), f"{time:g} s", 9, draw.MUTED, align="centre")

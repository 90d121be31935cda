"""The metrics of a training as one picture: losses and validation errors over steps."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

from alpamayo_ros.viz.canvas import save_picture

_SIZE = (360, 640)  # of one plot: rows, columns
_MARGIN = 44
_COLOURS = ((31, 119, 180), (214, 39, 40), (44, 160, 44), (255, 127, 14), (148, 103, 189))
_PLOTS = (
    ("loss", ("loss", "truth", "teacher", "features", "tokens", "sight")),
    ("validation error, m", ("ade_2s_m", "prior_2s_m", "ade_6.4s_m", "prior_6.4s_m")),
)


def draw_curves(metrics: Path, picture: Path, title: str) -> None:
    """Both plots beside each other; logarithmic in the values."""
    lines = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    plots = [_plot(lines, f"{title}: {name}", keys) for name, keys in _PLOTS]
    save_picture(picture, np.hstack(plots))


def _plot(lines: list[dict[str, float]], title: str, keys: tuple[str, ...]) -> np.ndarray:
    height, width = _SIZE
    image = np.full((height, width, 3), 255, np.uint8)
    series = {
        key: [(line["step"], max(line[key], 1e-4)) for line in lines if key in line] for key in keys
    }
    series = {key: points for key, points in series.items() if points}
    _text(image, title, (_MARGIN, 18), (0, 0, 0))
    cv2.rectangle(image, (_MARGIN, 28), (width - 8, height - 24), (200, 200, 200), 1)
    if not series:
        return image
    values = np.log10([value for points in series.values() for _, value in points])
    low, high = float(values.min()), max(float(values.max()), float(values.min()) + 1e-3)
    last = max(step for points in series.values() for step, _ in points)
    for number, (key, points) in enumerate(series.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        x = [_MARGIN + (width - 8 - _MARGIN) * step / last for step, _ in points]
        y = [28 + (height - 52) * (high - np.log10(value)) / (high - low) for _, value in points]
        line = np.round(np.stack([x, y], axis=1)).astype(np.int32)
        cv2.polylines(image, [line], False, colour, 1, cv2.LINE_AA)
        _text(image, f"{key} {points[-1][1]:.3g}", (width - 190, 46 + 16 * number), colour)
    for share in (0.0, 0.5, 1.0):
        row = int(28 + (height - 52) * share)
        _text(image, f"{10 ** (high - share * (high - low)):.2g}", (2, row + 4), (90, 90, 90))
    _text(image, f"{last:.0f} steps", (width - 110, height - 8), (90, 90, 90))
    return image


def _text(image: np.ndarray, text: str, at: tuple[int, int], colour: tuple[int, ...]) -> None:
    cv2.putText(image, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.42, colour, 1, cv2.LINE_AA)

"""Pictures of a drive's instants, 1280 x 720: cameras, from above, speed, curvature, reasoning.

Blue is planned, green are candidates, orange is what the vehicle did: Okabe and Ito's colours,
which people with any colour vision tell apart.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from alpamayo_ros.cameras.projection import CameraModel
from alpamayo_ros.viz import canvas as draw
from alpamayo_ros.viz.from_above import draw_from_above
from alpamayo_ros.viz.moment import CameraView, Limits, Moment
from alpamayo_ros.viz.on_camera import draw_line, draw_path
from alpamayo_ros.viz.strips import Line, Strip

Rgb = NDArray[np.uint8]

WIDTH, HEIGHT = 1280, 720
_MAIN = (800, 444)
_GAP = 4
_STRIP_HEIGHT = 128
_LINES, _LETTERS = 5, 60  # of reasoning


@dataclass(frozen=True, slots=True)
class _Rect:
    x: int
    y: int
    width: int
    height: int

    def of(self, picture: Rgb) -> Rgb:
        """The part of the picture, to be drawn on."""
        return picture[self.y : self.y + self.height, self.x : self.x + self.width]


class Dashboard:
    """Draws moments of one drive, whose cameras and axes stay the same."""

    def __init__(self, cameras: Sequence[str], limits: Limits, title: str) -> None:
        self._title = title
        small_height = HEIGHT - _MAIN[1] - _STRIP_HEIGHT - 2 * _GAP
        small_width = min(_MAIN[0] // max(len(cameras) - 1, 3), round(small_height * 16 / 9))
        self._panels = [_Rect(0, 0, *_MAIN)] + [
            _Rect(k * (_MAIN[0] // max(len(cameras) - 1, 3)), _MAIN[1] + _GAP,
                  small_width, small_height)
            for k in range(len(cameras) - 1)
        ]  # fmt: skip
        right = _MAIN[0] + _GAP
        self._above = _Rect(right, 0, WIDTH - right, _MAIN[1])
        self._text = _Rect(right, _MAIN[1] + _GAP, WIDTH - right, small_height)
        below = HEIGHT - _STRIP_HEIGHT
        self._strip_rects = (
            _Rect(0, below, WIDTH // 2 - _GAP // 2, _STRIP_HEIGHT),
            _Rect(WIDTH // 2 + _GAP // 2, below, WIDTH // 2 - _GAP // 2, _STRIP_HEIGHT),
        )
        size = self._strip_rects[0].width, _STRIP_HEIGHT
        bend = limits.curvature_1pm
        self._strips = (
            Strip("Speed, m/s", 0.0, limits.speed_mps, "{:.0f}", size),
            Strip("Curvature, 1/m, left is up", -bend, bend, "{:.2f}", size),
        )  # fmt: skip
        self._base = draw.blank(HEIGHT, WIDTH, draw.FAINT)

    def panel_size(self, index: int) -> tuple[int, int]:
        """(width, height) that the index-th camera is shown in: images need not be larger."""
        return self._panels[index].width, self._panels[index].height

    def draw(self, moment: Moment) -> Rgb:
        """(720, 1280, 3)."""
        picture = self._base.copy()
        for rect, view in zip(self._panels, moment.views):
            _draw_view(rect.of(picture), view, moment)
        above = self._above.of(picture)
        above[:] = draw.WHITE
        draw_from_above(above, moment)
        self._draw_text(self._text.of(picture), moment)
        past, plan = moment.recorded, moment.plan
        speeds: list[Line] = [(past.times_s, past.speeds_mps, draw.ORANGE, 2)]
        bends: list[Line] = [(past.times_s, past.curvatures_1pm, draw.ORANGE, 2)]
        if plan is not None:
            speeds.append((plan.times_s, plan.speeds_mps, draw.BLUE, 2))
            bends.append((plan.times_s, plan.curvatures_1pm, draw.BLUE, 2))
        for rect, strip, lines in zip(self._strip_rects, self._strips, (speeds, bends)):
            rect.of(picture)[:] = strip.draw(lines)
        return picture

    def _draw_text(self, panel: Rgb, moment: Moment) -> None:
        panel[:] = draw.PAPER
        plan = moment.plan
        draw.text(panel, (12, 18), f"{moment.time_s:6.1f} s   {self._title}"[:58], 9, draw.MUTED)
        if plan is None:
            draw.text(panel, (12, 42), "no plan", 11, draw.VERMILION, weight=1.3)
            _wrapped(panel, moment.refusal, 62)
            return
        draw.text(panel, (12, 42), plan.decisions[:54], 10, draw.BLUE, weight=1.25)
        _wrapped(panel, plan.reasoning, 62)


def _wrapped(panel: Rgb, text: str, y: float) -> None:
    """Up to _LINES lines; "..." where there is more."""
    lines = textwrap.wrap(text, _LETTERS, max_lines=_LINES, placeholder=" ...")
    for k, line in enumerate(lines):
        draw.text(panel, (12, y + 18 * k), line, 9.5)


def _draw_view(panel: Rgb, view: CameraView, moment: Moment) -> None:
    """The image as large as it fits, with the paths on it."""
    panel[:] = draw.INK
    height, width = panel.shape[:2]
    if view.image is not None:
        scale = min(width / view.image.shape[1], height / view.image.shape[0])
        size = round(view.image.shape[1] * scale), round(view.image.shape[0] * scale)
        left, top = (width - size[0]) // 2, (height - size[1]) // 2
        inside = panel[top : top + size[1], left : left + size[0]]
        if size == (view.image.shape[1], view.image.shape[0]):
            inside[:] = view.image
        else:
            mode = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
            inside[:] = cv2.resize(view.image, size, interpolation=mode)
        if view.camera is not None:
            _draw_paths(inside, view.camera.resized(*size), moment)
    label = view.name.replace("_", " ")
    if view.image is None:
        label += ": no image"
    elif view.camera is None:
        label += ": no calibration"
    draw.box(panel, (0, 0), (draw.text_width(label, 8.5) + 16, 20), draw.INK, 0.6)
    draw.text(panel, (8, 14), label, 8.5, draw.WHITE)


def _draw_paths(inside: Rgb, camera: CameraModel, moment: Moment) -> None:
    recorded = moment.recorded
    future = recorded.xyz_m[recorded.times_s >= 0]
    plan = moment.plan
    if plan is None:
        draw_line(inside, camera, future, draw.ORANGE, 2)
        return
    ahead = plan.times_s >= 0
    draw_path(
        inside, camera, plan.xyz_m[ahead], future, list(plan.candidates_xyz_m), from_rig=False
    )

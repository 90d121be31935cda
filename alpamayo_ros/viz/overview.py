"""One picture of a drive: plans on the front camera, from above, and the speed.

Plain arrays in, pixels out; no ROS. Orange is what the vehicle did, everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from alpamayo_ros.cameras.projection import CameraModel
from alpamayo_ros.types import N_WAYPOINTS
from alpamayo_ros.viz import canvas as draw
from alpamayo_ros.viz.on_camera import draw_path
from alpamayo_ros.viz.speed_strip import speed_strip

Array = NDArray[np.float64]
Rgb = NDArray[np.uint8]

MAX_PANELS = 3
_MARGIN, _GAP = 32, 16


@dataclass(frozen=True, slots=True)
class OverviewInstant:
    """One planned instant with its front camera image."""

    image_rgb: Rgb  # (H, W, 3)
    path_xyz_in_rig_t0: Array  # (64, 3) m
    caption: str
    time_s: float  # on the drive's clock
    camera: CameraModel | None = None  # None: no camera_info, the path is not drawn
    future_xyz_in_rig_t0: Array | None = None  # (n, 3) m, what the vehicle then did


@dataclass(frozen=True, slots=True)
class DriveOverview:
    """The drive in the odometry frame; times on one clock, e.g. seconds since the first pose."""

    times_s: Array  # (n,)
    positions_m: Array  # (n, 3)
    speeds_mps: Array  # (n,)
    plan_times_s: Array  # (m,) t0 of each plan
    plans_xyz_in_odometry: Array  # (m, 64, 3)
    rejection_times_s: Array  # (r,) ticks without a plan; may be empty


def draw_overview(
    instants: Sequence[OverviewInstant],
    drive: DriveOverview,
    *,
    title: str,
    subtitle: str = "",
    every: int | None = None,
    width: int = 1600,
) -> Rgb:
    """(H, width, 3): up to three camera panels, the drive from above, the speed.

    `every`: draw each k-th plan from above; by default as many as can be told apart (about 40).
    Without any odometry only the cameras are drawn.
    """
    shown = list(instants)[:MAX_PANELS]
    inner = width - 2 * _MARGIN
    rows = [_header(title, subtitle, inner, any(instant.camera for instant in shown))]
    if shown:
        rows.append(_camera_row(shown, inner))
    if len(drive.times_s):
        rows.append(_bird_view(drive, shown, every, inner))
        rows.append(
            speed_strip(
                drive.times_s,
                drive.speeds_mps,
                drive.plan_times_s,
                drive.rejection_times_s,
                [instant.time_s for instant in shown],
                inner,
            )
        )
    gap = draw.blank(_GAP, inner)
    stacked = np.vstack([part for row in rows for part in (row, gap)])
    return cv2.copyMakeBorder(  # type: ignore[return-value]
        stacked, _MARGIN, _MARGIN - _GAP, _MARGIN, _MARGIN, cv2.BORDER_CONSTANT, value=draw.PAPER
    )


def _header(title: str, subtitle: str, width: int, paths_drawn: bool) -> Rgb:
    """Title, a line below it, and at the right the key to what is drawn on the cameras."""
    row = draw.blank(64, width)
    draw.text(row, (0, 22), title, 17, weight=1.25)
    draw.text(row, (0, 52), subtitle, 10.5, draw.MUTED)
    if not paths_drawn:
        return row
    x, y = width - draw.text_width("planned, a line each second", 10), 52
    draw.text(row, (x, y), "planned, a line each second", 10, draw.MUTED)
    draw.box(row, (x - 42, y - 12), (30, 14), draw.SKY, 0.75)
    x -= 42 + 30 + draw.text_width("driven", 10)
    draw.text(row, (x, y), "driven", 10, draw.MUTED)
    draw.polyline(row, [(x - 42, y - 5), (x - 12, y - 5)], draw.ORANGE, 3)
    return row


# --- cameras ---


def _camera_row(instants: Sequence[OverviewInstant], width: int) -> Rgb:
    """The panels side by side, as high as the highest of them."""
    each = (width - _GAP * (len(instants) - 1)) // len(instants)
    panels = [_camera_panel(instant, k + 1, each) for k, instant in enumerate(instants)]
    height = max(panel.shape[0] for panel in panels)
    row = draw.blank(height, width)
    for k, panel in enumerate(panels):
        left = k * (each + _GAP)
        row[: panel.shape[0], left : left + each] = panel
    return row


def _camera_panel(instant: OverviewInstant, number: int, width: int) -> Rgb:
    """One image with the plan as a ribbon, the recorded future as a line, a caption below."""
    image = np.asarray(instant.image_rgb)
    height = max(1, round(image.shape[0] * width / image.shape[1]))
    shrinks = width < image.shape[1]
    mode = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    picture: Rgb = np.asarray(cv2.resize(image, (width, height), interpolation=mode), np.uint8)
    if instant.camera is None:
        note = "no camera_info: path not drawn"
        length = draw.text_width(note, 9.5) + 24
        draw.box(picture, (width - length - 10, height - 38), (length, 28), draw.INK, 0.72)
        draw.text(picture, (width - length + 2, height - 19), note, 9.5, draw.WHITE)
    else:
        camera = instant.camera.resized(width, height)
        draw_path(picture, camera, instant.path_xyz_in_rig_t0, instant.future_xyz_in_rig_t0)
    draw.badge(picture, (22, 22), str(number), radius=12)
    caption = draw.blank(34, width)
    draw.text(caption, (0, 22), instant.caption, 10.5, draw.MUTED)
    return np.vstack([picture, caption])


# --- from above ---


def _bird_view(
    drive: DriveOverview, instants: Sequence[OverviewInstant], every: int | None, width: int
) -> Rgb:
    """The whole drive, turned so that its longest extent lies across the picture."""
    plans = np.asarray(drive.plans_xyz_in_odometry, dtype=np.float64).reshape(-1, N_WAYPOINTS, 3)
    step = every or max(1, -(-len(plans) // 40))
    chosen = np.arange(0, len(plans), step)
    track = np.asarray(drive.positions_m, dtype=np.float64)[:, :2]
    turn = _turn(track)
    flat = np.vstack([track, plans[chosen][..., :2].reshape(-1, 2)]) @ turn.T
    low, high = flat.min(axis=0), flat.max(axis=0)
    extent = np.maximum(high - low, (20.0, 8.0))
    top, side = 66, 48
    scale = min((width - 2 * side) / extent[0], 560 / extent[1])
    height = int(np.clip(extent[1] * scale, 90, 560)) + top + 64
    centre = np.array([width / 2, top + (height - top - 64) / 2])
    middle = (low + high) / 2

    def to_pixels(xy: Array) -> Array:
        flipped = (np.asarray(xy)[..., :2] @ turn.T - middle) * (scale, -scale)
        return np.asarray(flipped + centre)

    row = draw.blank(height, width, draw.WHITE)
    cv2.rectangle(row, (0, 0), (width - 1, height - 1), draw.FAINT, 1)
    draw.polyline(row, to_pixels(track), draw.ORANGE, 6)
    stamps = np.asarray(drive.plan_times_s)[chosen]
    span = (float(stamps.min()), float(stamps.max())) if len(stamps) else (0.0, 0.0)
    shares = (stamps - span[0]) / max(span[1] - span[0], 1e-3)
    for index, colour in zip(chosen, draw.sequential(shares), strict=True):
        path = to_pixels(plans[index])
        draw.polyline(row, path, colour, 1)
        draw.dot(row, path[-1], 1.5, colour, colour)
    for k, instant in enumerate(instants):
        at = to_pixels(_position_at(drive, instant.time_s))
        draw.badge(row, at + (0, -22), str(k + 1))
        draw.dot(row, at, 4, draw.INK)
    _legend(row, span, len(chosen), len(plans))
    _scale_bar(row, scale)
    return row


def _turn(track: Array) -> Array:
    """(2, 2) rotation that lays the drive's long axis along x, from left to right."""
    spread = track - track.mean(axis=0)
    _, values, axes = np.linalg.svd(spread, full_matrices=False)
    if values[0] < 1.0:  # standing: any direction will do
        return np.eye(2)
    along = axes[0] if (track[-1] - track[0]) @ axes[0] >= 0 else -axes[0]
    return np.array([along, [-along[1], along[0]]])


def _position_at(drive: DriveOverview, time_s: float) -> Array:
    return np.array([np.interp(time_s, drive.times_s, drive.positions_m[:, k]) for k in range(3)])


def _legend(row: Rgb, span: tuple[float, float], drawn: int, total: int) -> None:
    x, y = 20.0, 30.0
    draw.text(row, (x, y), "From above", 12, weight=1.15)
    x += draw.text_width("From above", 12) + 34
    draw.polyline(row, [(x, y - 5), (x + 30, y - 5)], draw.ORANGE, 7)
    draw.text(row, (x + 42, y), "driven", 10, draw.MUTED)
    x += 42 + draw.text_width("driven", 10) + 30
    for k, colour in enumerate(draw.sequential(np.linspace(0, 1, 60))):
        draw.polyline(row, [(x + 2 * k, y - 5), (x + 2 * k + 2, y - 5)], colour, 3)
    which = "planned" if drawn == total else f"planned ({drawn} of {total} shown)"
    words = f"{which}, t0 from {span[0]:.1f} to {span[1]:.1f} s, each 6.4 s ahead"
    draw.text(row, (x + 134, y), words, 10, draw.MUTED)


def _scale_bar(row: Rgb, pixels_per_m: float) -> None:
    """A round number of metres, about 140 pixels long, at the bottom left."""
    rounds = np.array([m * 10.0**e for e in range(5) for m in (1, 2, 5)])
    metres = float(rounds[np.argmin(np.abs(rounds * pixels_per_m - 140))])
    x, y, length = 20.0, row.shape[0] - 20.0, metres * pixels_per_m
    draw.polyline(row, [(x, y - 5), (x, y), (x + length, y), (x + length, y - 5)], draw.INK, 2)
    draw.text(row, (x + length + 10, y + 2), f"{metres:.0f} m", 9.5, draw.MUTED)

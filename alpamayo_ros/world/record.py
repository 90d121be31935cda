"""Drive and render a seed's world into a rosbag2."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from alpamayo_ros.bags.writer import BagWriter
from alpamayo_ros.errors import UserError
from alpamayo_ros.world.drive import CONTROL_STEP_NS, START_M, Drive, simulate, start_world
from alpamayo_ros.world.driver import LaneDriver
from alpamayo_ros.world.generate import generate_scene
from alpamayo_ros.world.messages import DriveMessages
from alpamayo_ros.world.render import Renderer
from alpamayo_ros.world.rig import Rig, default_rig
from alpamayo_ros.world.scenarios import CRUISE_MPS
from alpamayo_ros.world.scene import Scene

EPOCH_NS = 1_700_000_000 * 1_000_000_000  # every recording starts here
ODOMETRY_STEP_NS = 20_000_000
# Odometry never falls on a camera's stamp, so that a reader has to interpolate.
ODOMETRY_PHASE_NS = 7_000_000
_CAMERA_DELAY_NS = (15_000_000, 25_000_000)
_ODOMETRY_DELAY_NS = (1_000_000, 3_000_000)
_JPEG_QUALITY = 90
_JPEG_BYTES_A_PIXEL = 0.45  # more than any frame of this world takes
_STOP_FROM_S = 30.0  # drives at least this long hold a stop
_ROAD_AHEAD_M = 420.0  # beyond where the fastest drive ends: what the last frame sees
_STREAM = 9


@dataclass(frozen=True)
class RecordOptions:
    """What to record. Raises UserError for values out of range."""

    seconds: float = 20.0
    seed: int = 0
    camera_rate_hz: int = 10
    width_px: int = 576
    height_px: int = 320
    cruise_mps: float = CRUISE_MPS

    def __post_init__(self) -> None:
        size = f"{self.width_px}x{self.height_px}"
        checks = (
            (1.0 <= self.seconds <= 600.0, f"{self.seconds:g} s is not a length from 1 to 600 s"),
            (self.seed >= 0, f"seed {self.seed} is negative; seeds are whole numbers from 0"),
            (1 <= self.camera_rate_hz <= 60,
             f"{self.camera_rate_hz} Hz is not a whole camera rate from 1 to 60 Hz, such as 10"),
            (64 <= self.width_px <= 1920 and 48 <= self.height_px <= 1080
             and self.width_px % 4 == 0 and self.height_px % 4 == 0,
             f"size {size} is not WIDTHxHEIGHT in multiples of 4, 64x48 to 1920x1080"),
            (2.0 <= self.cruise_mps <= 20.0,
             f"{self.cruise_mps:g} m/s is not a cruising speed from 2 to 20 m/s"),
        )  # fmt: skip
        for good, message in checks:
            if not good:
                raise UserError(message)

    @property
    def duration_ns(self) -> int:
        return round(self.seconds * 1e9)


@dataclass(frozen=True)
class _Event:
    """One arrival: what is due in the bag, in order of log time."""

    log_ns: int
    order: int  # breaks ties, and keeps one source's messages in order
    since_start_ns: int  # the stamp
    camera: str  # empty: odometry


def prepare_drive(options: RecordOptions) -> tuple[Scene, Drive]:
    """The world of the seed and the drive through it, before anything is rendered."""
    length_m = START_M + options.cruise_mps * options.seconds + _ROAD_AHEAD_M
    scene = generate_scene(options.seed, length_m, options.seconds)
    stop_at_m: float | None = None
    if options.seconds >= _STOP_FROM_S:
        stop_at_m = START_M + 0.35 * options.cruise_mps * options.seconds
    driver = LaneDriver(scene.road, options.seed, options.cruise_mps, stop_at_m)
    world = start_world(scene, 0.6 * options.cruise_mps)
    return scene, simulate(world, driver, options.duration_ns)


def record(
    path: Path,
    options: RecordOptions,
    *,
    overwrite: bool = False,
    progress: Callable[[float], None] = lambda seconds: None,
) -> dict[str, Any]:
    """Write the bag and return what it holds; nothing is left under `path` on failure.

    `progress` is told the seconds of the drive that are done.
    """
    started_s = time.monotonic()
    rig = default_rig(options.width_px, options.height_px)
    bag = BagWriter(path, overwrite=overwrite)
    _check_space(path, options, len(rig))
    scene, drive = prepare_drive(options)
    with Renderer(scene, rig) as renderer, bag:
        messages = DriveMessages(bag, rig, EPOCH_NS)
        images = _Images(renderer, scene, drive)
        for event in schedule(options, rig):
            progress(event.since_start_ns / 1e9)
            state = drive.at(event.since_start_ns)
            if event.camera:
                jpeg = images.jpeg(event.camera, event.since_start_ns)
                messages.write_camera(event.camera, event.log_ns, event.since_start_ns, jpeg)
            else:
                messages.write_odometry(event.log_ns, event.since_start_ns, state)
        counts = dict(messages.counts)
    speeds = [state.speed_mps for state in drive.states]
    return {
        "path": str(path),
        "seed": options.seed,
        "seconds": options.seconds,
        "camera_rate_hz": options.camera_rate_hz,
        "size": [options.width_px, options.height_px],
        "cameras": [camera.name for camera in rig],
        "distance_m": round(float(np.sum(speeds)) * CONTROL_STEP_NS / 1e9, 1),
        "speed_mps": {"min": round(min(speeds), 2), "max": round(max(speeds), 2)},
        "topics": counts,
        "messages": sum(counts.values()),
        "bytes": sum(f.stat().st_size for f in _files(path)),
        "wall_s": round(time.monotonic() - started_s, 2),
    }


def schedule(options: RecordOptions, rig: Rig) -> list[_Event]:
    """All arrivals in order of log time: stamps on their grids, delays seeded."""
    rng = np.random.default_rng([options.seed, _STREAM])
    events: list[_Event] = []
    frames = int(np.ceil(options.seconds * options.camera_rate_hz - 1e-9))
    for index in range(frames):
        stamp_ns = round(index * 1_000_000_000 / options.camera_rate_hz)
        for camera in rig:
            delay_ns = int(rng.integers(*_CAMERA_DELAY_NS))
            log_ns = EPOCH_NS + stamp_ns + delay_ns
            events.append(_Event(log_ns, len(events), stamp_ns, camera.name))
    rng = np.random.default_rng([options.seed, _STREAM, 1])
    for stamp_ns in range(ODOMETRY_PHASE_NS, options.duration_ns, ODOMETRY_STEP_NS):
        delay_ns = int(rng.integers(*_ODOMETRY_DELAY_NS))
        events.append(_Event(EPOCH_NS + stamp_ns + delay_ns, len(events), stamp_ns, ""))
    return sorted(events, key=lambda event: (event.log_ns, event.order))


class _Images:
    """JPEGs of an instant, rendered for all cameras when the first of them is due."""

    def __init__(self, renderer: Renderer, scene: Scene, drive: Drive) -> None:
        self._renderer, self._scene, self._drive = renderer, scene, drive
        self._waiting: dict[int, dict[str, bytes]] = {}

    def jpeg(self, camera: str, since_start_ns: int) -> bytes:
        """One camera's frame; each frame can be had once."""
        if since_start_ns not in self._waiting:
            time_s = since_start_ns / 1e9
            images = self._renderer.render(
                self._drive.at(since_start_ns), self._scene.actors(time_s), time_s
            )
            self._waiting[since_start_ns] = {n: encode_jpeg(image) for n, image in images.items()}
        frames = self._waiting[since_start_ns]
        jpeg = frames.pop(camera)
        if not frames:
            del self._waiting[since_start_ns]
        return jpeg


def encode_jpeg(image: NDArray[np.uint8]) -> bytes:
    """(H, W, 3) RGB to JPEG."""
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    good, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    if not good:
        raise RuntimeError(f"OpenCV could not encode a {image.shape} image")
    return data.tobytes()


def _check_space(path: Path, options: RecordOptions, cameras: int) -> None:
    """Refuse before rendering what could not be stored."""
    folder = next(p for p in path.absolute().parents if p.exists())
    frames = cameras * options.seconds * options.camera_rate_hz
    needed = int(frames * options.width_px * options.height_px * _JPEG_BYTES_A_PIXEL)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(
            f"{folder} has {free / 1e6:.0f} MB free and the recording may take "
            f"{needed / 1e6:.0f} MB: free some, or name another folder with --out, or lower "
            "--seconds, --camera-rate or --size"
        )


def _files(path: Path) -> Iterator[Path]:
    return iter([path]) if path.is_file() else (f for f in path.rglob("*") if f.is_file())

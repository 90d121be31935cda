"""A recording of any kind as what a bag of it needs; read as it is written, frame by frame."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from alpamayo_ros.cameras.ftheta import FTheta
from alpamayo_ros.clips.motion import Motion
from alpamayo_ros.types import Pose3

Array = NDArray[np.float64]
Rgb = NDArray[np.uint8]
Frames = Callable[[], Iterator[tuple[int, Rgb]]]  # (stamp in microseconds, (H, W, 3))
Clouds = Callable[[], Iterator[tuple[int, NDArray[np.float32]]]]  # (stamp, (n, 4) x y z intensity)


class Lens(Protocol):
    """What CameraInfo says of a camera."""

    @property
    def width(self) -> int: ...

    @property
    def height(self) -> int: ...

    def resized(self, width: int, height: int) -> Lens:
        """The same lens for its whole image at another size."""
        ...

    def camera_info(self) -> Mapping[str, Any]:
        """Fields of sensor_msgs/CameraInfo."""
        ...


@dataclass(frozen=True, slots=True)
class InfoLens:
    """A lens as CameraInfo describes it."""

    width: int
    height: int
    k: tuple[float, float, float, float]  # fx, fy, cx, cy; pixel centres are whole numbers
    d: tuple[float, ...] = ()
    model: str = "plumb_bob"

    @classmethod
    def of_fov(cls, width: int, height: int, horizontal_fov_deg: float) -> InfoLens:
        """Without distortion, its axis in the middle of the image."""
        focal = 0.5 * width / float(np.tan(np.deg2rad(horizontal_fov_deg) / 2))
        return cls(width, height, (focal, focal, 0.5 * (width - 1), 0.5 * (height - 1)))

    def resized(self, width: int, height: int) -> InfoLens:
        """See Lens."""
        across, down = width / self.width, height / self.height
        fx, fy, cx, cy = self.k
        k = (fx * across, fy * down, (cx + 0.5) * across - 0.5, (cy + 0.5) * down - 0.5)
        return InfoLens(width, height, k, self.d, self.model)

    def camera_info(self) -> Mapping[str, Any]:
        """See Lens."""
        fx, fy, cx, cy = self.k
        d = self.d or ((0.0,) * (4 if self.model == "equidistant" else 5))
        return info_fields(self.width, self.height, self.model, np.array(d),
                           np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]]))  # fmt: skip


@dataclass(frozen=True, slots=True)
class FThetaLens:
    """An f-theta lens: CameraInfo gets the equidistant one nearest to it."""

    f_theta: FTheta

    @property
    def width(self) -> int:
        return self.f_theta.width

    @property
    def height(self) -> int:
        return self.f_theta.height

    def resized(self, width: int, height: int) -> FThetaLens:
        """See Lens."""
        return FThetaLens(self.f_theta.resized(width, height))

    def camera_info(self) -> Mapping[str, Any]:
        """See Lens."""
        lens = self.f_theta
        focal, distortion, _ = lens.equidistant()
        k = np.array([[focal, 0.0, lens.cx], [0.0, focal, lens.cy], [0.0, 0.0, 1.0]])
        return info_fields(lens.width, lens.height, "equidistant", distortion, k)


def info_fields(width: int, height: int, model: str, d: Array, k: Array) -> dict[str, Any]:
    """CameraInfo of an unrectified image."""
    return {
        "height": height, "width": width, "distortion_model": model, "d": d, "k": k.ravel(),
        "r": np.eye(3).ravel(), "p": np.column_stack((k, np.zeros(3))).ravel(),
    }  # fmt: skip


@dataclass(frozen=True, slots=True)
class ClipCamera:
    """One camera of a clip."""

    name: str  # of the model's table
    lens: Lens  # as recorded
    rig_from_optical: Pose3
    frames: Frames  # rising stamps; raises ClipError where the recording is damaged


@dataclass(frozen=True, slots=True)
class Lidar:
    """The lidar of a clip."""

    name: str
    rig_from_lidar: Pose3
    clouds: Clouds


@dataclass(frozen=True, slots=True)
class Clip:
    """One drive."""

    name: str
    motion: Motion  # of the rig
    cameras: tuple[ClipCamera, ...]
    lidar: Lidar | None = None
    notes: tuple[str, ...] = ()  # for a person: what this clip lacks

"""Bounded, thread-safe histories of frames and poses, keyed by stamp.

Nothing here counts messages: a 30 Hz camera and a 10 Hz one fill the same span of time, and what
is looked up is looked up by stamp.
"""

from __future__ import annotations

import threading
from bisect import bisect_left, insort
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from alpamayo_ros import geometry
from alpamayo_ros.pose_motion import WINDOW_NS, motion_by_poses
from alpamayo_ros.types import NS_PER_MS, EgoPose, ImageError, ImageLoader

# After a jump the rig drives on, and its new poses need a third of this to tell how fast.
CARRY_MOTION_NS = 300 * NS_PER_MS


class LazyImage:
    """Pixels that are decoded once, when first asked for, by whichever thread asks first."""

    def __init__(self, load: ImageLoader) -> None:
        self._load: ImageLoader | None = load
        self._image: NDArray[np.uint8] | None = None
        self._error: ImageError | None = None
        self._lock = threading.Lock()

    def get(self) -> NDArray[np.uint8]:
        """(H, W, 3) RGB. Raises ImageError, the same one each time."""
        with self._lock:
            if self._load is not None:
                load, self._load = self._load, None  # drops the encoded message
                try:
                    self._image = load()
                except ImageError as error:
                    self._error = error
                except Exception as error:  # a decoder may raise anything of its own
                    self._error = ImageError(f"{type(error).__name__}: {error}")
            if self._image is None:
                raise self._error or ImageError("the decoder gave no image")
            return self._image


@dataclass(frozen=True, slots=True)
class FrameSlot:
    """A frame that has arrived, its pixels on demand."""

    camera: str
    stamp_ns: int
    arrival_ns: int  # steady clock; supervises latency only, never selection
    image: LazyImage


class FrameBuffer:
    """The frames of one camera within `retention_ns` of its newest stamp."""

    def __init__(self, camera: str, retention_ns: int) -> None:
        self.camera = camera
        self._retention_ns = retention_ns
        self._stamps: list[int] = []  # rising
        self._slots: dict[int, FrameSlot] = {}
        self._lock = threading.Lock()

    def add(self, slot: FrameSlot) -> bool:
        """Take a frame in; False where its stamp is known already or too old to matter."""
        with self._lock:
            if slot.stamp_ns in self._slots:
                return False
            if self._stamps and slot.stamp_ns < self._stamps[-1] - self._retention_ns:
                return False
            insort(self._stamps, slot.stamp_ns)
            self._slots[slot.stamp_ns] = slot
            horizon = self._stamps[-1] - self._retention_ns
            while self._stamps[0] < horizon:
                del self._slots[self._stamps.pop(0)]
            return True

    def discard(self, stamp_ns: int) -> None:
        """Forget one frame, e.g. because its pixels proved unreadable."""
        with self._lock:
            if self._slots.pop(stamp_ns, None) is not None:
                self._stamps.remove(stamp_ns)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._stamps.clear()
            self._slots.clear()

    @property
    def newest_ns(self) -> int | None:
        """The newest stamp, or None while empty."""
        with self._lock:
            return self._stamps[-1] if self._stamps else None

    def stamps_between(self, first_ns: int, last_ns: int) -> list[int]:
        """The stamps in [first_ns, last_ns], rising."""
        with self._lock:
            return self._stamps[
                bisect_left(self._stamps, first_ns) : bisect_left(self._stamps, last_ns + 1)
            ]

    def neighbours(self, stamp_ns: int) -> list[FrameSlot]:
        """The last frame before a time and the first one at or after it, where there are such."""
        with self._lock:
            right = bisect_left(self._stamps, stamp_ns)
            return [self._slots[stamp] for stamp in self._stamps[max(right - 1, 0) : right + 1]]

    def nearest(self, stamp_ns: int) -> FrameSlot | None:
        """The frame nearest to a time; of two equally near the older, so that ties are stable."""
        around = self.neighbours(stamp_ns)
        return min(around, key=lambda s: (abs(s.stamp_ns - stamp_ns), s.stamp_ns), default=None)

    def __len__(self) -> int:
        with self._lock:
            return len(self._stamps)


@dataclass(frozen=True, slots=True)
class InterpolatedPoses:
    """Poses at asked times, and how far apart the poses lay that they came from."""

    positions_m: NDArray[np.float64]  # (n, 3) in the odometry frame
    quaternions_xyzw: NDArray[np.float64]  # (n, 4)
    gaps_ns: NDArray[np.int64]  # (n,) distance of the two neighbours; 0 on a pose
    extrapolated_ns: int  # how far the last one lies beyond the newest pose


class PoseBuffer:
    """Ego poses within `retention_ns` of the newest, interpolated by stamp.

    A pose that comes without its motion is given that of the poses until then, in whatever order
    they come; until they span enough its motion stays unknown.
    """

    def __init__(self, retention_ns: int) -> None:
        self._retention_ns = retention_ns
        self._stamps: list[int] = []
        self._poses: dict[int, EgoPose] = {}
        self._moving: EgoPose | None = None  # the newest whose motion its poses gave
        self._lock = threading.Lock()

    def add(self, pose: EgoPose) -> bool:
        """Take a pose in; False where its stamp is known already or too old to matter."""
        with self._lock:
            if pose.stamp_ns in self._poses:
                return False
            if self._stamps and pose.stamp_ns < self._stamps[-1] - self._retention_ns:
                return False
            insort(self._stamps, pose.stamp_ns)
            self._poses[pose.stamp_ns] = pose
            horizon = self._stamps[-1] - self._retention_ns
            while self._stamps[0] < horizon:
                del self._poses[self._stamps.pop(0)]
            if not pose.is_motion_known:
                self._find_motion(pose.stamp_ns)
            return True

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._stamps.clear()
            self._poses.clear()
            self._moving = None

    def relocate(self) -> None:
        """Forget where the rig was; odometry goes on elsewhere, and the rig at its speed."""
        with self._lock:
            self._stamps.clear()
            self._poses.clear()

    def _find_motion(self, stamp_ns: int) -> None:
        """Of the pose with this stamp, and of later ones that it came too late for."""
        for index in range(bisect_left(self._stamps, stamp_ns), len(self._stamps)):
            stamp = self._stamps[index]
            if stamp > stamp_ns + WINDOW_NS:
                break
            first = bisect_left(self._stamps, stamp - WINDOW_NS)
            recent = [self._poses[known] for known in self._stamps[first : index + 1]]
            motion, before = motion_by_poses(recent), self._moving
            is_carried = motion is None
            if is_carried and before is not None:
                if 0 <= stamp - before.stamp_ns <= CARRY_MOTION_NS:
                    motion = before.speed_mps, before.yaw_rate_rps
            if motion is None:
                continue
            speed, yaw_rate = motion
            pose = replace(recent[-1], speed_mps=speed, yaw_rate_rps=yaw_rate)
            self._poses[stamp] = pose
            if not is_carried and (before is None or stamp >= before.stamp_ns):
                self._moving = pose

    @property
    def oldest_ns(self) -> int | None:
        """The oldest stamp, or None while empty."""
        with self._lock:
            return self._stamps[0] if self._stamps else None

    @property
    def newest_ns(self) -> int | None:
        """The newest stamp, or None while empty."""
        with self._lock:
            return self._stamps[-1] if self._stamps else None

    @property
    def newest(self) -> EgoPose | None:
        """The newest pose, or None while empty."""
        with self._lock:
            return self._poses[self._stamps[-1]] if self._stamps else None

    def between(self, first_ns: int, last_ns: int) -> list[EgoPose]:
        """The poses with stamps in [first_ns, last_ns], rising."""
        with self._lock:
            left, right = (
                bisect_left(self._stamps, first_ns),
                bisect_left(self._stamps, last_ns + 1),
            )
            return [self._poses[stamp] for stamp in self._stamps[left:right]]

    def around(self, first_ns: int, last_ns: int) -> list[EgoPose]:
        """As `between`, with one more pose on either side where there is one."""
        with self._lock:
            left = max(bisect_left(self._stamps, first_ns + 1) - 1, 0)
            right = bisect_left(self._stamps, last_ns) + 1
            return [self._poses[stamp] for stamp in self._stamps[left:right]]

    def __len__(self) -> int:
        with self._lock:
            return len(self._stamps)


def interpolate(poses: list[EgoPose], stamps_ns: NDArray[np.int64]) -> InterpolatedPoses:
    """Poses at rising `stamps_ns` (n,): linear in position, slerp in rotation, all in float64.

    Times after the last pose are carried forward by its twist; the caller bounds how far. Raises
    ValueError for times before the first pose.
    """
    known = np.array([pose.stamp_ns for pose in poses], dtype=np.int64)
    if len(known) == 0 or stamps_ns[0] < known[0]:
        raise ValueError("interpolation before the first pose")
    positions = np.array([pose.position_m for pose in poses])
    quaternions = np.array([pose.quaternion_xyzw for pose in poses])
    left = np.clip(np.searchsorted(known, stamps_ns, side="right") - 1, 0, len(known) - 1)
    right = np.clip(left + 1, 0, len(known) - 1)
    on_pose = known[left] == stamps_ns
    gaps = np.where(on_pose, 0, known[right] - known[left])
    # Integer nanoseconds are subtracted before the division: as float64 a stamp of today is only
    # exact to 256 ns.
    fraction = np.where(gaps > 0, (stamps_ns - known[left]) / np.maximum(gaps, 1), 0.0)
    moved = positions[left] + fraction[:, None] * (positions[right] - positions[left])
    turned = geometry.slerp(quaternions[left], quaternions[right], fraction)
    beyond = int(max(stamps_ns[-1] - known[-1], 0))
    for index in np.flatnonzero(stamps_ns > known[-1]):
        ahead_s = (int(stamps_ns[index]) - int(known[-1])) * 1e-9
        moved[index], turned[index] = _carry_forward(poses[-1], ahead_s)
    return InterpolatedPoses(moved, turned, gaps, beyond)


def _carry_forward(
    pose: EgoPose, ahead_s: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Position (3,) and quaternion (4,) after moving on at the pose's own speed and yaw rate."""
    turn = pose.yaw_rate_rps * ahead_s
    # The chord of the arc points half the turn to the side.
    step = pose.speed_mps * ahead_s * np.array([np.cos(turn / 2), np.sin(turn / 2), 0.0])
    rotation = geometry.quaternion_to_rotation(pose.quaternion_xyzw)
    return (
        pose.position_m + rotation @ step,
        geometry.rotation_to_quaternion(rotation @ geometry.yaw_to_rotation(turn)),
    )

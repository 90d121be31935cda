"""One good drive as stamped messages, ways to spoil it, and its playback through a pipeline.

The clock of the playback is the clock of the stamps. A message has a source, so that a test can
drop, delay or restamp one camera and leave the rest as it was.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from alpamayo_ros import geometry
from alpamayo_ros.buffers import FrameSlot, LazyImage
from alpamayo_ros.manifest import Manifest, load_manifest
from alpamayo_ros.pipeline import Pipeline, PipelineSettings, Tick
from alpamayo_ros.sampling import Selection, materialise
from alpamayo_ros.types import (
    DEFAULT_CAMERAS,
    NS_PER_MS,
    NS_PER_S,
    EgoPose,
    PlannerSample,
    Rejection,
)

START_NS = 1_700_000_000 * NS_PER_S
# Where the drive starts: a UTM position, as maps have it.
ORIGIN_M = np.array([500_000.0, 4_000_000.0, 100.0])
POLL_NS = 20 * NS_PER_MS  # the node looks at deadlines this often
WARM_UP_NS = 1_800 * NS_PER_MS  # 1.5 s of history, and slack for the first stamps to come

Payload = FrameSlot | EgoPose


def ms(milliseconds: float) -> int:
    """Milliseconds as integer nanoseconds."""
    return round(milliseconds * NS_PER_MS)


@dataclass(frozen=True, slots=True)
class Message:
    """A frame or a pose on its way."""

    source: str  # the camera's name or "odometry"
    stamp_ns: int
    arrival_ns: int
    payload: Payload

    def restamped(self, by_ns: int) -> Message:
        """The same message at another time; it arrives as much later."""
        payload = replace(self.payload, stamp_ns=self.stamp_ns + by_ns)
        return Message(self.source, self.stamp_ns + by_ns, self.arrival_ns + by_ns, payload)


@dataclass(frozen=True, slots=True)
class Motion:
    """A circle driven at constant speed: position, heading and twist are known in closed form."""

    speed_mps: float = 10.0
    yaw_rate_rps: float = 0.2
    yaw_rad: float = 0.7
    origin_m: tuple[float, float, float] = (500_000.0, 4_000_000.0, 100.0)
    start_ns: int = START_NS

    def pose(self, stamp_ns: int) -> EgoPose:
        """The exact pose at a stamp."""
        elapsed_s = (stamp_ns - self.start_ns) * 1e-9
        turn = self.yaw_rate_rps * elapsed_s
        if self.yaw_rate_rps == 0.0:
            along, aside = self.speed_mps * elapsed_s, 0.0
        else:
            radius = self.speed_mps / self.yaw_rate_rps
            along, aside = radius * np.sin(turn), radius * (1 - np.cos(turn))
        c, s = np.cos(self.yaw_rad), np.sin(self.yaw_rad)
        offset = np.array([c * along - s * aside, s * along + c * aside, 0.0])
        return EgoPose(
            stamp_ns=stamp_ns,
            position_m=np.array(self.origin_m) + offset,
            quaternion_xyzw=geometry.rotation_to_quaternion(
                geometry.yaw_to_rotation(self.yaw_rad + turn)
            ),
            speed_mps=self.speed_mps,
            yaw_rate_rps=self.yaw_rate_rps,
        )

    def in_rig_at(self, t0_ns: int, stamps_ns: Iterable[int]) -> NDArray[np.float64]:
        """(n, 3) exact positions at stamps in the rig frame at t0."""
        turns = np.array([(stamp - t0_ns) * 1e-9 for stamp in stamps_ns]) * self.yaw_rate_rps
        radius = self.speed_mps / self.yaw_rate_rps
        return np.stack([radius * np.sin(turns), radius * (1 - np.cos(turns)), 0 * turns], axis=1)


CIRCLE = Motion()


def unmoved(pose: EgoPose) -> EgoPose:
    """The pose as it comes where no twist is read."""
    return replace(pose, speed_mps=math.nan, yaw_rate_rps=math.nan)


def driven(
    pose_at: Callable[[int], EgoPose],
    rate_hz: float,
    seconds: float = 1.2,
    noise_m: float = 0.0,
    noise_rad: float = 0.0,
) -> list[EgoPose]:
    """Poses at stamps that jitter by a fifth of their distance, with noise, without motion."""
    rng = np.random.default_rng(1)
    step_ns = NS_PER_S / rate_hz
    poses = []
    for k in range(int(seconds * rate_hz) + 1):
        pose = pose_at(START_NS + round((k + rng.uniform(-0.1, 0.1)) * step_ns))
        x, y, z, w = pose.quaternion_xyzw.tolist()
        half = rng.normal(0.0, noise_rad) / 2.0
        turned = np.array([x, y, z + half * w, w - half * z])  # about z, by a small angle
        position = pose.position_m + rng.normal(0.0, noise_m, 3)
        turned /= np.linalg.norm(turned)
        poses.append(replace(unmoved(pose), position_m=position, quaternion_xyzw=turned))
    return poses


def frame(
    camera: str, stamp_ns: int, load: Callable[[], NDArray[np.uint8]] | None = None
) -> FrameSlot:
    """A frame of 2x2 pixels, unlike the one before, unless `load` gives others."""
    grey = 40 + stamp_ns // ms(10) % 150
    return FrameSlot(
        camera, stamp_ns, 0, LazyImage(load or (lambda: np.full((2, 2, 3), grey, np.uint8)))
    )


def stamps(
    rate_hz: float, seconds: float, *, phase_ms: float = 0.0, start_ns: int = START_NS
) -> list[int]:
    """A sensor's exact stamps."""
    count = int(seconds * rate_hz)
    return [start_ns + ms(phase_ms) + round(k * NS_PER_S / rate_hz) for k in range(count)]


def good_drive(
    seconds: float = 5.0,
    rate_hz: float = 10.0,
    *,
    odometry_hz: float = 50.0,
    jitter_ms: float = 0.0,
    phase_ms: float = 0.0,
    camera_offsets_ms: dict[str, float] | None = None,
    common_jitter: bool = False,
    seed: int = 0,
    motion: Motion = CIRCLE,
    start_ns: int = START_NS,
    cameras: tuple[str, ...] = DEFAULT_CAMERAS,
) -> list[Message]:
    """Four cameras and odometry, arriving when stamped; each stamp late by up to `jitter_ms`."""
    rng = np.random.default_rng(seed)
    grid = stamps(rate_hz, seconds, phase_ms=phase_ms, start_ns=start_ns)
    shared = rng.uniform(0.0, jitter_ms, len(grid))
    messages = []
    for camera in cameras:
        own = shared if common_jitter else rng.uniform(0.0, jitter_ms, len(grid))
        offset = (camera_offsets_ms or {}).get(camera, 0.0)
        for exact, late in zip(grid, own):
            stamp = exact + ms(late + offset)
            messages.append(Message(camera, stamp, stamp, frame(camera, stamp)))
    for stamp in stamps(odometry_hz, seconds, start_ns=start_ns):
        messages.append(Message("odometry", stamp, stamp, motion.pose(stamp)))
    return in_order(messages)


def in_order(messages: Iterable[Message]) -> list[Message]:
    """By arrival; a source's messages keep the order of their stamps where they tie."""
    return sorted(messages, key=lambda m: m.arrival_ns)


def delayed(messages: Iterable[Message], delay_ms: Callable[[Message], float]) -> list[Message]:
    """Each message late by `delay_ms`, but never before its source's previous one."""
    last: dict[str, int] = {}
    late = []
    for message in sorted(messages, key=lambda m: m.stamp_ns):
        arrival = max(message.stamp_ns + ms(delay_ms(message)), last.get(message.source, 0))
        last[message.source] = arrival
        late.append(replace(message, arrival_ns=arrival))
    return in_order(late)


def without(
    messages: Iterable[Message], source: str, first_ns: int, last_ns: int = 2**62
) -> list[Message]:
    """One source cut from `first_ns` on, until `last_ns`."""
    return [m for m in messages if m.source != source or not first_ns <= m.stamp_ns < last_ns]


@dataclass(frozen=True, slots=True)
class Heard:
    """A tick, and when the pipeline told of it."""

    now_ns: int
    tick: Tick


def add(pipeline: Pipeline, message: Message, now_ns: int) -> Rejection | None:
    """One message into the pipeline."""
    if isinstance(message.payload, FrameSlot):
        return pipeline.add_frame(message.payload, now_ns)
    return pipeline.add_pose(message.payload, now_ns)


def play(
    pipeline: Pipeline,
    messages: Iterable[Message],
    *,
    start: bool = True,
    until_ns: int | None = None,
    clock: Callable[[int], int] = lambda now_ns: now_ns,
    poll_ns: int = POLL_NS,
) -> list[Heard]:
    """As the node does: poll after every message, and every 20 ms; `clock` maps arrival to now."""
    heard: list[Heard] = []
    queue = list(messages)
    time_ns = queue[0].arrival_ns
    end_ns = until_ns if until_ns is not None else queue[-1].arrival_ns + poll_ns
    if start:
        pipeline.start(clock(time_ns))

    def poll(at_ns: int) -> None:
        now = clock(at_ns)
        heard.extend(Heard(now, tick) for tick in pipeline.poll(now))

    for message in queue:
        while time_ns + poll_ns < message.arrival_ns:
            time_ns += poll_ns
            poll(time_ns)
        add(pipeline, message, clock(message.arrival_ns))
        poll(message.arrival_ns)
    while time_ns < end_ns:
        time_ns += poll_ns
        poll(time_ns)
    return heard


def pipeline(**settings: object) -> Pipeline:
    """A pipeline of the default cameras."""
    values: dict[str, object] = {"cameras": DEFAULT_CAMERAS, **settings}
    return Pipeline(PipelineSettings(**values))  # type: ignore[arg-type]


def selections(heard: Iterable[Heard]) -> list[Selection]:
    """The plans-to-be among the ticks."""
    return [entry.tick for entry in heard if isinstance(entry.tick, Selection)]


def rejections(heard: Iterable[Heard], after_ns: int = 0) -> list[Rejection]:
    """The refused ticks, of those told after `after_ns`."""
    return [
        entry.tick
        for entry in heard
        if isinstance(entry.tick, Rejection) and entry.now_ns > after_ns
    ]


def content(selection: Selection) -> tuple[object, ...]:
    """All that a plan depends on, comparable."""
    return (
        selection.t0_ns,
        tuple(tuple(slot.stamp_ns for slot in row) for row in selection.slots),
        selection.history.positions_m.tobytes(),
        selection.history.quaternions_xyzw.tobytes(),
        selection.speed_mps,
        selection.acceleration_mps2,
        selection.history.extrapolated_ns,
    )


def one_sample(motion: Motion = CIRCLE, **drive: object) -> PlannerSample:
    """The last sample of a short good drive."""
    messages = good_drive(3.0, motion=motion, **drive)  # type: ignore[arg-type]
    return materialise(selections(play(pipeline(), messages))[-1])


def kinematic_manifest() -> Manifest:
    """The shipped manifest of the kinematic planner."""
    return load_manifest("kinematic")

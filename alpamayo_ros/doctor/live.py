"""What is wrong with a running graph, by a snapshot of it, which `ros/probe.py` takes."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import median

from alpamayo_ros.doctor.findings import Finding, error, note, ok, warning
from alpamayo_ros.parameters import PlannerSettings
from alpamayo_ros.types import NS_PER_MS, NS_PER_S, RejectionReason

ACTIVE = "active"
CLOCK_TOPIC = "/clock"
# Beyond these a planner refuses its inputs for the most part; see the parameters' defaults.
MAX_AGE_MS = 1000.0  # of a stamp when its message arrives
MIN_CAMERA_HZ, MIN_ODOMETRY_HZ = 9.0, 10.0
IMAGE, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
ODOMETRY, CLOCK = "nav_msgs/msg/Odometry", "rosgraph_msgs/msg/Clock"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A publisher or subscription of some node."""

    node: str
    type: str
    # Of a pair with the planner's own endpoint: why their qualities of service do not match.
    mismatch: str = ""


@dataclass(slots=True)
class Heard:
    """What came on one topic while it was listened to."""

    arrivals_ns: list[int] = field(default_factory=list)  # steady
    stamps_ns: list[int] = field(default_factory=list)
    ages_ns: list[int] = field(default_factory=list)  # of the stamp, by the planner's clock
    frame_ids: set[str] = field(default_factory=set)

    @property
    def rate_hz(self) -> float:
        """Messages a second between the first and the last; 0 from fewer than two.

        By stamps: a recording that is played slowly is no slow camera. By arrival where they do not
        rise, which is a finding of its own.
        """
        times_ns = self.stamps_ns
        if len(times_ns) < 2 or times_ns[-1] <= times_ns[0]:
            times_ns = self.arrivals_ns
        if len(times_ns) < 2:
            return 0.0
        span_s = (times_ns[-1] - times_ns[0]) / NS_PER_S
        return (len(times_ns) - 1) / span_s if span_s else 0.0


@dataclass(slots=True)
class Snapshot:
    """Everything that the findings are made of."""

    planner: str  # full name
    domain: int
    seconds: float
    nodes: tuple[str, ...] = ()
    state: str = ""  # the lifecycle state; empty: no answer
    settings: PlannerSettings | None = None  # None: its parameters did not come, or are bad
    settings_problem: str = ""
    uses_sim_time: bool = False
    topics: Mapping[str, tuple[str, ...]] = field(
        default_factory=dict
    )  # published ones: name -> types
    publishers: dict[str, list[Endpoint]] = field(default_factory=dict)  # of each input
    subscribed: set[str] = field(default_factory=set)  # inputs that the planner subscribes to
    listeners: dict[str, list[Endpoint]] = field(default_factory=dict)  # of each output
    heard: dict[str, Heard] = field(default_factory=dict)
    outcomes: dict[str, int] = field(default_factory=dict)  # of ~/status: "planned" or a reason
    complaints: dict[str, str] = field(default_factory=dict)  # its errors in /diagnostics


def findings(seen: Snapshot) -> Iterable[Finding]:
    """In the order in which one would mend them."""
    if seen.planner not in seen.nodes:
        others = ", ".join(seen.nodes[:8]) or "none"
        guesses = difflib.get_close_matches(seen.planner, seen.nodes, 1, 0.5)
        yield error(
            "node",
            f"no node {seen.planner} in domain {seen.domain}; there are: {others}",
            f"--node {guesses[0]}"
            if guesses
            else "start it, or set its ROS_DOMAIN_ID and discovery range here too",
        )
        return
    yield from _node(seen)
    if seen.settings is None:
        return
    yield from _clock(seen)
    for topic, (name, types) in inputs(seen.settings).items():
        yield from _input(seen, topic, name, types)
    yield from _outputs(seen)


def inputs(settings: PlannerSettings) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Topic -> its name for people, and the message types that will do."""
    types = {"raw": (IMAGE,), "compressed": (COMPRESSED,), "auto": (IMAGE, COMPRESSED)}
    cameras = {c.topic: (f"camera {c.name}", types[c.transport]) for c in settings.cameras}
    return {**cameras, settings.odometry_topic: ("odometry", (ODOMETRY,))}


def _node(seen: Snapshot) -> Iterable[Finding]:
    if not seen.state:
        yield error(
            "node",
            f"{seen.planner} does not answer get_state",
            "it hangs, or is another kind of node: see its log, restart it",
        )
    elif seen.state != ACTIVE:
        steps = "configure and activate" if seen.state == "unconfigured" else "activate"
        yield error(
            "node",
            f"{seen.planner} is {seen.state}",
            f"{steps} it (ros2 lifecycle set {seen.planner} …), or set autostart",
        )
    else:
        yield ok("node", f"{seen.planner} is active")
    for name, text in seen.complaints.items():
        yield error("diagnostics", f"{name}: {text}", "as it says; README, Topics")
    if seen.settings is None:
        yield error(
            "parameters",
            seen.settings_problem or "its parameters could not be read",
            "set them right and configure again",
        )


def _clock(seen: Snapshot) -> Iterable[Finding]:
    has_clock = CLOCK in seen.topics.get(CLOCK_TOPIC, ())
    ticks = len(seen.heard.get(CLOCK_TOPIC, Heard()).arrivals_ns)
    if seen.uses_sim_time and not has_clock:
        yield error(
            "time",
            f"{seen.planner} has use_sim_time and nobody publishes {CLOCK_TOPIC}",
            "publish it (a player with --clock), or unset use_sim_time",
        )
    elif seen.uses_sim_time and not ticks:
        yield warning(
            "time", f"{CLOCK_TOPIC} stood still for {seen.seconds:g} s", "is the recording paused?"
        )
    elif has_clock and not seen.uses_sim_time:
        yield error(
            "time",
            f"{CLOCK_TOPIC} is published, and {seen.planner} uses the machine's time",
            "set use_sim_time on every node, or stop the publisher",
        )
    else:
        yield ok("time", "simulated" if seen.uses_sim_time else "the machine's")


def _input(seen: Snapshot, topic: str, name: str, types: tuple[str, ...]) -> Iterable[Finding]:
    publishers = seen.publishers.get(topic, [])
    if not publishers:
        yield error(name, f"nobody publishes {topic}", _guess(seen, topic, types))
        return
    fitting = [publisher for publisher in publishers if publisher.type in types]
    for publisher in publishers:
        if publisher.type not in types:
            yield error(
                name,
                f"{publisher.node} publishes {topic} as {publisher.type}, wanted "
                f"{' or '.join(types)}",
                "publish that type, or name another topic",
            )
    for publisher in fitting:
        if publisher.mismatch:
            yield error(
                name,
                f"{publisher.node} and {seen.planner} do not match on {topic}: "
                f"{publisher.mismatch}",
                f"change the publisher, or set parameters qos_overrides.{topic}.subscription.…",
            )
    if not fitting:
        return
    if seen.state in (ACTIVE, "inactive") and topic not in seen.subscribed:
        yield error(
            name,
            f"{seen.planner} does not subscribe to {topic} as {fitting[0].type}",
            "it was configured when another type was there: configure again, or set "
            "image_transports",
        )
    if len(fitting) > 1:
        yield warning(
            name,
            f"{topic} has {len(fitting)} publishers: {', '.join(p.node for p in fitting)}",
            "keep one",
        )
    yield from _stream(seen, topic, name)


def _guess(seen: Snapshot, topic: str, types: tuple[str, ...]) -> str:
    same = [found for found, kinds in seen.topics.items() if set(kinds) & set(types)]
    likely = difflib.get_close_matches(topic, same, 3, 0.3) or same[:3]
    hint = f"there is {', '.join(likely)}: name it in the parameters" if likely else ""
    return hint or f"start what publishes {' or '.join(types)}"


def _stream(seen: Snapshot, topic: str, name: str) -> Iterable[Finding]:
    heard = seen.heard.get(topic, Heard())
    if not heard.arrivals_ns:
        yield error(
            name,
            f"nothing came on {topic} for {seen.seconds:g} s",
            "is its driver running, the recording paused, the cable in?",
        )
        return
    is_odometry = name == "odometry"
    limit_hz = MIN_ODOMETRY_HZ if is_odometry else MIN_CAMERA_HZ
    frames = ", ".join(sorted(heard.frame_ids)) or "none"
    age_ms = median(heard.ages_ns) / NS_PER_MS
    told = f"{topic} at {heard.rate_hz:.1f} Hz, age {age_ms:.0f} ms, frame {frames}"
    good = True
    if heard.rate_hz < limit_hz:
        good = False
        yield warning(
            name,
            f"{told}: slower than {limit_hz:g} Hz",
            "raise the driver's rate; large images need config/fastdds_shm.xml in both processes",
        )
    if any(later <= earlier for earlier, later in zip(heard.stamps_ns, heard.stamps_ns[1:])):
        good = False
        yield error(name, f"stamps on {topic} do not rise", "stamp with the time of exposure")
    if abs(age_ms) > MAX_AGE_MS:
        good = False
        direction = "ahead of" if age_ms < 0 else "behind"
        yield error(
            name,
            f"stamps on {topic} are {abs(age_ms) / 1e3:.1f} s {direction} the clock of "
            f"{seen.planner}",
            "synchronise the clocks (PTP, chrony), set use_sim_time "
            "alike, or the …_stamp_offset… parameters",
        )
    if is_odometry and len(heard.frame_ids) != 1:
        good = False
        yield error(name, f"{topic} is in frames {frames}", "publish it in one frame")
    if good:
        yield ok(name, told)


def _outputs(seen: Snapshot) -> Iterable[Finding]:
    for topic, listeners in seen.listeners.items():
        for listener in listeners:
            if listener.mismatch:
                yield error(
                    "outputs",
                    f"{listener.node} hears nothing on {topic}: {listener.mismatch}",
                    f"change its subscription, or set parameters qos_overrides.{topic}.publisher.…",
                )
    if seen.state != ACTIVE:
        return
    planned = seen.outcomes.get("planned", 0)
    refused = {reason: n for reason, n in seen.outcomes.items() if reason != "planned"}
    told = ", ".join(f"{reason} {n}" for reason, n in sorted(refused.items(), key=lambda i: -i[1]))
    if not seen.outcomes:
        yield error(
            "plans",
            f"no tick in {seen.seconds:g} s",
            "time stands still, or the node hangs: see above",
        )
    elif not planned:
        yield error(
            "plans",
            f"no plan in {seen.seconds:g} s; refused: {told}",
            _advice(refused, seen.settings),
        )
    else:
        rate = planned / seen.seconds
        yield (note if refused else ok)(
            "plans", f"{rate:.1f} Hz" + (f"; refused: {told}" if told else "")
        )


def _advice(refused: Mapping[str, int], settings: PlannerSettings | None) -> str:
    """What to do where every tick was refused."""
    told = "README, Topics, says what each reason means"
    by_poses = settings is not None and settings.pipeline.limits.motion_by_poses
    if RejectionReason.ODOMETRY_INCONSISTENT.value in refused and not by_poses:
        told += "; is odometry's twist never filled? Set odometry_twist to poses"
    return told

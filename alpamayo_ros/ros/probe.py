"""Looks at a running graph for `alpamayo doctor --live`: names, types, QoS, rates, stamps."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.srv import GetState
from rcl_interfaces.srv import GetParameters
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.expand_topic_name import expand_topic_name
from rclpy.node import Node
from rclpy.parameter import parameter_value_to_python
from rclpy.qos import (
    DurabilityPolicy,
    QoSCompatibility,
    QoSProfile,
    ReliabilityPolicy,
    qos_check_compatible,
)

from alpamayo_ros.doctor.live import ACTIVE, CLOCK_TOPIC, Endpoint, Heard, Snapshot, inputs
from alpamayo_ros.errors import UserError
from alpamayo_ros.msg import PlannerStatus
from alpamayo_ros.parameter_table import BY_NAME
from alpamayo_ros.parameters import PlannerSettings, settings_from
from alpamayo_ros.ros.convert import message_class
from alpamayo_ros.ros.declared import plain

DISCOVERY_S = 5.0  # at most, for a node to be found
ANSWER_S = 20.0  # at most, for each answer of a node that is there: a machine may be busy
SETTLE_S = 2.0  # a graph of which nothing new has been heard for so long is known
SPIN_S = 0.02
SIM_TIME = "use_sim_time"


def look(planner: str, seconds: float) -> Snapshot:
    """Watch the graph of this process' domain for `seconds`; `planner` is a full node name."""
    context = Context()
    context.init()
    try:
        return _Probe(context, planner, seconds).look()
    finally:
        context.try_shutdown()


class _Probe:
    def __init__(self, context: Context, planner: str, seconds: float) -> None:
        self._node = Node("alpamayo_doctor", context=context, enable_rosout=False)
        self._executor = SingleThreadedExecutor(context=context)
        self._executor.add_node(self._node)
        self._seen = Snapshot(planner, context.get_domain_id(), seconds)
        self._clock_ns = 0  # of /clock; 0: it has not come yet

    def look(self) -> Snapshot:
        seen = self._seen
        try:
            self._spin(DISCOVERY_S, lambda: seen.planner in self._nodes())
            seen.nodes = tuple(name for name in self._nodes() if name != "/alpamayo_doctor")
            if seen.planner in seen.nodes:
                self._ask()
                self._settle()
                self._listen()
                # The time to listen begins when all of it is heard: discovery takes its own.
                self._spin(DISCOVERY_S, self._hears_all)
                seen.outcomes.clear()
                self._spin(seen.seconds)
                self._see_endpoints()
            seen.topics = self._published()
        finally:
            self._executor.shutdown()
            self._node.destroy_node()
        return seen

    def _spin(self, seconds: float, until: Callable[[], Any] = lambda: False) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end and not until():
            self._executor.spin_once(timeout_sec=SPIN_S)

    def _settle(self) -> None:
        """Discovery takes its time: who is not known yet is not missing."""
        known: object = None
        since = time.monotonic()
        end = since + ANSWER_S
        while time.monotonic() < min(end, since + SETTLE_S):
            self._executor.spin_once(timeout_sec=SPIN_S)
            graph = [
                (
                    topic,
                    types,
                    self._node.count_publishers(topic),
                    self._node.count_subscribers(topic),
                )
                for topic, types in self._node.get_topic_names_and_types()
            ]
            if graph != known:
                known, since = graph, time.monotonic()

    def _nodes(self) -> list[str]:
        pairs = self._node.get_node_names_and_namespaces()
        return sorted(f"{space.rstrip('/')}/{name}" for name, space in pairs)

    # ---- the planner's own words -------------------------------------------------------------

    def _ask(self) -> None:
        seen = self._seen
        state = self._call(GetState, "get_state", GetState.Request())
        seen.state = state.current_state.label if state is not None else ""
        values = self._parameters([*BY_NAME, SIM_TIME])
        if values is None:
            return
        seen.uses_sim_time = bool(values.pop(SIM_TIME, False))
        try:
            seen.settings = self._resolved(settings_from(values))
        except UserError as error:
            seen.settings_problem = str(error)

    def _call(self, kind: Any, name: str, request: Any) -> Any:
        client = self._node.create_client(kind, f"{self._seen.planner}/{name}")
        self._spin(ANSWER_S, client.service_is_ready)
        if not client.service_is_ready():
            return None
        # Twice: a server drops its answer to a reader that it has not found yet.
        for _ in range(2):
            future = client.call_async(request)
            self._spin(ANSWER_S / 2, future.done)
            if future.done():
                return future.result()
        return None

    def _parameters(self, names: list[str]) -> dict[str, Any] | None:
        answer = self._call(GetParameters, "get_parameters", GetParameters.Request(names=names))
        if answer is None:
            return None
        values = dict(zip(names, map(parameter_value_to_python, answer.values)))
        return {name: plain(value) for name, value in values.items() if value is not None}

    def _resolved(self, settings: PlannerSettings) -> PlannerSettings:
        """Topics as the planner resolves them: by its namespace and name."""
        space, _, name = self._seen.planner.rpartition("/")

        def full(topic: str) -> str:
            return str(expand_topic_name(topic, name, space or "/")) if topic else topic

        cameras = tuple(replace(c, topic=full(c.topic)) for c in settings.cameras)
        return replace(settings, cameras=cameras, odometry_topic=full(settings.odometry_topic))

    # ---- what is said ------------------------------------------------------------------------

    def _inputs(self) -> dict[str, tuple[str, tuple[str, ...]]]:
        return inputs(self._seen.settings) if self._seen.settings is not None else {}

    def _listen(self) -> None:
        planner = self._seen.planner
        self._node.create_subscription(
            PlannerStatus, f"{planner}/status", self._on_status, QoSProfile(depth=100)
        )
        self._node.create_subscription(
            DiagnosticArray, "/diagnostics", self._on_diagnostics, QoSProfile(depth=100)
        )
        self._hear_inputs()

    def _hear_inputs(self) -> None:
        """Those whose publishers are known by now."""
        heard, types = self._seen.heard, self._published()
        for topic, (_, wanted) in self._inputs().items():
            # One process can subscribe to a topic as one type only.
            kind = next((kind for kind in types.get(topic, ()) if kind in wanted), None)
            if kind is not None and topic not in heard:
                self._hear(topic, kind)
        if CLOCK_TOPIC in types and CLOCK_TOPIC not in heard:
            self._hear(CLOCK_TOPIC, types[CLOCK_TOPIC][0])

    def _published(self) -> dict[str, tuple[str, ...]]:
        """Types by topic, of publishers: a subscription alone makes a topic exist too."""
        topics = {}
        for topic, _ in self._node.get_topic_names_and_types():
            infos = self._node.get_publishers_info_by_topic(topic)
            if infos:
                topics[topic] = tuple(sorted({info.topic_type for info in infos}))
        return topics

    def _hears_all(self) -> bool:
        heard, wanted = self._seen.heard, self._inputs().keys()
        if not heard.keys() >= wanted:
            self._hear_inputs()
        streams = heard.keys() >= wanted and all(one.arrivals_ns for one in heard.values())
        return streams and (bool(self._seen.outcomes) or self._seen.state != ACTIVE)

    def _hear(self, topic: str, kind: str) -> None:
        heard = self._seen.heard.setdefault(topic, Heard())
        # Best effort and volatile: every publisher matches that. Raw: only the header is looked at.
        qos = QoSProfile(
            depth=50,
            reliability=ReliabilityPolicy.BEST_EFFORT,
            durability=DurabilityPolicy.VOLATILE,
        )
        self._node.create_subscription(
            message_class(kind),
            topic,
            lambda data: self._on_message(topic, heard, data),
            qos,
            raw=True,
        )

    def _on_message(self, topic: str, heard: Heard, data: Any) -> None:
        heard.arrivals_ns.append(time.monotonic_ns())
        stamp_ns, frame_id = read_header(bytes(data[:512]))
        if topic == CLOCK_TOPIC:
            self._clock_ns = stamp_ns
            return
        now_ns = self._clock_ns if self._seen.uses_sim_time else time.time_ns()
        heard.stamps_ns.append(stamp_ns)
        heard.ages_ns.append(now_ns - stamp_ns)
        heard.frame_ids.add(frame_id)

    def _on_status(self, message: PlannerStatus) -> None:
        planned = message.outcome == PlannerStatus.PLANNED
        name = "planned" if planned else str(message.reason)
        self._seen.outcomes[name] = self._seen.outcomes.get(name, 0) + 1

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        prefix = self._seen.planner[1:] + ": "
        for status in message.status:
            if status.name.startswith(prefix):
                name = status.name.removeprefix(prefix)
                self._seen.complaints.pop(name, None)
                if status.level >= DiagnosticStatus.ERROR:
                    self._seen.complaints[name] = status.message

    # ---- who is connected --------------------------------------------------------------------

    def _see_endpoints(self) -> None:
        node, planner = self._node, self._seen.planner
        for topic in self._inputs():
            own = [i for i in node.get_subscriptions_info_by_topic(topic) if _name(i) == planner]
            publishers = node.get_publishers_info_by_topic(topic)
            self._seen.publishers[topic] = [
                Endpoint(_name(info), info.topic_type, _mismatch(
                    [(info, mine) for mine in own if mine.topic_type == info.topic_type]))
                for info in publishers
            ]  # fmt: skip
            offered = {info.topic_type for info in publishers}
            if any(mine.topic_type in offered for mine in own):
                self._seen.subscribed.add(topic)
        space, _, name = planner.rpartition("/")
        for topic, _ in node.get_publisher_names_and_types_by_node(name, space or "/"):
            mine = [i for i in node.get_publishers_info_by_topic(topic) if _name(i) == planner]
            self._seen.listeners[topic] = [
                Endpoint(_name(info), info.topic_type, _mismatch([(own, info) for own in mine]))
                for info in node.get_subscriptions_info_by_topic(topic)
                if _name(info) != "/alpamayo_doctor"
            ]


def _name(info: Any) -> str:
    return f"{info.node_namespace.rstrip('/')}/{info.node_name}"


def _mismatch(pairs: list[tuple[Any, Any]]) -> str:
    """Why the pairs of publisher and subscription do not match; empty where one does."""
    reasons = []
    for publisher, subscription in pairs:
        level, reason = qos_check_compatible(publisher.qos_profile, subscription.qos_profile)
        if level != QoSCompatibility.ERROR:
            return ""
        reasons.append(" ".join(str(reason).replace("ERROR:", "").split()).rstrip(";"))
    return "; ".join(reasons)


def read_header(data: bytes) -> tuple[int, str]:
    """Stamp in nanoseconds and frame_id from the start of a serialised message with a header.

    A Clock has a stamp there and no frame_id.
    """
    order = "<" if data[1] & 1 else ">"
    seconds, nanoseconds = struct.unpack_from(f"{order}iI", data, 4)
    stamp_ns = seconds * 1_000_000_000 + nanoseconds
    if len(data) < 16:
        return stamp_ns, ""
    (length,) = struct.unpack_from(f"{order}I", data, 12)
    return stamp_ns, data[16 : 16 + max(length - 1, 0)].decode(errors="replace")

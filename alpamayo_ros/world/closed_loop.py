"""One closed-loop drive without ROS: world, sensors, planner, controller, score."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alpamayo_ros.backends.base import PlannerBackend
from alpamayo_ros.control.follower import Follower, RigState
from alpamayo_ros.control.reference import Reference, reference_from_plan
from alpamayo_ros.geometry import pose_from_quaternion
from alpamayo_ros.safety.rulings import Ego, SafetySettings
from alpamayo_ros.safety.stage import SafetyStage
from alpamayo_ros.types import (
    NS_PER_MS,
    EgoPose,
    Plan,
    PlannerSample,
    Pose3,
    Rejection,
    RejectionReason,
)
from alpamayo_ros.world.boxes import Box
from alpamayo_ros.world.planners import ExpertPlanner, planner_for
from alpamayo_ros.world.scenario import Scenario
from alpamayo_ros.world.scene import Actor
from alpamayo_ros.world.score import Score
from alpamayo_ros.world.sensors import (
    EPOCH_NS,
    FRAME_PERIOD_NS,
    Images,
    Sensors,
    black_images,
    pose_of,
)
from alpamayo_ros.world.simulation import Simulation
from alpamayo_ros.world.vehicle import Command

WARM_UP_NS = 1_600 * NS_PER_MS  # the expert drives until a planner's history is full
LATENCY_NS = 60 * NS_PER_MS  # from t0 to the plan in the controller: transport and planning
_UNSEEN = (2, 2)  # height and width of the black frames of planners that look at none

Camera = Callable[[Simulation], Images]
Observer = Callable[[Simulation, Plan, PlannerSample | None], None]
Disturbance = Callable[[Simulation, Command], Command]


@dataclass(frozen=True)
class Fault:
    """The world when something first went wrong: what a picture of it needs."""

    time_s: float
    ego: Box
    s_m: float
    obstacles: tuple[Actor, ...]
    path_in_odometry_m: NDArray[np.float64]  # (n, 2) of the plan then followed
    reasoning: str
    image: NDArray[np.uint8] | None  # of the front camera


@dataclass(frozen=True)
class LoopOptions:
    """How a drive is closed."""

    latency_ns: int = LATENCY_NS
    stop_on_fault: bool = True  # a collision or a lost road ends the drive
    safety: SafetySettings | None = None  # None: plans go to the controller as they are


class ClosedLoop:
    """One drive. `camera` renders; without it cameras are black, or nothing where none is needed.

    `observe` hears every plan with its sample, e.g. to collect training data; `disturb` changes
    what the actuators are told, e.g. so that the driver has something to recover from.
    """

    def __init__(
        self,
        scenario: Scenario,
        backend: PlannerBackend | None,
        camera: Camera | None = None,
        options: LoopOptions | None = None,
        observe: Observer | None = None,
        disturb: Disturbance | None = None,
    ) -> None:
        self.simulation = Simulation(scenario)
        self.score = Score(self.simulation)
        self.plan: Plan | None = None  # the newest that the controller has
        self.images: Images = {}  # the newest that were rendered
        self.fault: Fault | None = None  # the first one
        self._options = options or LoopOptions()
        self.safety_actions: Counter[str] = Counter()  # of the safety stage, but for "accepted"
        safety = self._options.safety
        self._stage = SafetyStage(safety, "world") if safety is not None else None
        self._observe, self._disturb = observe, disturb
        self._planner = planner_for(backend, self.simulation)
        self._expert = ExpertPlanner(self.simulation)
        self._takes_navigation = backend is not None and backend.manifest.takes_navigation
        self._sensors = Sensors()
        self._camera = camera if self._planner.needs_images else None
        self._dark = black_images() if self._planner.needs_images else black_images(_UNSEEN)
        self._follower = Follower()
        self._on_the_way: deque[tuple[int, Reference, Plan]] = deque()
        self._reference: Reference | None = None

    def run(self, progress: Callable[[float], None] = lambda seconds: None) -> Score:
        """Drive the scenario's seconds, or until it is lost."""
        end_ns = round(self.simulation.scenario.seconds * 1e9)
        while self.simulation.time_ns < end_ns and not self._lost():
            self.step()
            if self.simulation.time_ns % FRAME_PERIOD_NS == 0:
                progress(self.simulation.time_s)
        return self.score

    def _lost(self) -> bool:
        return self._options.stop_on_fault and bool(self.score.ended)

    def step(self) -> None:
        """Sense and plan where it is time, control, move, measure."""
        simulation = self.simulation
        now_ns = simulation.time_ns
        if self._planner.needs_sample:
            self._sensors.add_pose(pose_of(simulation.ego, EPOCH_NS + now_ns))
        if now_ns % FRAME_PERIOD_NS == 0:
            self._plan(now_ns)
        while self._on_the_way and self._on_the_way[0][0] <= now_ns:
            _, self._reference, self.plan = self._on_the_way.popleft()
            self._follower.follow(self._reference)
        ego = simulation.ego
        rig = RigState(ego.x_m, ego.y_m, ego.yaw_rad, ego.speed_mps)
        command = self._follower.command(EPOCH_NS + now_ns, rig)
        actuated = Command(command.acceleration_mps2, command.curvature_1pm)
        if self._disturb is not None:
            actuated = self._disturb(simulation, actuated)
        simulation.step(actuated)
        self.score.update(command.plan_age_s)
        if self.fault is None and not self.score.clean:
            self.fault = self._snapshot()

    def _snapshot(self) -> Fault:
        simulation, reference = self.simulation, self._reference
        path = np.zeros((0, 2)) if reference is None else reference.xy_in_odometry_m
        return Fault(
            simulation.time_s,
            simulation.ego_box(),
            simulation.s_m,
            tuple(simulation.actors()),
            path,
            "" if self.plan is None else self.plan.reasoning,
            self.images.get("front_wide"),
        )

    def _plan(self, now_ns: int) -> None:
        simulation, t0_ns = self.simulation, EPOCH_NS + now_ns
        sample: PlannerSample | Rejection | None = None
        if self._planner.needs_sample:
            if self._camera is not None:
                self.images = self._camera(simulation)
            self._sensors.add_images(t0_ns, self.images or self._dark)
        if now_ns < WARM_UP_NS:
            plan, latency_ns = self._expert.plan(t0_ns), 0
        else:
            if self._planner.needs_sample:
                navigation = simulation.navigation() if self._takes_navigation else None
                sample = self._sensors.sample(t0_ns, navigation)
            plan, latency_ns = self._planner.plan(t0_ns, sample), self._options.latency_ns
        if plan is not None and self._observe is not None:
            self._observe(simulation, plan, sample if isinstance(sample, PlannerSample) else None)
        pose = pose_of(simulation.ego, t0_ns)
        odometry_from_rig = pose_from_quaternion(pose.position_m, pose.quaternion_xyzw)
        if self._stage is not None and now_ns >= WARM_UP_NS:
            refused = sample if isinstance(sample, Rejection) else None
            plan = self._judged(plan, refused, pose, odometry_from_rig, t0_ns + latency_ns)
        if plan is not None:
            reference = reference_from_plan(plan, odometry_from_rig)
            self._on_the_way.append((now_ns + latency_ns, reference, plan))

    def _judged(
        self,
        plan: Plan | None,
        refused: Rejection | None,
        pose: EgoPose,
        odometry_from_rig: Pose3,
        now_ns: int,
    ) -> Plan | None:
        """What the safety stage makes of a tick: the plan, or a stop from its pose."""
        stage = self._stage
        assert stage is not None
        if plan is None:
            stage.refuse(refused or Rejection(RejectionReason.PLANNER_FAILED, "planner"), now_ns)
        else:
            ego = Ego(pose.speed_mps, odometry_from_rig, pose.frame_id)
            ruling = stage.judge(plan, ego, pose.stamp_ns, now_ns)
            if str(ruling.verdict.action) != "accepted":
                self.safety_actions[ruling.verdict.kind] += 1
            plan = ruling.plan
        stop = stage.fallback(pose, now_ns)
        if stop is not None:
            self.safety_actions["fallback"] += 1
        return stop.plan if stop is not None else plan

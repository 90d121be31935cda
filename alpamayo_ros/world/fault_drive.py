"""One closed-loop drive with a fault at full speed, through the node's pipeline and safety stage.

The expert plans, so that whatever goes wrong is the fault's doing. The controller keeps the same
contract as `controller_node`, on the same odometry as the planner.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, replace

from alpamayo_ros.backends.base import PlannerBackend
from alpamayo_ros.buffers import FrameSlot, LazyImage
from alpamayo_ros.camera_policy import all_of
from alpamayo_ros.control.follower import ControlState, Follower
from alpamayo_ros.control.reference import reference_from_plan
from alpamayo_ros.control.watch import Watch
from alpamayo_ros.image_faults import CameraJudge
from alpamayo_ros.manifest import load_manifest
from alpamayo_ros.pipeline import Pipeline, PipelineSettings, Tick
from alpamayo_ros.safety.limits import load_vehicle
from alpamayo_ros.safety.rulings import SafetySettings, ego_of
from alpamayo_ros.safety.stage import SafetyStage
from alpamayo_ros.types import (
    DEFAULT_CAMERAS,
    NS_PER_MS,
    EgoPose,
    Plan,
    PlannerSample,
    Pose3,
    Rejection,
    RejectionReason,
)
from alpamayo_ros.worker import Outcome, run
from alpamayo_ros.world import spoilt
from alpamayo_ros.world.expert import Expert
from alpamayo_ros.world.safety_driver import SafetyDriver
from alpamayo_ros.world.scenarios import make_scenario
from alpamayo_ros.world.score import Score
from alpamayo_ros.world.sensors import EPOCH_NS, FRAME_PERIOD_NS, pose_of
from alpamayo_ros.world.simulation import STEP_NS, Simulation
from alpamayo_ros.world.vehicle import Command

FAST_MPS, EARLIEST_S, LATEST_S = 10.0, 5.0, 20.0  # the fault begins at this speed, or then
AFTER_S = 20.0  # of driving on with the fault, or until the vehicle has stood for so long:
STOOD_S = 2.0
FRAME_WAY_NS, PLAN_WAY_NS = 20 * NS_PER_MS, 60 * NS_PER_MS
CLOCK_BACKWARD_NS = 1_000 * NS_PER_MS  # as controller_node has it


@dataclass(frozen=True)
class FaultResult:
    """How one drive ended."""

    fault: str
    kind: str
    seed: int
    safety: bool
    clean: bool
    ended: str  # "stopped", "drives on", or what went wrong
    speed_mps: float  # when the fault began
    noticed_ms: float | None  # until the first refusal or stop
    worst_outside_m: float
    stopped_in_m: float | None


class ExpertBackend(PlannerBackend):
    """The expert's plans of the instants at which cameras looked."""

    def __init__(self) -> None:
        super().__init__(replace(load_manifest("kinematic"), name="expert"))
        self.plans: dict[int, Plan] = {}
        self.fault = ""
        self.first: Plan | None = None

    def load(self) -> None:
        """Nothing to load."""

    def plan(self, sample: PlannerSample) -> Plan:
        """The expert's at t0, or what the fault makes of it."""
        good = self.plans[sample.t0_ns]
        if not self.fault:
            self.first = good
            return good
        return spoilt.plan(self.fault, good, self.first or good)


class FaultDrive:
    """One drive. Without `safety` plans go to the controller unseen, and a refusal is silence."""

    def __init__(self, fault: str, kind: str, seed: int, safety: bool) -> None:
        self.fault, self.kind, self.seed, self.safety = fault, kind, seed, safety
        self.simulation = Simulation(make_scenario(kind, seed, LATEST_S + AFTER_S + 20.0))
        self.score = Score(self.simulation)
        self._expert, self._driver = Expert(self.simulation), SafetyDriver(self.simulation)
        self._backend, self._judge = ExpertBackend(), CameraJudge(all_of(DEFAULT_CAMERAS))
        self._pipeline = Pipeline(PipelineSettings(cameras=DEFAULT_CAMERAS))
        self._stage = SafetyStage(SafetySettings(load_vehicle(), enforce=safety), "expert")
        self._watch, self._command = Watch(Follower()), Command()
        self._frames: list[tuple[int, int, FrameSlot]] = []  # on their way
        self._working: tuple[int, Outcome] | None = None
        self._at_fault: EgoPose | None = None
        self._since_s: float | None = None  # when the fault began
        self._noticed_s: float | None = None
        self._offset_ns, self._last_now_ns, self._count = 0, 0, 0

    def run(self) -> FaultResult:
        """Drive, spoil, drive on."""
        simulation, stood_s, speed = self.simulation, 0.0, 0.0
        from_m = to_m = 0.0
        self._pipeline.start(self._now_ns)
        self._stage.start(self._now_ns)
        while not self.score.ended:
            if self._since_s is None and self._is_time():
                self._begin()
                speed, from_m = simulation.ego.speed_mps, simulation.s_m
            self._step()
            if self._since_s is None:
                continue
            stood_s = stood_s + STEP_NS * 1e-9 if simulation.ego.speed_mps < 0.1 else 0.0
            to_m = simulation.s_m
            if stood_s > STOOD_S or simulation.time_s > self._since_s + AFTER_S:
                break
        ended = self.score.ended or ("stopped" if stood_s > 0.0 else "drives on")
        noticed = None
        if self._noticed_s is not None and self._since_s is not None:
            noticed = round(1e3 * (self._noticed_s - self._since_s))
        return FaultResult(
            self.fault, self.kind, self.seed, self.safety, self.score.clean, ended,
            round(speed, 1), noticed, round(max(self.score.worst_outside_m, -99.0), 2),
            round(to_m - from_m, 1) if stood_s > 0.0 else None,
        )  # fmt: skip

    # ---- the world ---------------------------------------------------------------------------

    @property
    def _now_ns(self) -> int:
        return EPOCH_NS + self.simulation.time_ns + self._offset_ns

    def _is_time(self) -> bool:
        now_s, speed = self.simulation.time_s, self.simulation.ego.speed_mps
        return now_s >= LATEST_S or (now_s >= EARLIEST_S and speed >= FAST_MPS)

    def _begin(self) -> None:
        self._since_s = self.simulation.time_s
        self._at_fault = pose_of(self.simulation.ego, self._now_ns)
        self._backend.fault = self.fault
        self._offset_ns = spoilt.CLOCK_NS.get(self.fault, 0)
        self._frames.clear()

    @property
    def _active(self) -> str:
        return self.fault if self._since_s is not None else ""

    def _step(self) -> None:
        simulation, now_ns = self.simulation, self._now_ns
        self._sense(now_ns)
        for tick in self._pipeline.poll(now_ns):
            self._on_tick(tick, now_ns)
        if self._working is not None and self._working[0] <= now_ns:
            self._on_outcome(self._working[1], now_ns)
        self._stop_if_due(now_ns)
        expert = self._driver.command()
        self._control(now_ns, expert)
        simulation.step(self._command)
        self.score.update(float("nan"))

    def _sense(self, now_ns: int) -> None:
        true = pose_of(self.simulation.ego, now_ns)
        step = self.simulation.time_ns // STEP_NS
        pose = spoilt.odometry(self._active, true, self._at_fault or true, step)
        if pose is not None:
            self._pipeline.add_pose(pose, now_ns)
            self._watch.hear(pose)
        elif self._active == "odometry_not_finite":
            why = Rejection(RejectionReason.ODOMETRY_INVALID, "odometry")
            self._pipeline.refused("odometry", why, now_ns)
        if self.simulation.time_ns % FRAME_PERIOD_NS == 0:
            self._backend.plans = {
                t0: plan for t0, plan in self._backend.plans.items()
                if abs(t0 - now_ns) < 10 * FRAME_PERIOD_NS
            }  # fmt: skip
            self._backend.plans[now_ns] = self._expert.label(now_ns).plan
            for camera in DEFAULT_CAMERAS:
                self._look(camera, now_ns)
        while self._frames and self._frames[0][0] <= now_ns:
            self._pipeline.add_frame(heapq.heappop(self._frames)[2], now_ns)

    def _look(self, camera: str, now_ns: int) -> None:
        fault = self._active
        if spoilt.frame_is_lost(fault, camera):
            return
        late = fault == "camera_late" and camera == spoilt.CAMERA
        image = LazyImage(lambda: spoilt.picture(fault, camera, now_ns))
        arrives_ns = now_ns + (spoilt.LATE_NS if late else FRAME_WAY_NS)
        self._count += 1
        slot = FrameSlot(camera, now_ns, 0, image)
        heapq.heappush(self._frames, (arrives_ns, self._count, slot))

    # ---- the planner -------------------------------------------------------------------------

    def _on_tick(self, tick: Tick, now_ns: int) -> None:
        if isinstance(tick, Rejection):
            if tick.reason == RejectionReason.CLOCK_JUMP:
                self._working = None
            self._refuse(tick, now_ns)
        elif self._working is not None:
            self._refuse(Rejection(RejectionReason.PLANNER_BUSY, "planner"), now_ns)
        else:
            way_ns = {"model_hung": 2**60, "model_slow": spoilt.SLOW_NS}
            done_ns = now_ns + way_ns.get(self._active, PLAN_WAY_NS)
            self._working = done_ns, run(self._backend, tick, self._judge)

    def _on_outcome(self, outcome: Outcome, now_ns: int) -> None:
        self._working = None
        if outcome.unreadable is not None:
            self._pipeline.discard(outcome.unreadable.slot)
        if outcome.rejection is not None:
            self._refuse(outcome.rejection, now_ns)
            return
        plan, sample = outcome.plan, outcome.sample
        assert plan is not None and sample is not None
        if self.safety:
            ruling = self._stage.judge(plan, ego_of(sample), 0, now_ns)
            if ruling.plan is None or str(ruling.verdict.action) != "accepted":
                self._notice()
            if ruling.plan is None:
                return
            plan = ruling.plan
        self._send(plan, sample.odometry_from_rig_t0)

    def _refuse(self, rejection: Rejection, now_ns: int) -> None:
        self._notice()
        if self.safety:
            self._stage.refuse(rejection, now_ns)

    def _stop_if_due(self, now_ns: int) -> None:
        stop = self._stage.fallback(self._pipeline.poses.newest, now_ns) if self.safety else None
        if stop is not None:
            self._notice()
            self._send(stop.plan, stop.odometry_from_rig_t0)

    def _notice(self) -> None:
        if self._since_s is not None and self._noticed_s is None and self.fault != "planner_dead":
            self._noticed_s = self.simulation.time_s

    # ---- the controller ----------------------------------------------------------------------

    def _send(self, plan: Plan, odometry_from_rig: Pose3) -> None:
        if self._active != "planner_dead":
            self._watch.follower.follow(reference_from_plan(plan, odometry_from_rig))

    def _control(self, now_ns: int, expert: Command) -> None:
        if now_ns < self._last_now_ns - CLOCK_BACKWARD_NS:
            self._watch.forget()
        self._last_now_ns = now_ns
        if not self._watch.hears:
            return  # the last command is held
        command, _ = self._watch.command(now_ns)
        if command.state is not ControlState.IDLE:
            self._command = Command(command.acceleration_mps2, command.curvature_1pm)
        elif self._since_s is None:
            self._command = expert  # until the planner's history is full

"""The safety stage in the node: judges plans, and publishes the stop where there is none."""

from __future__ import annotations

from alpamayo_ros import diagnosis
from alpamayo_ros.diagnosis import Entry
from alpamayo_ros.parameters import PlannerSettings
from alpamayo_ros.pipeline import Pipeline
from alpamayo_ros.ros.outputs import PlannerOutputs
from alpamayo_ros.safety.rulings import Ruling, ego_of
from alpamayo_ros.safety.stage import SafetyStage
from alpamayo_ros.worker import Outcome


class PlannerSafety:
    """Between configure and cleanup. Called from the planner's callback group alone."""

    def __init__(
        self, settings: PlannerSettings, model: str, pipeline: Pipeline, outputs: PlannerOutputs
    ) -> None:
        self.stage = SafetyStage(settings.safety, model)
        self.rig_frame, self.path_in_odometry = settings.rig_frame, settings.path_in_odometry
        self._pipeline, self._outputs = pipeline, outputs

    def judge(self, outcome: Outcome, now_ns: int) -> Ruling:
        """What goes out of a planned outcome."""
        plan, sample = outcome.plan, outcome.sample
        assert plan is not None and sample is not None
        return self.stage.judge(plan, ego_of(sample), outcome.selection.due_ns, now_ns)

    def stop_if_due(self, now_ns: int) -> None:
        """Publish the stop while no plan is good, from where odometry says that the vehicle is."""
        stop = self.stage.fallback(self._pipeline.poses.newest, now_ns)
        if stop is not None:
            self._outputs.publish_fallback(stop, self.rig_frame, self.path_in_odometry)

    def diagnosis(self) -> Entry:
        """For /diagnostics."""
        return diagnosis.safety(str(self.stage.verdict), self.stage.reason, self.stage.counts())

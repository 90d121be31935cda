"""A short soak: nothing bad gets out, and the checker would see it if it did."""

from __future__ import annotations

import numpy as np
from safety_cases import actions, moved, plan_of
from simulate import ms

from alpamayo_ros.bench.soak import Soak
from alpamayo_ros.bench.soak_checker import Sent, faults
from alpamayo_ros.types import Plan


def test_nothing_bad_gets_out() -> None:
    """600 ticks of faults: plans and stops, no plan that the checker minds, nobody silent."""
    report = Soak(seed=4).run(600)
    assert report.bad == []
    assert report.sent["planner"] > 100 and report.sent["fallback"] > 50
    assert len(report.faults) >= 8


def test_without_the_stage_it_does() -> None:
    """The same drive with plans published as they come: the checker is no decoration."""
    assert len(Soak(seed=4, enforce=False).run(600).bad) > 5


def _sent(plan: Plan, **said: object) -> Sent:
    values: dict[str, object] = {
        "now_ns": plan.t0_ns + ms(60), "t0_ns": plan.t0_ns, "source": "planner", "reason": "",
        "flagged": False, "as_planned": True, "xyz": plan.xyz_in_rig_t0,
        "rot": plan.rot_in_rig_t0, "speed_t0_mps": plan.speed_t0_mps,
        "speeds_mps": plan.speeds_mps, **said,
    }  # fmt: skip
    return Sent(**values)  # type: ignore[arg-type]


def test_the_checker() -> None:
    """Good, stale, unflagged, changed, too fast, too bent, elsewhere, not finite."""
    good = plan_of(actions(0.5, 0.01))
    assert faults(_sent(good)) == []
    assert faults(_sent(good, now_ns=good.t0_ns + ms(600)))
    assert faults(_sent(good, source="fallback"))
    assert faults(_sent(good, as_planned=False))
    assert not faults(_sent(good, as_planned=False, flagged=True))
    for bad in (
        actions(5.0),
        actions(0.0, 0.06),
        actions(-9.0),
        actions(np.arange(64) // 2 % 2 * 3.0),
    ):
        assert faults(_sent(plan_of(bad)))
    assert faults(_sent(moved(good, (0.0, 1.0, 0.0))))
    assert faults(_sent(good, xyz=np.full((64, 3), np.nan)))

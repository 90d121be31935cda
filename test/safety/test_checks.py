"""Each check: what it refuses, by name, and the good plans that it lets through."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safety_cases import LIMITS, T0_NS, actions, braking, moved, names, plan_of, situation
from simulate import ms, one_sample

from alpamayo_ros import geometry
from alpamayo_ros.safety.checks import check
from alpamayo_ros.safety.repair import repair
from alpamayo_ros.safety.track import track_of
from alpamayo_ros.types import Pose3


@pytest.mark.parametrize("speed", (0.0, 0.2, 1.0, 10.0, 40.0))
def test_good_plans_violate_nothing(speed: float) -> None:
    """Steady, turning, braking to a stop and standing: stop plans are plans."""
    assert names(plan_of(actions(), speed)) == set()
    assert names(plan_of(actions(0.0, 4.0 / max(speed, 5.0) ** 2), speed)) == set()
    for deceleration in (1.0, 4.0, 7.9):
        assert names(plan_of(braking(speed, deceleration), speed)) == set()


@pytest.mark.parametrize(
    "name, action, speed",
    [
        ("speed", actions(), 41.0),
        ("acceleration", actions(4.1), 5.0),
        ("braking", actions(-8.2), 60.0),
        ("jerk", actions(np.arange(64) % 2 * 2.1), 5.0),
        ("lateral", actions(0.0, 0.051), 10.0),
        ("curvature", actions(0.0, 0.21), 2.0),
        ("curvature_rate", actions(0.0, np.arange(64) % 2 * 0.045), 2.0),
        ("reverse", actions(-0.5), 2.0),
    ],
)
def test_limits(name: str, action: np.ndarray, speed: float) -> None:
    """Each limit exceeded a little is found, with the value; reversing folds back as well."""
    assert name in names(plan_of(action, speed))


def test_positions_that_the_actions_do_not_make() -> None:
    """A path pulled aside, headings turned, a rise in the air, a start elsewhere."""
    plan = plan_of(actions())
    bent = plan.xyz_in_rig_t0.copy()
    bent[30:, 1] += 2.0
    assert names(replace(plan, xyz_in_rig_t0=bent)) == {"inconsistent_position"}
    turned = plan.rot_in_rig_t0 @ geometry.yaw_to_rotation(0.1)
    assert names(replace(plan, rot_in_rig_t0=turned)) == {"inconsistent_yaw"}
    assert "slope" in names(moved(plan, (0.0, 0.0, 1.0)))
    assert {"start_position", "inconsistent_position"} <= names(moved(plan, (0.0, 0.9, 0.0)))
    assert "start_heading" in names(
        replace(plan, rot_in_rig_t0=plan.rot_in_rig_t0 @ geometry.yaw_to_rotation(0.4))
    )
    assert "rotation" in names(replace(plan, rot_in_rig_t0=2.0 * plan.rot_in_rig_t0))
    assert "rotation" in names(replace(plan, rot_in_rig_t0=-plan.rot_in_rig_t0))


def test_a_path_that_folds_back() -> None:
    """Waypoints that return the way they came, whatever the speeds say."""
    plan = plan_of(actions())
    folded = plan.xyz_in_rig_t0.copy()
    folded[40:] = folded[39::-1][:24]
    assert "folded" in names(replace(plan, xyz_in_rig_t0=folded))


def test_start_speed_is_odometrys() -> None:
    """A plan that starts from a speed which the vehicle does not have."""
    assert "start_speed" in names(plan_of(actions(), 10.0), situation(8.0))
    assert names(plan_of(actions(), 10.0), situation(8.8)) == set()


def test_times() -> None:
    """Stale, from the future, not newer than the last one; no clock, no age."""
    plan = plan_of(actions())
    assert names(plan, situation(now_ns=T0_NS + ms(501))) == {"stale"}
    assert names(plan, situation(now_ns=T0_NS - ms(101))) == {"future"}
    assert names(plan, situation(newest_t0_ns=T0_NS)) == {"not_newer"}
    assert names(plan, situation(now_ns=0)) == set()


def test_speed_that_is_no_number() -> None:
    """The only number that a Plan itself lets through."""
    assert names(replace(plan_of(actions()), speed_t0_mps=float("nan"))) == {"not_finite"}


def _rig(along_m: float, aside_m: float = 0.0) -> Pose3:
    return Pose3(np.array([along_m, aside_m, 0.0]), np.eye(3))


def test_continuity_goes_by_where_the_vehicle_is_now() -> None:
    """The same path seen 0.1 s and 1 m later is no jump; a path that jumps aside is one."""
    before = track_of(plan_of(actions(), t0_ns=T0_NS - ms(100)), _rig(0.0), "odom")
    at = situation(previous=before, odometry_from_rig_t0=_rig(1.0))
    assert names(plan_of(actions()), at) == set()
    assert names(plan_of(braking(10.0, 7.9)), at) == set()
    aside = replace(at, odometry_from_rig_t0=_rig(1.0, 0.6))
    assert names(plan_of(actions()), aside) == {"jump_sideways"}
    ahead = replace(at, odometry_from_rig_t0=_rig(2.1))
    assert names(plan_of(actions()), ahead) == {"jump_forward"}
    # What is too old, or in another frame, is nothing to compare with.
    assert names(plan_of(actions()), replace(aside, frame_id="map")) == set()
    old = track_of(plan_of(actions(), t0_ns=T0_NS - ms(400)), _rig(-3.0), "odom")
    assert names(plan_of(actions()), replace(aside, previous=old)) == set()


@settings(max_examples=60, deadline=None)
@given(
    st.floats(0.0, 35.0),
    st.integers(0, 2**16),
    st.sampled_from((1.02, 1.1, 1.2)),
)
def test_a_repair_is_within_every_limit_or_is_none(speed: float, seed: int, over: float) -> None:
    """Slight exceedances are brought back and the rest of the plan stays near; or nothing is."""
    rng = np.random.default_rng(seed)
    wish = actions(
        np.clip(np.cumsum(rng.normal(0, 0.4, 64)), -2.0, 3.9) * over,
        np.clip(np.cumsum(rng.normal(0, 0.002, 64)), -0.1, 0.1) * over,
    )
    plan = plan_of(wish, speed)
    found = check(plan, LIMITS, situation(speed))
    mended = repair(plan, LIMITS, found)
    if mended is not None:
        assert check(mended, LIMITS, situation(speed)) == ()
        assert np.abs(mended.xyz_in_rig_t0 - plan.xyz_in_rig_t0)[:10].max() <= 0.3
    if any(violation.value > 1.3 * violation.limit for violation in found):
        assert mended is None


def test_a_slight_exceedance_is_repaired() -> None:
    """5.2 m/s^2 sideways at a limit of 5."""
    plan = plan_of(actions(0.0, 0.052), 10.0)
    mended = repair(plan, LIMITS, check(plan, LIMITS, situation()))
    assert mended is not None and names(mended) == set()
    assert np.allclose(mended.action[:, 1], 0.05)


def test_a_plan_of_the_pipeline_passes() -> None:
    """The kinematic plan of a real sample at UTM coordinates."""
    from simulate import kinematic_manifest

    from alpamayo_ros.backends.kinematic import KinematicBackend
    from alpamayo_ros.safety.checks import Situation

    backend = KinematicBackend(kinematic_manifest())
    backend.load()
    sample = one_sample()
    plan = backend.plan(sample)
    here = Situation(sample.t0_ns, ms(500), sample.speed_mps, sample.odometry_from_rig_t0, "odom")
    assert check(plan, LIMITS, here) == ()

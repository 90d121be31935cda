"""Several candidates: the best acceptable one goes out, the next is tried before the stop."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from safety_cases import LIMITS, STRAIGHT, T0_NS, actions, braking, plan_of, stage
from simulate import ms

from alpamayo_ros import action_space, geometry
from alpamayo_ros.safety import choice
from alpamayo_ros.safety.limits import ChoiceWeights
from alpamayo_ros.safety.rulings import Ego, Ruling
from alpamayo_ros.types import Decisions, Plan, Stated

KEEP = Stated("Keep speed.", Decisions("set-speed tracking", "lane keeping and centring"))
STOP = Stated("Stop.", Decisions("stop for static constraints", "lane keeping and centring"))


def several(*options: np.ndarray, stated: tuple[Stated, ...] = (), chosen: int = 0) -> Plan:
    """A plan with these candidates from 10 m/s."""
    made = [action_space.integrate(option, 10.0) for option in options]
    plan = plan_of(
        options[chosen],
        candidates_xyz_in_rig_t0=np.stack([xyz for xyz, _ in made]),
        candidates_rot_in_rig_t0=np.stack([rot for _, rot in made]),
        candidates_action=np.stack(options),
        candidates_speed_t0_mps=np.full(len(options), 10.0),
        candidates_stated=stated,
    )
    return plan


def judged(plan: Plan) -> Ruling:
    """By a new stage."""
    pose = STRAIGHT.pose(T0_NS)
    rig = geometry.pose_from_quaternion(pose.position_m, pose.quaternion_xyzw)
    return stage().judge(plan, Ego(10.0, rig, "odom"), 0, T0_NS + ms(60))


def test_the_planners_own_choice_stays_while_it_is_good() -> None:
    """Whatever the ranking says of the others."""
    ruling = judged(several(actions(-1.5), actions(), actions(0.1)))
    assert ruling.plan is not None and ruling.plan.action[0, 0] == -1.5


def test_the_next_one_before_the_stop() -> None:
    """The chosen one is out of limits: the best of the others, and the verdict says why."""
    ruling = judged(several(actions(9.0), actions(0.0, 0.04), actions(), actions(0.0, -0.04)))
    assert ruling.plan is not None and np.all(ruling.plan.action == 0.0)
    assert str(ruling.verdict.action) == "other_candidate"
    assert {str(v.name) for v in ruling.verdict.violations} >= {"acceleration"}


def test_none_is_acceptable() -> None:
    """The rejection names the faults of the planner's own choice."""
    ruling = judged(several(actions(9.0), actions(0.0, 0.5)))
    assert ruling.rejection is not None and "acceleration" in ruling.rejection.detail


def test_scored_takes_the_best_and_its_words() -> None:
    """Policy `scored`: the gentle one, with what the model said to it."""
    wild = actions(np.sin(np.arange(64)) * 1.5, 0.04)
    plan = several(wild, actions(), actions(0.05), stated=(STOP, KEEP, KEEP))
    ruling = judged(replace(plan, is_scored=True))
    assert ruling.plan is not None and np.abs(ruling.plan.action).max() <= 0.05
    assert ruling.plan.reasoning == "Keep speed." and str(ruling.verdict) == "accepted"


def test_scored_without_actions_is_the_planners_choice() -> None:
    """A planner with one trajectory and no candidates' actions."""
    ruling = judged(plan_of(actions(), is_scored=True))
    assert ruling.plan is not None and str(ruling.verdict) == "accepted"


def test_ranking() -> None:
    """Nearer to limits, less comfortable, against its own words, standing idly: worse."""
    weights = ChoiceWeights()
    assert choice.rank(several(actions(), actions(0.0, 0.045)), LIMITS, weights) == [0, 1]
    rough = actions(np.tile((1.0, -1.0), 32))
    assert choice.rank(several(rough, actions()), LIMITS, weights) == [1, 0]
    words = several(actions(), actions(), stated=(STOP, KEEP))
    assert choice.rank(words, LIMITS, weights) == [1, 0]
    crawl = several(braking(10.0, 2.0), actions())
    assert choice.rank(crawl, LIMITS, weights) == [1, 0]
    only = ChoiceWeights(risk=0.0, comfort=0.0, progress=1.0)
    assert choice.rank(several(actions(), actions(1.0)), LIMITS, only) == [1, 0]


def test_candidates_that_stand_still_divide_by_nothing() -> None:
    """Progress of nobody."""
    still = several(braking(10.0, 5.0), braking(10.0, 5.0))
    standing = replace(still, candidates_speed_t0_mps=np.zeros(2))
    standing = replace(standing, candidates_action=np.zeros((2, 64, 2)))
    assert choice.rank(standing, LIMITS, ChoiceWeights()) == [0, 1]


def test_candidates_that_are_not_finite_are_left_out() -> None:
    """One bad sample does not cost the others."""
    plan = several(actions(), actions(0.1))
    broken = np.stack((actions(np.nan), actions(0.1)))
    assert choice.rank(replace(plan, candidates_action=broken), LIMITS, ChoiceWeights()) == [1]


def test_actions_of_another_number_are_refused() -> None:
    """By the plan itself."""
    with pytest.raises(ValueError, match="candidates_action"):
        replace(several(actions(), actions()), candidates_action=np.zeros((3, 64, 2)))

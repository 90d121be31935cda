"""The privileged expert: drives cleanly, for the right reasons, and labels any state."""

from __future__ import annotations

import math

import numpy as np
import pytest

from alpamayo_ros import action_space
from alpamayo_ros.chain_of_causation import shipped_table
from alpamayo_ros.types import Plan, PlannerSample
from alpamayo_ros.world.bicycle import VehicleState
from alpamayo_ros.world.closed_loop import ClosedLoop
from alpamayo_ros.world.expert import Expert
from alpamayo_ros.world.insight import NAMES, insight
from alpamayo_ros.world.rig import default_rig
from alpamayo_ros.world.road import EGO_LANE_OFFSET_M
from alpamayo_ros.world.rollout import MAX_CURVATURE_1PM
from alpamayo_ros.world.route import Route
from alpamayo_ros.world.scenario import KINDS
from alpamayo_ros.world.scenarios import START_M, make_scenario
from alpamayo_ros.world.sight import CLASSES, sight
from alpamayo_ros.world.simulation import Simulation
from alpamayo_ros.world.vehicle import Command


def drive(kind: str, seed: int, seconds: float) -> tuple[ClosedLoop, list[Plan], list[float]]:
    """The loop after the drive, every plan, and the speed at each."""
    plans, speeds = [], []

    def observe(simulation: Simulation, plan: Plan, sample: PlannerSample | None) -> None:
        plans.append(plan)
        speeds.append(simulation.ego.speed_mps)

    loop = ClosedLoop(make_scenario(kind, seed, seconds), None, observe=observe)
    loop.run()
    return loop, plans, speeds


def is_known(plan: Plan) -> bool:
    """Whether both decisions are in the table."""
    table = shipped_table()
    known = plan.decisions.longitudinal in table.longitudinal
    return known and plan.decisions.lateral in table.lateral


def decided(plans: list[Plan]) -> set[tuple[str, str]]:
    """All pairs of decisions."""
    return {(plan.decisions.longitudinal, plan.decisions.lateral) for plan in plans}


@pytest.mark.parametrize("kind", KINDS)
def test_drives_every_kind_cleanly(kind: str) -> None:
    """25 s of one seed: progress, no departure, no collision, no red light; known decisions."""
    loop, plans, _ = drive(kind, 11, 25.0)
    result = loop.score.result()
    assert result["clean"], result
    assert result["progress_m"] > 40.0
    assert result["max_lateral_mps2"] < 2.5
    assert all(is_known(plan) for plan in plans)
    assert all(plan.reasoning.endswith(".") for plan in plans)


def test_stops_at_red_and_says_why() -> None:
    """It stands before the line while the light is red, and goes on when it is green."""
    loop, plans, speeds = drive("light", 6, 40.0)
    waiting = [p for p, v in zip(plans, speeds) if v < 0.1]
    assert waiting and loop.score.clean
    assert any("because the light is red" in plan.reasoning for plan in waiting)
    assert any(p.decisions.longitudinal == "stop for static constraints" for p in plans)
    assert max(speeds[speeds.index(min(speeds)) :]) > 4.0


def test_yields_to_pedestrians() -> None:
    """For who is crossing, with the decision of the set."""
    _, plans, _ = drive("pedestrian", 1, 25.0)
    yielding = [p for p in plans if p.decisions.longitudinal == "yielding"]
    assert yielding and "because a pedestrian is crossing" in yielding[0].reasoning


def test_nudges_around_a_stopped_car_within_and_out_of_its_lane() -> None:
    """Both happen in the seeds, and the ego leaves its lane's middle by as much as it says."""
    seen = set()
    for seed in (1, 2, 3):
        loop, plans, _ = drive("nudge", seed, 40.0)
        assert loop.score.clean
        seen |= {lateral for _, lateral in decided(plans)}
        for shift in loop.simulation.scenario.shifts:
            if loop.simulation.s_m < shift.full_end_m:
                continue
            track = np.array(loop.score.track)
            road = loop.simulation.scenario.road
            places = np.array([road.nearest(xy) for xy in track[:, :2]])
            inside = (places[:, 0] > shift.full_m) & (places[:, 0] < shift.full_end_m)
            offset = places[inside, 1] - EGO_LANE_OFFSET_M
            np.testing.assert_allclose(offset, shift.offset_m, atol=0.3)
    assert {"in-lane nudge", "out-of-lane nudge"} <= seen


def test_turns_at_junctions_and_follows_leads() -> None:
    """The decisions of a junction and of traffic."""
    assert any(lateral == "turn" for _, lateral in decided(drive("junction", 2, 30.0)[1]))
    following = decided(drive("lead", 3, 25.0)[1])
    assert any(longitudinal == "lead-obstacle following" for longitudinal, _ in following)


def test_a_label_is_of_the_state_alone() -> None:
    """Twice the same; a fresh expert's is the same as that of one who drove here."""
    simulation = Simulation(make_scenario("mixed", 4, 20.0))
    old = Expert(simulation)
    for k in range(300):
        old.label(k)
        simulation.step(Command(0.5, 0.001))
    ours, theirs = old.label(7), Expert(simulation).label(7)
    np.testing.assert_array_equal(ours.plan.action, theirs.plan.action)
    assert ours.plan.reasoning == theirs.plan.reasoning and ours.confidence == theirs.confidence


def test_actions_are_the_trajectory_and_within_bounds() -> None:
    """The unicycle action space: integrating the actions gives the waypoints."""
    _, plans, speeds = drive("curvy", 2, 15.0)
    for plan, speed in zip(plans, speeds):
        xyz, rot = action_space.integrate(plan.action, speed)
        np.testing.assert_array_equal(xyz, plan.xyz_in_rig_t0)
        np.testing.assert_array_equal(rot, plan.rot_in_rig_t0)
        assert np.abs(plan.action[:, 1]).max() <= MAX_CURVATURE_1PM
        assert plan.speeds_mps.min() > -1e-6


def test_waypoints_lie_on_the_lane() -> None:
    """From the lane's middle every waypoint lies within 0.35 m of it, through bends."""
    loop, plans, _ = drive("curvy", 3, 12.0)
    road = loop.simulation.scenario.road
    simulation = Simulation(make_scenario("curvy", 3, 12.0))
    plan, ego = plans[0], simulation.ego
    c, s = math.cos(ego.yaw_rad), math.sin(ego.yaw_rad)
    xy = plan.xyz_in_rig_t0[:, :2] @ np.array([[c, s], [-s, c]]) + (ego.x_m, ego.y_m)
    offsets = np.array([road.nearest(point)[1] for point in xy])
    assert np.abs(offsets - EGO_LANE_OFFSET_M).max() < 0.35


@pytest.mark.parametrize("aside", (-1.2, 1.5))
def test_leads_back_to_the_lane_and_is_less_sure(aside: float) -> None:
    """Beside its lane, as a bad student may leave it: the label returns, with less confidence."""
    simulation = Simulation(make_scenario("straight", 1))
    sure = Expert(simulation).label(0).confidence
    simulation.ego = VehicleState(START_M, EGO_LANE_OFFSET_M + aside, 0.1, 8.0)
    simulation.s_m, simulation.d_m = START_M, EGO_LANE_OFFSET_M + aside
    label = Expert(simulation).label(0)
    yaw = simulation.ego.yaw_rad
    y = aside + math.sin(yaw) * label.plan.xyz_in_rig_t0[:, 0]
    y += math.cos(yaw) * label.plan.xyz_in_rig_t0[:, 1]
    assert abs(y[-1]) < 0.25
    assert 0.0 < label.confidence < sure <= 1.0


def test_features_are_what_it_looks_at() -> None:
    """Each named number by hand: place in the lane, a light of each colour, the lead's gap."""
    simulation = Simulation(make_scenario("light", 1))
    light = simulation.scenario.lights[0]
    front = simulation.parameters.front_m
    cycle = light.green_s + light.yellow_s + light.red_s
    for into, red, yellow in (
        (0.5 * light.green_s, 0.0, 0.0),
        (light.green_s + 0.5 * light.yellow_s, 0.0, 0.5),
        (light.green_s + light.yellow_s + 0.5 * light.red_s, 0.5, 0.0),
    ):
        simulation.time_ns = round(1e9 * ((into - light.phase_s) % cycle))
        place(simulation, light.s_m - front - 30.0, 0.4)  # half of the 60 m of sight
        seen = looked_at(simulation)
        found = [seen[name] for name in ("light", "red", "yellow", "aside", "lead")]
        np.testing.assert_allclose(found, (0.5, red, yellow, 0.4, 0.0), atol=1e-3)
    simulation = Simulation(make_scenario("lead", 1))
    assert simulation.lead is not None
    rear = simulation.lead.s_m - 0.5 * simulation.lead.size_m[0]
    place(simulation, rear - front - 15.0, 0.0)
    seen = looked_at(simulation)
    assert seen["lead"] == pytest.approx(0.75, abs=1e-3) and seen["lead_brakes"] == 0.0


def looked_at(simulation: Simulation) -> dict[str, float]:
    """The named numbers of the expert's label."""
    expert = Expert(simulation)
    return dict(zip(NAMES, insight(simulation, expert.route, expert.label(0).hazards)))


def test_sight_is_where_things_are_in_the_pictures() -> None:
    """A lead 20 m ahead, dead ahead; moved 2 m aside it is seen on the other side; none behind."""
    simulation = Simulation(make_scenario("lead", 1))
    assert simulation.lead is not None
    route, rig = Route(simulation.scenario), default_rig(288, 160)
    cameras, crop = ("cross_left", "front_wide", "front_tele"), 3 * ((96, 288),)
    rear = simulation.lead.s_m - 0.5 * simulation.lead.size_m[0]
    columns = {}
    for aside in (0.0, 2.0):
        place(simulation, rear - 20.0, aside)
        maps = sight(simulation, route, rig, cameras, crop, (4, 12))
        assert maps.shape == (3, len(CLASSES), 4, 12)
        car = maps[:, CLASSES.index("car")]
        # The left camera looks from 3 degrees right of ahead to far left: at the most its edge.
        assert not car[0, :, :11].any() and car[1].any() and car[2].any()
        columns[aside] = [np.flatnonzero(seen.any(axis=0)).mean() for seen in car[1:]]
        assert maps[1:, CLASSES.index("way")].any(axis=(1, 2)).all()
    assert columns[0.0] == [5.5, 5.5]  # of 0 … 11: the middle
    assert min(columns[2.0]) > 5.5  # 2 m to the left of it, it is to the right
    # 6 degrees are two of the tele's cells and half of one of the other's.
    assert columns[2.0][1] - 5.5 > columns[2.0][0] - 5.5
    place(simulation, rear + 8.0, 0.0)
    maps = sight(simulation, route, rig, cameras, crop, (4, 12))
    assert not maps[:, CLASSES.index("car")].any()


def place(simulation: Simulation, s_m: float, aside_m: float) -> None:
    """Put the ego along its lane."""
    road = simulation.scenario.road
    d_m = EGO_LANE_OFFSET_M + aside_m
    x_m, y_m = (float(v) for v in road.points(s_m, d_m))
    simulation.ego = VehicleState(x_m, y_m, float(road.heading(s_m)), 8.0)
    simulation.s_m, simulation.d_m = s_m, d_m


@pytest.mark.parametrize("kind", ("junction", "curvy", "mixed"))
def test_any_state_has_a_label(kind: str) -> None:
    """Far off the road, across it, fast: finite plans that never drive backwards."""
    scenario = make_scenario(kind, 2, 30.0)
    rng = np.random.default_rng(5)
    for _ in range(60):
        simulation = Simulation(scenario)
        s_m, d_m = float(rng.uniform(60.0, 350.0)), float(rng.uniform(-14.0, 14.0))
        x_m, y_m = (float(v) for v in scenario.road.points(s_m, d_m))
        yaw = float(scenario.road.heading(s_m) + rng.uniform(-3.1, 3.1))
        simulation.ego = VehicleState(x_m, y_m, yaw, float(rng.uniform(0.0, 20.0)))
        simulation.s_m, simulation.d_m = s_m, d_m
        label = Expert(simulation).label(0)
        assert label.plan.speeds_mps.min() > -1e-6
        assert 0.0 <= label.confidence <= 1.0 and is_known(label.plan)

"""The closed-loop world's state: roads, scenarios, vehicle, agents, footprints."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alpamayo_ros.errors import UserError
from alpamayo_ros.world import bicycle
from alpamayo_ros.world.agents import EgoView, OncomingAgent, Pedestrian
from alpamayo_ros.world.bicycle import DEFAULT_VEHICLE, VehicleState
from alpamayo_ros.world.boxes import Box, gap_m, overlap
from alpamayo_ros.world.layouts import straight_road
from alpamayo_ros.world.road import EGO_LANE_OFFSET_M, LANE_WIDTH_M
from alpamayo_ros.world.route import Route
from alpamayo_ros.world.scenario import KINDS, WEATHERS, Crossing, Oncoming, StopLight, Walker
from alpamayo_ros.world.scenarios import START_M, make_scenario
from alpamayo_ros.world.simulation import Simulation
from alpamayo_ros.world.vehicle import MAX_CURVATURE_1PM, Command

SEEDS = (1, 2, 3, 4)
boxes = st.builds(
    Box, st.floats(-8, 8), st.floats(-8, 8), st.floats(-4, 4), st.floats(0.3, 6), st.floats(0.3, 3)
)

# Scenarios and roads


@pytest.mark.parametrize("kind", KINDS)
def test_a_scenario_is_its_kind_and_seed(kind: str) -> None:
    """Again: the same. Longer: the same at first. Another seed: another."""
    first = make_scenario(kind, 3, 20.0)
    make_scenario.cache_clear()
    again, longer = make_scenario(kind, 3, 20.0), make_scenario(kind, 3, 40.0)
    other = make_scenario(kind, 4, 20.0)
    np.testing.assert_array_equal(first.road.xy_m, again.road.xy_m)
    if kind != "straight":
        assert not np.array_equal(first.road.xy_m, other.road.xy_m[: len(first.road.xy_m)])
    assert first.weather == again.weather == longer.weather
    for name in ("stopped", "cones", "crossings", "lights", "oncoming", "shifts", "zones", "slow"):
        assert getattr(first, name) == getattr(again, name), name
        count = len(getattr(first, name))
        assert getattr(longer, name)[:count] == getattr(first, name), name
    assert first.lead == again.lead == longer.lead


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", SEEDS)
def test_roads_can_be_driven_and_never_meet_themselves(kind: str, seed: int) -> None:
    """The lane's bends are within the steering; no two stretches of the road come close."""
    scenario = make_scenario(kind, seed)
    road, route = scenario.road, Route(scenario)
    along = np.arange(START_M, road.length_m - 10.0, 1.0)
    assert max(abs(route.at(s).curvature_1pm) for s in along) < 0.75 * MAX_CURVATURE_1PM
    coarse = road.xy_m[::40]
    apart = np.linalg.norm(coarse[:, None] - coarse[None], axis=2)
    far = np.abs(np.arange(len(coarse))[:, None] - np.arange(len(coarse))[None]) > 6
    assert apart[far].min() > 25.0
    assert scenario.weather in WEATHERS


@pytest.mark.parametrize("seed", SEEDS)
def test_junctions_turn_by_right_angles_and_the_route_says_so(seed: int) -> None:
    """Left is left; a guide speaks from 120 m before a junction to its end."""
    scenario = make_scenario("junction", seed)
    assert scenario.junctions and all(j.arms for j in scenario.junctions)
    for junction in scenario.junctions:
        turned = np.ptp(scenario.road.heading([junction.start_m, junction.end_m]))
        assert turned == pytest.approx(0.0 if junction.turn == "straight" else np.pi / 2, abs=0.02)
        side = scenario.road.heading(junction.end_m) - scenario.road.heading(junction.start_m)
        assert {"left": side > 1, "right": side < -1, "straight": abs(side) < 1}[junction.turn]
    first = scenario.junctions[0]
    words = "Go straight" if first.turn == "straight" else f"Turn {first.turn}"
    assert scenario.navigation(first.start_m - 35.0) == f"{words} in 30m"
    assert scenario.navigation(first.start_m - 121.0) is None
    assert scenario.navigation(first.end_m - 1.0) == f"{words} in 0m"
    assert make_scenario("free", seed).navigation(100.0) is None


def test_nearest_near_a_place_is_the_nearest() -> None:
    """A hint saves the search, not the truth."""
    road = make_scenario("curvy", 1).road
    rng = np.random.default_rng(0)
    for s_m, d_m in zip(rng.uniform(30, 400, 50), rng.uniform(-4, 4, 50)):
        xy = road.points(s_m, d_m)
        assert road.nearest(xy, s_m + 10.0) == road.nearest(xy)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(("moon", 1), "no scenario 'moon'"), (("free", -1), "seed -1"), (("free", 1, 0.0), "0 s")],
)
def test_what_is_no_scenario_is_said(arguments: tuple, words: str) -> None:
    with pytest.raises(UserError, match=words):
        make_scenario(*arguments)


def test_the_state_needs_no_renderer() -> None:
    """A whole simulation and its expert, and neither Panda3D nor rclpy is imported."""
    code = (
        "import sys; from alpamayo_ros.world.closed_loop import ClosedLoop;"
        "from alpamayo_ros.world.scenarios import make_scenario;"
        "ClosedLoop(make_scenario('mixed', 1, 1.0), None).run();"
        "assert not [m for m in sys.modules if m.startswith(('panda3d', 'rclpy'))]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# Footprints


@given(boxes, boxes)
def test_gap_and_overlap_agree(a: Box, b: Box) -> None:
    """Symmetric; 0 exactly where they overlap; no more than between the middles."""
    gap = gap_m(a, b)
    assert gap == pytest.approx(gap_m(b, a), abs=1e-9)
    assert (gap == 0.0) == overlap(a, b)
    assert gap <= math.hypot(a.x_m - b.x_m, a.y_m - b.y_m) + 1e-9


@given(boxes, st.floats(0.01, 20.0))
def test_the_gap_of_a_box_moved_aside_is_how_far(box: Box, gap: float) -> None:
    """Along its own left, by its width and the gap."""
    side = box.width_m + gap
    moved = Box(box.x_m - side * math.sin(box.yaw_rad), box.y_m + side * math.cos(box.yaw_rad),
                box.yaw_rad, box.length_m, box.width_m)  # fmt: skip
    assert gap_m(box, moved) == pytest.approx(gap, abs=1e-6)


def test_a_box_inside_another_touches_it() -> None:
    """No corner of the one lies near a side of the other."""
    assert gap_m(Box(0, 0, 0.3, 10, 10), Box(1, 1, 1.0, 0.5, 0.5)) == 0.0


# Vehicle


@given(
    st.lists(st.tuples(st.floats(-20, 20), st.floats(-1, 1)), min_size=1, max_size=60),
    st.floats(0, 20),
)
def test_the_bicycle_keeps_its_limits(commands: list[tuple[float, float]], speed: float) -> None:
    """Whatever is commanded: accelerations, jerk, steering, its rate; never backwards."""
    p, state, dt = DEFAULT_VEHICLE, VehicleState(speed_mps=speed), 0.02
    for acceleration, curvature in commands:
        new = bicycle.drive(state, Command(acceleration, curvature), dt, p)
        assert new.speed_mps >= 0.0
        assert -p.max_braking_mps2 <= new.acceleration_mps2 <= p.max_acceleration_mps2
        assert abs(new.steering_rad) <= p.max_steering_rad + 1e-12
        assert abs(new.steering_rad - state.steering_rad) <= p.max_steering_rate_rps * dt + 1e-12
        if new.speed_mps > 0.0:
            change = abs(new.acceleration_mps2 - state.acceleration_mps2)
            assert change <= p.max_jerk_mps3 * dt + 1e-9
        state = new


def test_actuators_take_their_time_and_get_there() -> None:
    """63 % after one time constant, all of it later."""
    p, state = DEFAULT_VEHICLE, VehicleState(speed_mps=10.0)
    for k in range(100):
        state = bicycle.drive(state, Command(1.0, 0.02), 0.02, p)
        if k == round(p.acceleration_time_constant_s / 0.02) - 1:
            assert state.acceleration_mps2 == pytest.approx(0.632, abs=0.02)
    assert state.acceleration_mps2 == pytest.approx(1.0, abs=1e-3)
    assert state.curvature_1pm == pytest.approx(0.02, abs=1e-4)
    assert state.yaw_rate_rps == pytest.approx(state.speed_mps * state.curvature_1pm)


# Agents and the world


def test_a_simulation_repeats_itself_bit_for_bit() -> None:
    """The same commands: the same states and agents."""

    def run() -> list[object]:
        simulation = Simulation(make_scenario("lead", 5, 20.0))
        for k in range(400):
            simulation.step(Command(math.sin(k / 40), 0.002 * math.cos(k / 30)))
        return [simulation.ego, *simulation.actors()]

    assert run() == run()


def test_a_pedestrian_waits_for_the_ego_and_crosses() -> None:
    """From the right kerb to the left, at its pace; not after the ego is past."""
    road = straight_road(300.0)
    walker = Walker("w", -1.0, 1.25, 30.0, 0.0, (0.5, 0.5, 0.5))
    pedestrian = Pedestrian(road, Crossing(100.0, (walker,)), walker)
    pedestrian.step(EgoView(50.0, -0.8, 3.65, 8.0), 0.1)
    assert not pedestrian.walking and pedestrian.d_m < -4.0
    for _ in range(100):
        pedestrian.step(EgoView(70.0, -0.8, 3.65, 8.0), 0.1)
    assert pedestrian.done and pedestrian.speed_mps == 0.0
    late = Pedestrian(road, Crossing(100.0, (walker,)), walker)
    late.step(EgoView(101.0, -0.8, 3.65, 8.0), 0.1)
    assert not late.walking


def test_an_oncoming_car_stops_for_an_ego_in_its_lane() -> None:
    """And goes on where the ego keeps to its own."""
    road = straight_road(400.0)
    for left_m, stops in ((1.2, True), (-0.8, False)):
        car = OncomingAgent(road, Oncoming("o", 200.0, 8.0, (4.4, 1.8, 1.5), (0.5, 0.5, 0.5)))
        for _ in range(1000):
            car.step(EgoView(100.0, left_m, 3.65, 0.0), 0.02)
        assert (car.speed_mps == 0.0) == stops
        assert (car.s_m > 103.65) == stops


def test_a_light_runs_through_its_colours() -> None:
    """Green, yellow, red, and again."""
    light = StopLight("l", 0.0, 5.0, 3.0, 6.0, 4.0)
    colours = [light.colour(t) for t in (0.0, 1.5, 4.5, 9.9, 10.1, 24.1)]
    assert colours == ["green", "yellow", "red", "red", "green", "green"]


def test_outside_is_measured_from_the_footprint() -> None:
    """In the lane's middle 0.8 m are free; moved to the right by 1 m it is 0.2 m outside."""
    simulation = Simulation(make_scenario("straight", 1))
    free = 0.5 * (LANE_WIDTH_M - DEFAULT_VEHICLE.width_m)
    assert simulation.outside_m() == pytest.approx(-free, abs=1e-6)
    simulation.ego = VehicleState(START_M, EGO_LANE_OFFSET_M - 1.0, 0.0, 5.0)
    assert simulation.outside_m() == pytest.approx(1.0 - free, abs=1e-6)

"""What is said of a trajectory: its decisions, and one sentence."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alpamayo_ros.chain_of_causation import shipped_table
from alpamayo_ros.decisions import decisions_of, describe


def speeds(first: float, last: float) -> np.ndarray:
    """(65,) evenly from one to the other."""
    return np.linspace(first, last, 65)


def headings(last_deg: float) -> np.ndarray:
    """(64,) evenly from near 0, wrapped to (-pi, pi] as yaw_of gives them."""
    turned = np.deg2rad(np.linspace(last_deg / 64, last_deg, 64))
    return np.arctan2(np.sin(turned), np.cos(turned))


@pytest.mark.parametrize(
    ("first", "last", "turn", "longitudinal", "lateral", "text"),
    (
        (8, 8, 0, "set-speed tracking", "lane keeping and centring", "Hold 8.0 m/s, straight on."),
        (8, 8.9, 0, "set-speed tracking", "lane keeping and centring",
         "Hold 8.9 m/s, straight on."),
        (8.1, 4, 8, "speed adaptation", "lane keeping and centring",
         "Slow from 8.1 to 4.0 m/s, curving left."),
        (4, 8, -8, "speed adaptation", "lane keeping and centring",
         "Speed up from 4.0 to 8.0 m/s, curving right."),
        (5, 0, 0, "stop for static constraints", "lane keeping and centring",
         "Slow from 5.0 m/s to a stop, straight on."),
        (5, 5, 90, "set-speed tracking", "turn", "Hold 5.0 m/s, turning left by 90 degrees."),
        (5, 5, -200, "set-speed tracking", "turn", "Hold 5.0 m/s, turning right by 200 degrees."),
        (0, 0, 0, "none", "none", "Stand still."),
        (0.2, -0.2, 40, "none", "none", "Stand still."),
        (0, 5, 0, "speed adaptation", "lane keeping and centring",
         "Speed up from 0.0 to 5.0 m/s, straight on."),
        (-3, -3, 0, "set-speed tracking", "lane keeping and centring",
         "Hold 3.0 m/s in reverse, straight on."),
        (-3, 0, 0, "stop for static constraints", "lane keeping and centring",
         "Slow from 3.0 m/s to a stop in reverse, straight on."),
        (-3, 2, 0, "speed adaptation", "lane keeping and centring",
         "Change direction, from -3.0 to 2.0 m/s, straight on."),
    ),
)  # fmt: skip
def test_what_is_said(
    first: float, last: float, turn: float, longitudinal: str, lateral: str, text: str
) -> None:
    """Each motion by its decisions and its sentence, turns beyond half a circle and reverse too."""
    named = decisions_of(speeds(first, last), headings(turn))
    assert (named.longitudinal, named.lateral) == (longitudinal, lateral)
    assert describe(speeds(first, last), headings(turn)) == text


@given(st.floats(-10, 40), st.floats(-10, 40), st.floats(-300, 300))
def test_only_known_decisions(first: float, last: float, turn: float) -> None:
    """Of the table, and the sentence stands still exactly where the decisions do."""
    named = decisions_of(speeds(first, last), headings(turn))
    table = shipped_table()
    assert named.longitudinal in table.longitudinal and named.lateral in table.lateral
    still = describe(speeds(first, last), headings(turn)) == "Stand still."
    assert still == (named.longitudinal == named.lateral == "none")


@pytest.mark.parametrize("turn", (29.9, 30.1, -29.9, -30.1))
def test_a_turn_is_more_than_thirty_degrees(turn: float) -> None:
    """To either side."""
    assert (decisions_of(speeds(8, 8), headings(turn)).lateral == "turn") == (abs(turn) > 30)

"""Faults at speed in closed-loop drives: they end in a stop or a continued drive, in the lane."""

from __future__ import annotations

import pytest

from alpamayo_ros import cli
from alpamayo_ros.commands.world_faults import table
from alpamayo_ros.world.fault_drive import FaultDrive

CURVE = ("curvy", 1)


@pytest.mark.parametrize(
    ("fault", "ends"),
    [
        ("odometry_stuck", "stopped"),
        ("odometry_jumps", "drives on"),
        ("clock_back", "drives on"),
        ("model_turns", "stopped"),
    ],
)
def test_with_the_stage_the_drive_is_clean(fault: str, ends: str) -> None:
    """In a bend at 10 m/s, with the fault from then on."""
    result = FaultDrive(fault, *CURVE, safety=True).run()
    assert result.speed_mps >= 9.5 and result.noticed_ms is not None
    assert (result.clean, result.ended) == (True, ends), result


def test_without_it_it_is_not() -> None:
    """What is injected is no trifle."""
    assert not FaultDrive("model_turns", *CURVE, safety=False).run().clean


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    """One fault, one drive: a table; an unknown fault is named with those that there are."""
    options = ["--scenarios", "straight", "--seeds", "1", "--jobs", "1", "--check"]
    assert cli.main(["world", "faults", "--faults", "model_raises", *options]) == 0
    printed = capsys.readouterr().out
    assert "| model raises | 1 | 1 | 1 | 1 stop |" in printed
    assert printed.splitlines()[0] == table({}).splitlines()[0]
    assert cli.main(["world", "faults", "--faults", "gremlins", *options]) == 2
    assert "planner_dead" in capsys.readouterr().err

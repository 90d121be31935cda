"""How `pytest -n 2` (pytest-xdist) deals out the tests: nodes that keep a rhythm are alone."""

from __future__ import annotations

import os
from typing import Any

import pytest

# One after the other in one worker, and after all others: tests whose processes keep the rhythm of
# the machine's clock, or answer within a time.
PROCESSES = "rosbag_tests/"
# One after the other in one worker too, for the recording that they share, while the other worker
# has the unit tests: nodes wait for half of their time, and alone they leave the machine idle.
BESIDE = "rosbag_tests/ beside test/"
NOT_ALONE = tuple(
    f"{PROCESSES}test_{name}.py"
    for name in (
        *("compat", "faults", "faults_of_models", "replay"),  # no processes
        # Processes that wait for each other, however long that takes.
        *("bench_smoke", "executor", "frames_and_navigation", "lifecycle", "markers", "policy"),
        *("replay_processes", "student_node"),
    )
)
# As patient, and slow: it goes to whichever worker is free first.
VLA_NODE = f"{PROCESSES}test_vla_node.py"
# In one worker, for the fixtures that they share. Other tests go by file.
TOGETHER = ("test/student/",)
# What takes long comes first: then both workers end at about the same time.
ORDER = (BESIDE, *TOGETHER, VLA_NODE, "test/vla/", "test/", PROCESSES)

# With it each process that tests start would compile the package anew, 0.1 s of 0.7.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def _scope(nodeid: str) -> str:
    file = nodeid.split("::", 1)[0]
    if file.startswith(PROCESSES) and file != VLA_NODE:
        return BESIDE if file in NOT_ALONE else PROCESSES
    return next((folder for folder in TOGETHER if file.startswith(folder)), file)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever wants the machine for itself comes last."""

    def place(item: pytest.Item) -> int:
        scope = _scope(item.nodeid)
        places = (place for place, start in enumerate(ORDER) if scope.startswith(start))
        return next(places, len(ORDER))

    items.sort(key=place)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """By scope, in the order of collection."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _scope(nodeid)

    config.option.loadscopereorder = False
    return Scheduling(config, log)

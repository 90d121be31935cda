"""How `pytest -n 2` (pytest-xdist) deals out the tests: nodes that keep a rhythm are alone."""

from __future__ import annotations

from typing import Any

import pytest

# One after the other in one worker, and after all others: tests whose processes keep a rhythm.
PROCESSES = "rosbag_tests/"
NOT_ALONE = tuple(
    f"{PROCESSES}test_{name}.py"
    for name in (
        *("compat", "faults", "faults_of_models", "replay"),  # no processes
        # Processes that wait for each other, however long that takes.
        *("bad_images", "bench_smoke", "executor", "lifecycle", "markers", "policy"),
        *("reasoning_after", "replay_processes", "student_node", "vla_node"),
    )
)
# In one worker, for the fixtures that they share. Other tests go by file.
TOGETHER = ("test/student/",)


def _scope(nodeid: str) -> str:
    file = nodeid.split("::", 1)[0]
    if file.startswith(PROCESSES) and file not in NOT_ALONE:
        return PROCESSES
    return next((folder for folder in TOGETHER if file.startswith(folder)), file)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever wants the machine for itself comes last."""
    items.sort(key=lambda item: _scope(item.nodeid) == PROCESSES)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """By scope, in the order of collection."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _scope(nodeid)

    config.option.loadscopereorder = False
    return Scheduling(config, log)

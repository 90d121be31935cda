"""How `pytest -n 2` (pytest-xdist) deals out the tests: the nodes' processes are alone together."""

from __future__ import annotations

from typing import Any

import pytest

# One after the other in one worker: processes that are waited for, and students that take seconds
# to export for the first test of them. Other tests go by file.
TOGETHER = ("rosbag_tests/", "test/student/")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Files in the order of collection, so that rosbag_tests/ begin when hardly any are left."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            folders = (folder for folder in TOGETHER if nodeid.startswith(folder))
            return next(folders, None) or super()._split_scope(nodeid)

    config.option.loadscopereorder = False
    return Scheduling(config, log)

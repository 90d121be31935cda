"""A recording and its plans as a video."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from alpamayo_ros.bags.moments import Moments
from alpamayo_ros.viz.dashboard import HEIGHT, WIDTH, Dashboard
from alpamayo_ros.viz.video import VideoWriter


def film(
    path: Path,
    moments: Moments,
    dashboard: Dashboard,
    progress: Callable[[float], None] = lambda done_s: None,
) -> dict[str, Any]:
    """Write an mp4 of every instant; counts, and how many times real time it went."""
    started, count, planned, last_s = time.perf_counter(), 0, 0, 0.0
    with VideoWriter(path, WIDTH, HEIGHT) as video:
        for moment in moments.all(dashboard.panel_size, progress):
            video.add(dashboard.draw(moment), moment.time_s)
            count, last_s = count + 1, moment.time_s
            planned += moment.plan is not None
    wall_s = time.perf_counter() - started
    drive_s = last_s * count / (count - 1) if count > 1 else 0.0  # the last one is shown as well
    return {
        "video": str(path),
        "pictures": count,
        "with_plan": planned,
        "drive_s": drive_s,
        "wall_s": wall_s,
        "times_real_time": drive_s / wall_s,
    }

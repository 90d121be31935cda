"""Recording and plans to a video: how many times faster than the drive itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from alpamayo_ros.backends.registry import create_for
from alpamayo_ros.bags.context import read_context
from alpamayo_ros.bags.film import film
from alpamayo_ros.bags.moments import Moments
from alpamayo_ros.bags.reader import BagReader
from alpamayo_ros.bags.replay import replay
from alpamayo_ros.bags.shown import read_shown_plans
from alpamayo_ros.bench.figures import Bar, table
from alpamayo_ros.parameters import settings_from
from alpamayo_ros.viz.dashboard import HEIGHT, WIDTH, Dashboard
from alpamayo_ros.viz.video import need_av
from alpamayo_ros.world.record import RecordOptions, record


@dataclass(frozen=True, slots=True)
class RenderOptions:
    """The drive that is drawn; four cameras at 10 Hz."""

    seconds: float = 10.0
    width_px: int = 1280  # of each camera
    height_px: int = 720


def measure(
    options: RenderOptions, progress: Callable[[float], None] = lambda done_s: None
) -> dict[str, Any]:
    """Record a drive, plan on it, and draw it against the clock."""
    need_av()
    settings = settings_from({})
    with TemporaryDirectory(prefix="alpamayo-") as folder:
        path, plans_path = Path(folder) / "drive", Path(folder) / "plans.mcap"
        record(path, RecordOptions(options.seconds, width_px=options.width_px,
                                   height_px=options.height_px))  # fmt: skip
        backend = create_for(settings)
        backend.load()
        replay(path, settings, backend, plans_path)
        backend.close()
        plans = read_shown_plans(plans_path)
        with BagReader(path) as bag:
            moments = Moments(bag, settings, read_context(bag, settings), plans)
            names = [camera.name for camera in moments.cameras]
            dashboard = Dashboard(names, moments.track.limits, "bench")
            result = film(Path(folder) / "drive.mp4", moments, dashboard, progress)
    result.pop("video")
    bar = Bar("times real time", result["times_real_time"], 1.0, at_least=True)
    return {
        **result,
        "size": [options.width_px, options.height_px],
        "output": [WIDTH, HEIGHT],
        "bars": [bar.to_json()],
    }


def report(result: dict[str, Any]) -> str:
    """The figures as a table."""
    size, output = "x".join(map(str, result["size"])), "x".join(map(str, result["output"]))
    milliseconds = 1e3 * result["wall_s"] / result["pictures"]
    row = [f"four cameras, {size}", output, result["pictures"], f"{milliseconds:.1f}",
           f"{result['times_real_time']:.2f}"]  # fmt: skip
    return table(["", "video", "pictures", "ms each", "times real time"], [row])

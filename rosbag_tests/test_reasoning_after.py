"""A reasoning that comes after its plan, through a real planner process."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from alpamayo_ros.msg import ReasoningTrace
from drive import Drive, nanoseconds
from harness import START_S, Bench
from std_msgs.msg import String

SCRIPT = "planner_with_test_backends.py"


def test_reasoning_follows_with_its_own_t0(bench: Bench, manifest: Callable[..., str]) -> None:
    """It takes longer than a tick: plans go out all the while without it, each status says so, and
    every text names the plan that it belongs to, published that much later. Before the
    first of them the model is shown frames to come."""
    model = manifest(reason_steps=15, foresight=1)
    bench.start_planner(SCRIPT, model=model)
    assert bench.change("configure", START_S) and bench.change("activate", START_S)
    heard: dict[str, list[Any]] = {"reasoning": [], "reasoning_trace": []}
    for topic, kind in (("reasoning", String), ("reasoning_trace", ReasoningTrace)):
        bench.node.create_subscription(kind, f"{bench.planner}/{topic}", heard[topic].append, 50)
    drive = Drive(bench.node)
    bench.wait(lambda: drive.connected, START_S, "subscriptions")
    drive.start()

    def traces_of_the_model() -> list[Any]:
        # A slow start makes the safety stage publish a stop, which says why.
        return [trace for trace in heard["reasoning_trace"] if trace.source == "model"]

    bench.wait(lambda: len(traces_of_the_model()) >= 4, 30.0, "reasonings")
    traces = traces_of_the_model()
    words = [message.data for message in heard["reasoning"]]
    assert words.count(traces[0].text) == 1
    planned = [status for status in bench.statuses if status.outcome == status.PLANNED]
    assert all(status.reasoning_follows for status in planned)
    # While the 1.5 s of odometry that a plan wants were awaited, nothing else was to be done.
    foreseen = re.search(r"foreseen=(\d+)", planned[-1].detail)
    assert foreseen is not None and int(foreseen[1]) > 0
    assert not [status for status in bench.statuses if status.reason == "planner_failed"]
    t0s = [nanoseconds(trace.header.stamp) for trace in traces]
    assert t0s == sorted(set(t0s))
    assert set(t0s) <= {nanoseconds(path.header.stamp) for path in bench.paths}
    assert len(bench.paths) > len(traces)  # each was overtaken by a plan
    for trace, t0_ns in zip(traces, t0s):
        assert trace.text == f"of {t0_ns}"
        assert trace.longitudinal_decision == "follow lead"
        # Its steps sleep 150 ms, and begin before the executor has published the plan.
        assert trace.delay_ms > 0
        assert trace.header.frame_id == bench.paths[-1].header.frame_id

"""The benchmarks' own arithmetic: schedules, rates, percentiles, what a plan waited for."""

from __future__ import annotations

import json
import os
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from alpamayo_ros.bench import latency, ticks, ticks_dds
from alpamayo_ros.bench.figures import Bar, percentiles, table
from alpamayo_ros.bench.load import ODOMETRY, Load, events
from alpamayo_ros.bench.processes import Usage, environment, shm_warning
from alpamayo_ros.cli import main
from alpamayo_ros.processes import unused_domain
from alpamayo_ros.types import NS_PER_MS, NS_PER_S


def test_events_are_seeded_and_in_order() -> None:
    load = Load(30.0, jitter_ms=20.0, offsets_ms=(0.0, 7.0, 13.0, 20.0), delay_ms=5.0, seed=3)
    first = list(islice(events(load), 2000))
    assert first == list(islice(events(Load.from_json(load.to_json())), 2000))
    assert first == sorted(first, key=lambda event: event.publish_ns)
    assert first != list(islice(events(Load(30.0, jitter_ms=20.0, seed=4)), 2000))


def test_events_keep_rate_jitter_and_offset() -> None:
    load = Load(20.0, jitter_ms=10.0, phase_ms=3.0, offsets_ms=(0.0, 5.0, 0.0, 0.0), delay_ms=4.0)
    ours = [event for event in islice(events(load), 4000) if event.source == load.cameras[1]]
    late_ms = np.array([(e.stamp_ns - k * 50 * NS_PER_MS) / NS_PER_MS for k, e in enumerate(ours)])
    assert late_ms.min() >= 8.0 and late_ms.max() <= 18.0
    assert late_ms.max() - late_ms.min() > 8.0
    assert min(e.publish_ns - e.stamp_ns for e in ours) == 4 * NS_PER_MS
    odometry = [e.stamp_ns for e in islice(events(load), 500) if e.source == ODOMETRY]
    assert set(np.diff(odometry)) == {10 * NS_PER_MS}


@pytest.mark.parametrize("rate_hz", ticks.RATES_HZ)
def test_ten_plans_a_second(rate_hz: float) -> None:
    load = Load(rate_hz, jitter_ms=20.0, offsets_ms=(0.0, 7.0, 13.0, 20.0), delay_ms=5.0, seed=1)
    result = ticks.rate_of(ticks.simulate(load, 8.0), 8.0)
    assert abs(result["plans_hz"] - 10.0) <= 0.2, result


def test_a_lost_camera_is_named_within_200_ms_and_from_then_on() -> None:
    load = Load(30.0, jitter_ms=5.0, delay_ms=5.0)
    cut = ticks.Cut("cross_left", 3 * NS_PER_S)
    result = ticks.cut_of(ticks.simulate(load, 5.0, cut), load, cut)
    assert result["all_name_it"] and result["reason"] == "camera_missing"
    assert result["after_due_ms"] <= 200.0
    assert result["ticks_after"] >= 16


def test_a_camera_that_is_never_named_has_no_figures() -> None:
    load = Load(10.0)
    result = ticks.cut_of([], load, ticks.Cut("cross_left", NS_PER_S))
    assert result["after_due_ms"] is None and not result["all_name_it"]


def test_what_a_plan_waited_for() -> None:
    """The last to be published of every source's first message at or after t0."""
    published = {
        "front_wide": [[100, 1], [200, 2], [300, 9]],
        "cross_left": [[95, 1], [205, 4]],
        ODOMETRY: [[150, 2], [199, 3], [210, 5], [220, 6]],
    }
    assert latency.last_needed_ns(200, published) == 5
    assert latency.last_needed_ns(100, published) == 4
    assert latency.last_needed_ns(206, published) is None


def test_rates_over_dds_count_between_first_and_last_status() -> None:
    def status(at_ms: int, planned: bool) -> dict[str, object]:
        return {"stamp_ns": at_ms * NS_PER_MS, "planned": planned, "reason": "" if planned else "x"}

    statuses = [status(at, at != 500) for at in range(0, 1001, 100)]
    result = ticks_dds.rate_of(statuses)
    assert result["plans_hz"] == 9.0 and result["longest_gap_ms"] == 200.0
    assert result["rejections"] == 1 and result["reasons"] == ["x"]
    assert ticks_dds.rate_of([])["plans_hz"] is None


def test_percentiles_and_bars() -> None:
    assert percentiles([3.0, 1.0, 2.0]) == {"count": 3, "p50": 2.0, "p99": 2.98, "max": 3.0}
    assert percentiles([])["p50"] is None
    assert Bar("x", 5.0, 5.0).met and not Bar("x", float("nan"), 5.0).met
    assert not Bar("x", 0.99, 0.995, at_least=True).met
    assert Bar("x", float("nan"), 1.0).to_json()["value"] is None
    json.dumps(Bar("x", np.float64(1.0), 2.0).to_json())


def test_table_aligns() -> None:
    assert table(["a", "bb"], [["long", 1]]) == "a     bb\nlong   1"


def test_usage_is_read_from_proc() -> None:
    before = Usage.of(os.getpid())
    sum(range(2_000_000))
    after = Usage.of(os.getpid())
    assert after.private_bytes > 1_000_000
    assert 0.0 <= after.cores_since(before) < 64.0


def test_children_get_a_profile_or_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTDDS_BUILTIN_TRANSPORTS", "LARGE_DATA")
    monkeypatch.setenv("FASTRTPS_DEFAULT_PROFILES_FILE", "/mine.xml")
    with_profile = environment(Path("/p.xml"), 7)
    assert with_profile["FASTRTPS_DEFAULT_PROFILES_FILE"] == "/p.xml"
    assert with_profile["FASTDDS_DEFAULT_PROFILES_FILE"] == "/p.xml"
    assert with_profile["ROS_DOMAIN_ID"] == "7"
    without = environment(None, 7)
    assert not {name for name in without if name.endswith("DEFAULT_PROFILES_FILE")}
    assert "FASTDDS_BUILTIN_TRANSPORTS" not in without
    assert all(1 <= unused_domain() <= 101 for _ in range(20))


def test_small_shared_memory_is_warned_of() -> None:
    assert shm_warning(2_000_000_000) is None
    assert "64 MB" in str(shm_warning(64_000_000))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["ingest", "--size", "1080p"], "WIDTHxHEIGHT"),
        (["latency", "--rate", "0"], "--rate is 0"),
        (["ingest", "--seconds", "nan"], "--seconds is nan"),
    ],
)
def test_wrong_use(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_isolation_is_measured_side_by_side(capsys: pytest.CaptureFixture[str]) -> None:
    """A thread, a process and the copy of the pixels in one run; the cost is their difference."""
    assert main(["bench", "isolation", "--repeats", "10"]) == 0
    said = capsys.readouterr().out
    assert "plan in a thread" in said and "plan in a process" in said
    assert "4 x 4 x 320 x 576 x 3" in said and "process - thread, medians, ms" in said
    assert main(["bench", "isolation", "--repeats", "1"]) == 2

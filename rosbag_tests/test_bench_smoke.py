"""Each benchmark runs over real DDS and reports what it promises. Figures are not judged here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from alpamayo_ros.bench import ticks_dds
from alpamayo_ros.bench.load import Load
from alpamayo_ros.cli import main

pytest.importorskip("rclpy")
SMALL = ["--seconds", "1", "--size", "320x180"]


def _result(tmp_path: Path, *arguments: str) -> dict[str, Any]:
    path = tmp_path / "result.json"
    assert main(["bench", *arguments, "--json", str(path)]) == 0
    result: dict[str, Any] = json.loads(path.read_text())
    return result


def test_ingest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = _result(tmp_path, "ingest", "--rate", "10", "--transport", "profile", *SMALL)
    case = result["cases"]["profile"]
    assert case["sent"] > 0 and 0 < case["buffered"] <= case["sent"]
    assert set(case["cameras"]) == {"front_wide", "front_tele", "cross_left", "cross_right"}
    for key in ("share", "planner_cores", "publisher_cores", "plans_hz", "memory_start_mb",
                "memory_end_mb", "memory_growth_mb", "shared_memory_mb"):  # fmt: skip
        assert isinstance(case[key], (int, float)), key
    assert len(result["bars"]) == 3
    assert "reached the planner's buffers" in capsys.readouterr().out


def test_latency(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = _result(tmp_path, "latency", *SMALL)
    assert result["plans"] > 0
    for key in ("node_ms", "node_without_decode_and_model_ms", "outside_ms",
                "outside_without_decode_and_model_ms"):  # fmt: skip
        assert set(result[key]) == {"count", "p50", "p99", "max"}, key
        assert 0.0 < result[key]["p50"] <= result[key]["max"], key
    assert set(result["stages_ms"]) == {"decode", "model"}
    assert "publication to path" in capsys.readouterr().out


def test_ticks() -> None:
    result = ticks_dds.measure(1.5, [Load(20.0, jitter_ms=5.0, delay_ms=5.0)])
    (entry,) = result["loads"]
    assert entry["plans_hz"] > 0
    assert entry["after_due_ms"] > 0 and entry["after_last_frame_ms"] > 0
    assert isinstance(entry["all_name_it"], bool)
    assert {bar["name"].split(":")[0] for bar in result["bars"]} == {"over DDS"}
    assert "plans, Hz" in ticks_dds.report(result)

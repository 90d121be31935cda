"""The Alpamayo model in the planner's process: a tiny random checkpoint over real DDS, on a CPU."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from alpamayo_ros.msg import CandidateTrajectories, PlannerStatus, ReasoningTrace
from drive import Drive
from harness import START_S, Bench
from std_msgs.msg import String

from alpamayo_ros import cli
from alpamayo_ros.types import DEFAULT_CAMERAS

pytest.importorskip("torch", reason="needs PyTorch: make test installs it")
pytest.importorskip("transformers", reason="needs transformers: make test installs it")

LOAD_S = 90.0  # transformers alone takes 4 to 20 s to import, by what else the machine does
PLAN_S = 60.0  # a plan of the tiny model takes 0.5 to 10 s, likewise
NOTE = "random weights, whose plans mean nothing"


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Manifests of tiny random checkpoints by version."""
    from alpamayo_ros.vla.initialise import write_checkpoint

    parent = tmp_path_factory.mktemp("checkpoints")
    return {version: write_checkpoint(parent / version, "tiny", version)
            for version in ("r1", "1.5")}  # fmt: skip


def hear(bench: Bench, kind: Any, topic: str) -> list[Any]:
    """Everything that is published on a topic of the planner from now on."""
    heard: list[Any] = []
    bench.node.create_subscription(kind, f"{bench.planner}/{topic}", heard.append, 50)
    return heard


def planning(bench: Bench, manifest: Path, *options: str, **parameters: Any) -> Drive:
    """An active planner with that model, and a drive for it."""
    # Random weights drive as no vehicle can, on this machine half a second late.
    parameters.setdefault("safety", "observe")
    if options:
        parameters["model_options"] = list(options)
    if parameters.setdefault("isolation", "thread") != "thread":
        parameters["plan_timeout_s"] = 2 * PLAN_S
    bench.start_planner(model=str(manifest), autostart=True, use_sim_time=True, **parameters)
    bench.wait(lambda: bench.state() == "active", LOAD_S, "active planner")
    drive = Drive(
        bench.node, sim_time=True, cameras=parameters.get("camera_names", DEFAULT_CAMERAS)
    )
    bench.wait(lambda: drive.connected, START_S, "subscriptions")
    drive.start()
    return drive


def test_every_sample_taken_gives_a_plan_and_its_reasoning(
    bench: Bench, checkpoints: dict[str, Path]
) -> None:
    """R1 in a process of its own, slower than 10 Hz: one plan a sample taken, the skipped ones are
    counted. A question is refused at once: R1 answers none."""
    from alpamayo_ros.srv import AskScene

    reasoning, traces = (
        hear(bench, String, "reasoning"),
        hear(bench, ReasoningTrace, "reasoning_trace"),
    )
    candidates = hear(bench, CandidateTrajectories, "candidates")
    options = ("samples=3", "choice=medoid", "max_new_tokens=4", "flow_steps=3")
    drive = planning(bench, checkpoints["r1"], *options, isolation="auto")
    client = bench.client("ask", AskScene)
    refused = _asked(bench, client, AskScene.Request(question="Is the lane ahead free?"))
    assert not refused.success and "does not answer questions" in refused.message
    bench.wait_plans(6, PLAN_S)
    drive.stop()
    bench.wait(
        lambda: (
            len(bench.paths) == len(reasoning) == len(traces) == len(candidates)
            and len(bench.paths) == len(_outcomes(bench, PlannerStatus.PLANNED))
        ),
        PLAN_S,
        "as many texts as paths",
    )
    planned = _outcomes(bench, PlannerStatus.PLANNED)
    assert [status.sequence for status in planned] == list(range(1, len(planned) + 1))
    stages = {stage.stage for stage in planned[-1].stages}
    assert {"decode", "prepare", "vision", "prefill", "reasoning", "flow", "unicycle", "model"} <= (
        stages
    )
    assert planned[-1].model_licence == "none (random weights)"
    busy = [status for status in bench.statuses if status.reason == "planner_busy"]
    last = bench.statuses[-1]
    assert last.samples_dropped == len(busy)
    # Nothing but samples not taken, and on a busy machine inputs that are late, or a /clock that
    # is: to who reads it late, stamps lie in the future.
    late = {"warming_up", "camera_missing", "odometry_missing", "odometry_gap", "future_stamp"}
    assert {status.reason for status in bench.statuses if status.reason} <= {"planner_busy", *late}
    for trace, text in zip(traces, reasoning):
        assert trace.source == "model"
        assert trace.text == text.data
    for message, path in zip(candidates, bench.paths):
        assert len(message.candidates) == 3
        assert sum(candidate.chosen for candidate in message.candidates) == 1
        assert message.header.stamp == path.header.stamp
        assert all(len(candidate.poses) == 64 for candidate in message.candidates)
    stamps = [status.t0.sec + status.t0.nanosec * 1e-9 for status in planned]
    rate = (len(stamps) - 1) / (stamps[-1] - stamps[0])
    print(f"{len(planned)} plans at {rate:.2f} Hz, {len(busy)} samples skipped while it was busy")


def _outcomes(bench: Bench, outcome: int) -> list[Any]:
    return [status for status in bench.statuses if status.outcome == outcome]


def test_1_5_with_one_camera_navigation_and_a_question(
    bench: Bench, checkpoints: dict[str, Path]
) -> None:
    """Variable cameras, route text with guidance, and an answer in words.

    A model that is slower than 10 Hz has no time between ticks: it answers busy, and answers once
    no tick is due.
    """
    from alpamayo_ros.srv import AskScene

    route = bench.node.create_publisher(String, f"{bench.planner}/navigation", 1)
    drive = planning(
        bench,
        checkpoints["1.5"],
        "guidance_weight=1.5",
        "max_answer_tokens=4",
        "max_new_tokens=4",
        "flow_steps=3",
        ask_timeout_s=1.0,
        camera_names=["front_wide"],
        camera_topics=["/camera/front_wide/image/compressed"],
    )
    bench.wait_plans(1, PLAN_S)
    route.publish(String(data="Turn left in 30m"))
    bench.wait(
        lambda: (
            bench.statuses[-1].navigation == "Turn left in 30m"
            and bench.statuses[-1].outcome == PlannerStatus.PLANNED
        ),
        PLAN_S,
        "a plan with navigation",
    )
    client = bench.client("ask", AskScene)
    bench.wait(client.service_is_ready, START_S, "the question service")
    request = AskScene.Request(question="Is the lane ahead free?")
    result = _asked(bench, client, request)
    assert result.success or result.message.startswith("busy: planning goes first")
    drive.cut.add("front_wide")
    bench.wait(lambda: bench.statuses[-1].reason == "camera_missing", PLAN_S, "no more samples")
    while not (answer := _asked(bench, client, request)).success:
        assert answer.message.startswith("busy")
    assert answer.model == "alpamayo_1_5_tiny_random"
    assert answer.t0.sec > 0
    assert answer.latency_ms > 0
    drive.cut.clear()
    bench.wait_plans(1, PLAN_S)


def _asked(bench: Bench, client: Any, request: Any) -> Any:
    answer = client.call_async(request)
    bench.wait(answer.done, PLAN_S, "an answer")
    return answer.result()


def test_what_cannot_be_had(bench: Bench, checkpoints: dict[str, Path]) -> None:
    """Configure fails with the path and the remedy; the node stays up, and /diagnostics says so."""
    planner = bench.start_planner(model=str(checkpoints["r1"]), file_roots=["/nowhere"])
    for option, said in (
        ("checkpoint=/nowhere", "/nowhere does not exist"),
        ("tokenizer=/nowhere", "no tokenizer folder /nowhere"),
        ("samples=0", "samples is 0"),
    ):
        bench.wait_refused_option(option, said, LOAD_S)
    assert planner.alive
    assert "Traceback" not in planner.output


def test_replay_of_a_real_drive(
    kitti06: Path, checkpoints: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """KITTI 06's front camera through tiny random weights: it finishes, and the report says that
    they are."""
    # Nobody should drive these plans, and the safety stage would let nobody.
    params = tmp_path / "params.yaml"
    params.write_text("/**:\n  ros__parameters:\n    safety: observe\n")
    code = cli.main([
        "replay", str(kitti06), "--out", str(tmp_path), "--model", str(checkpoints["1.5"]),
        "--params", str(params), "--camera", "front_wide=/camera/front_wide/image/compressed",
        "--option", "max_new_tokens=2", "--option", "flow_steps=2",
    ])  # fmt: skip
    assert code == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert abs(report["plans"] - 36) <= 1
    assert report["model_note"] == NOTE
    assert NOTE in capsys.readouterr().out
    assert np.isfinite(report["ade_m"]["planner"]["6.4"])

"""The planner's process under transition requests, slow models, failures and signals."""

from __future__ import annotations

import random
import signal
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from drive import Drive
from harness import START_S, Bench
from lifecycle_msgs.srv import ChangeState
from visualization_msgs.msg import Marker

SCRIPT = "planner_with_test_backends.py"
# What a request does, by the state's label and the transition's id.
EFFECTS = {
    ("unconfigured", 1): "inactive",
    ("inactive", 2): "unconfigured",
    ("inactive", 3): "active",
    ("active", 4): "inactive",
}
LABELS = {"configure": 1, "cleanup": 2, "activate": 3, "deactivate": 4}


def test_random_transition_requests(bench: Bench) -> None:
    """200 requests, legal, illegal, unknown and by label: each does what its state allows, no more.

    The node lives, and is in the state that follows from what it granted.
    """
    rng = random.Random(20)
    planner = bench.start_planner(configure_odometry_wait_s=0.0)
    state = "unconfigured"
    for _ in range(200):
        if rng.random() < 0.25:
            label, number = rng.choice([*LABELS, "fly", "create", "destroy"]), rng.randrange(256)
            wanted = EFFECTS.get((state, LABELS.get(label, -1)))
        else:
            # Not 5, 6 and 7 (shutdown), from which no node comes back.
            label, number = "", rng.choice([0, 1, 1, 2, 2, 3, 3, 4, 4, 8, 9, 10, 11, 60, 90, 255])
            wanted = EFFECTS.get((state, number))
        granted = bench.request_transition(number, label)
        assert granted == (wanted is not None), f"{number} {label!r} while {state}"
        state = wanted or state
        if rng.random() < 0.2:
            assert bench.state() == state
    assert bench.state() == state
    assert planner.alive


def test_concurrent_transition_requests(bench: Bench, manifest: Callable[..., str]) -> None:
    """Of eight requests at once one is granted, the rest are refused, and the node stays whole."""
    planner = bench.start_planner(SCRIPT, model=manifest(load_s=0.3), configure_odometry_wait_s=0.0)
    client = bench.client("change_state", ChangeState)
    bench.wait(client.service_is_ready, START_S, "change_state")
    for number, label in ((1, "inactive"), (3, "active"), (4, "inactive"), (2, "unconfigured")):
        request = ChangeState.Request()
        request.transition.id = number
        futures = [client.call_async(request) for _ in range(8)]
        for future in futures:
            bench.wait(future.done, 10.0, "answer")
        assert sum(future.result().success for future in futures) == 1
        assert bench.state() == label
    assert planner.alive


def test_shutdown_by_label_and_configure_after(bench: Bench) -> None:
    """Shutdown ends in finalized, where everything more is refused and the node still answers."""
    bench.start_planner(configure_odometry_wait_s=0.0)
    assert bench.change("configure")
    assert bench.request_transition(0, "shutdown")
    assert bench.state() == "finalized"
    assert not bench.change("configure")
    assert bench.state() == "finalized"


def test_get_state_while_a_model_loads(bench: Bench, manifest: Callable[..., str]) -> None:
    """A model takes 2 s to load: get_state answers all the while, then it is done.

    The median answer is judged; a busy machine may hold up any one of them.
    """
    bench.start_planner(SCRIPT, model=manifest(load_s=2.0), configure_odometry_wait_s=0.0)
    assert bench.state() == "unconfigured"
    client = bench.client("change_state", ChangeState)
    bench.wait(client.service_is_ready, START_S, "change_state")
    request = ChangeState.Request()
    request.transition.id = 1
    configured = client.call_async(request)
    answers: list[tuple[float, str]] = []
    while not configured.done():
        asked = time.monotonic()
        label = bench.state()
        answers.append((time.monotonic() - asked, label))
    assert configured.result().success
    assert sum(label == "configuring" for _, label in answers) > 10
    assert statistics.median(seconds for seconds, _ in answers) < 0.5
    assert bench.state() == "inactive"


def test_sigterm_while_planning(bench: Bench) -> None:
    """SIGTERM to a planning node: exit code 0 within 5 s, and no traceback."""
    planner = bench.start_planner(autostart=True)
    drive = Drive(bench.node)
    bench.wait(lambda: drive.connected, START_S, "subscriptions")
    drive.start()
    bench.wait_plans(3)
    started = time.monotonic()
    assert planner.stop(signal.SIGTERM) == 0
    assert time.monotonic() - started < 5.0
    assert "Traceback" not in planner.output


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_while_loading(
    bench: Bench, manifest: Callable[..., str], number: signal.Signals
) -> None:
    """SIGTERM or SIGINT to a node whose model loads for 60 s: exit code 0 within 5 s."""
    planner = bench.start_planner(SCRIPT, autostart=True, model=manifest(load_s=60.0))
    bench.wait(lambda: bench.state() == "configuring", START_S, "configuring")
    started = time.monotonic()
    assert planner.stop(number) == 0
    assert time.monotonic() - started < 5.0


def test_second_sigint_while_ending(bench: Bench) -> None:
    """Ctrl-C reaches a launched node twice, from the terminal and from launch: exit code 0."""
    planner = bench.start_planner(autostart=True)
    bench.wait(lambda: bench.state() == "active", START_S, "active")
    planner.process.send_signal(signal.SIGINT)
    while planner.alive:
        planner.process.send_signal(signal.SIGINT)
        time.sleep(0.005)
    assert planner.process.returncode == 0


def test_models_that_cannot_be_had(bench: Bench, manifest: Callable[..., str]) -> None:
    """A backend that raises, weights that are missing, four cameras for a model of two.

    Configure refuses each, /diagnostics and ~/markers say why; when it is put right, it plans.
    """
    drawn = bench.hear_markers()
    weights = bench.folder / "weights.bin"
    bench.start_planner(SCRIPT, configure_odometry_wait_s=0.0, model=manifest(raises=True))
    for text, options in (
        ("a bug in a backend", {"raises": True}),
        ("takes 1 to 2 cameras, 4 are configured", {"maximum": 2}),
        (str(weights), {"fails_without_file": str(weights)}),
    ):
        manifest(**options)  # the same file anew
        assert not bench.change("configure")
        assert bench.state() == "unconfigured"
        _wait_message(bench, text)
        _wait_health(bench, drawn, "ERROR planner: lifecycle", text)
    weights.touch()
    assert bench.change("configure")
    assert bench.change("activate")
    _wait_message(bench, "active")
    assert "path" not in {marker.ns for marker in drawn}


def test_bad_values_at_start(bench: Bench) -> None:
    """Four values of the wrong type or out of range: the node lives, one refusal names them all.

    Put right one by one, each refusal names the rest, and in the end it configures.
    """
    bad = {
        "tick_deadline_ms": ("soon", 150, "tick_deadline_ms is 'soon', wanted a number"),
        "frame_tolerance_ms": (5000.0, 50.0, "frame_tolerance_ms is 5000.0, wanted 1 to 100"),
        "path_frame": ("moon", "base", "path_frame is 'moon', wanted one of odometry, base"),
        "decode_threads": (0, 1, "decode_threads is 0, wanted 1 to 16"),
    }
    start = {name: value for name, (value, _, _) in bad.items()}
    planner = bench.start_planner(autostart=True, configure_odometry_wait_s=0.0, **start)
    remaining = {name: text for name, (_, _, text) in bad.items()}
    for name, (_, good, _) in bad.items():
        _wait_message(bench, *remaining.values())
        assert bench.set_parameter(name, good).successful
        del remaining[name]
        assert bench.change("configure") == (not remaining)
    assert planner.alive


def test_unusable_values(bench: Bench) -> None:
    """Values that only configure can judge: refused with what is wrong, until set right."""
    bench.start_planner(configure_odometry_wait_s=0.0, file_roots=["/nowhere"])
    topics = [f"/camera/{letter}" for letter in "abcd"]
    for name, bad, good, says in (
        ("camera_topics", ["/a"], topics, "camera_names has 4 entries, camera_topics 1"),
        ("odometry_topic", "/7 dwarfs", "/odom", "odometry_topic has '/7 dwarfs'"),
        ("model", "/nowhere/model.yaml", "kinematic", "/nowhere/model.yaml"),
        ("backend", "abacus", "", "no backend 'abacus'"),
    ):
        assert bench.set_parameter(name, bad).successful
        assert not bench.change("configure")
        _wait_message(bench, says)
        assert bench.set_parameter(name, good).successful
    assert bench.change("configure")


def test_options_of_a_model(bench: Bench, manifest: Callable[..., str]) -> None:
    """model_options: a malformed entry and an option that the model has not keep the node
    unconfigured and are named; so is a table of decisions; licence and note are told."""
    table = bench.folder / "table.yaml"
    table.write_text("lateral: [turn]")
    model = Path(manifest(note="weights are random"))
    bench.start_planner(
        configure_odometry_wait_s=0.0,
        model_options=["max_curvature_1pm"],
        file_roots=[str(bench.folder), str(model.parent)],
    )
    for name, value, says in (
        ("model_options", ["max_curvature_1pm"], "model_options has 'max_curvature_1pm': wanted"),
        ("model_options", ["speed=3"], "unknown option speed; known: "),
        ("model_options", ["max_curvature_1pm=-1"], "max_curvature_1pm is -1, wanted"),
        ("chain_of_causation", str(table), f"{table}: lateral wants a mapping"),
    ):
        assert bench.set_parameter(name, value).successful
        assert not bench.change("configure")
        _wait_message(bench, says)
        assert bench.set_parameter(name, type(value)()).successful
    model.write_text(model.read_text().replace("backend: test", "backend: kinematic"))
    assert bench.set_parameter("model", str(model)).successful
    assert bench.set_parameter("model_options", ["max_curvature_1pm=0.1"]).successful
    assert bench.change("configure")
    introduction = "model test_model, licence Apache-2.0; note: weights are random"
    assert introduction in bench.processes[0].output
    entry = bench.wait(lambda: bench.diagnostic(": model"), 5.0, "the model in /diagnostics")
    assert entry.message == introduction


def test_whole_numbers_do_for_decimals(bench: Bench) -> None:
    """`50` for `50.0`, and for each of a list, as people write them: taken."""
    bench.start_planner(
        tick_deadline_ms=200, camera_stamp_offsets_ms=[0], configure_odometry_wait_s=0
    )
    assert bench.change("configure")


def test_bad_value_while_running_is_refused(bench: Bench) -> None:
    """Setting a bad value is refused with the reason, and the old value stays in force."""
    bench.start_planner(configure_odometry_wait_s=0.0)
    for name, value, says in (
        ("path_frame", "moon", "wanted one of odometry, base"),
        ("frame_tolerance_ms", 5000.0, "out of range"),
        ("camera_names", [1, 2], "camera_names is [1, 2], wanted a list of strings"),
        ("model", "/etc/model.yaml", "model names /etc/model.yaml, which is not below"),
        ("model_options", ["checkpoint=/etc"], "model_options names /etc, which is not below"),
        ("file_roots", ["/"], "file_roots is set when the node starts"),
    ):
        refused = bench.set_parameter(name, value)
        assert not refused.successful
        assert says in refused.reason
    assert bench.change("configure")


def test_restart_from_active(bench: Bench) -> None:
    """Deactivate, cleanup, configure, activate: nothing is published between, plans come after.

    RViz shows no plan between, and the node's health all the while.
    """
    drawn = bench.hear_markers()
    bench.start_planner(autostart=True)
    drive = Drive(bench.node)
    bench.wait(lambda: drive.connected, START_S, "subscriptions")
    drive.start()
    bench.wait_plans(2)
    bench.wait(lambda: any(m.ns == "path" for m in drawn), 5.0, "a ribbon")
    assert bench.change("deactivate")
    published = len(bench.paths)
    bench.watch(0.5)
    assert len(bench.paths) == published
    assert any(m.ns == "path" and m.action == Marker.DELETE for m in drawn)
    assert Marker.DELETEALL not in {m.action for m in drawn}
    assert {m.action for m in drawn if m.ns == "diagnostics"} == {Marker.ADD}
    assert bench.change("cleanup")
    _wait_health(bench, drawn, "OK planner: lifecycle", "unconfigured")
    assert bench.change("configure")
    assert bench.change("activate")
    bench.wait_plans(2)


def _wait_health(bench: Bench, drawn: list[Marker], first: str, message: str) -> None:
    """Until the newest health in ~/markers has this first line, and this in its message."""

    def says_so() -> bool:
        texts = [marker.text for marker in drawn if marker.ns == "diagnostics"]
        lines = texts[-1].split("\n") if texts else []
        return lines[:1] == [first] and message in " ".join(lines[1:])

    bench.wait(says_so, 5.0, f"{first}: {message} in ~/markers")


def _wait_message(bench: Bench, *texts: str) -> None:
    """Until the node's entry in /diagnostics has all of these texts."""

    def says_all() -> bool:
        status = bench.diagnostic("lifecycle")
        return status is not None and all(text in status.message for text in texts)

    bench.wait(says_all, 5.0, f"{texts} in /diagnostics")

"""Player, planner and recorder as real processes, on a generated and on a real recording."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drive import nanoseconds
from harness import START_S, Bench
from numpy.typing import NDArray

from alpamayo_ros.bags.reader import BagReader
from alpamayo_ros.cli import main
from alpamayo_ros.types import NS_PER_S

TICK_NS = 100_000_000
STALLED_TICKS = 3
RATE = 0.5  # that a machine with twice as much to do keeps up with
PATIENCE = 8.0  # the player's time waits where the machine stalls
FIRST_T0_S = 1.6  # 1.5 s of odometry before it, from the first tick after that
OUTPUTS = ("path", "trajectory", "candidates", "reasoning", "reasoning_trace", "status")


@dataclass
class Replay:
    """The beginning of a recording, and what a planner made of it."""

    bag: Path
    seconds: float
    start_ns: int = 0
    image_stamps_ns: set[int] = field(default_factory=set)
    odometry: list[tuple[int, float, float]] = field(default_factory=list)  # stamp, x, y
    frame_id: str = ""
    published: dict[str, list[Any]] = field(default_factory=dict)

    def position_at(self, stamp_ns: int) -> NDArray[np.float64]:
        """x, y of the vehicle by the recording's odometry."""
        stamps = [stamp for stamp, _, _ in self.odometry]
        i = min(max(bisect_left(stamps, stamp_ns), 1), len(stamps) - 1)
        (t0, x0, y0), (t1, x1, y1) = self.odometry[i - 1], self.odometry[i]
        part = (stamp_ns - t0) / (t1 - t0)
        return np.array([x0 + part * (x1 - x0), y0 + part * (y1 - y0)])

    def read(self, recorded: Path) -> None:
        """Fill in the rest."""
        with BagReader(self.bag) as bag:
            self.start_ns = bag.start_ns
            end_ns = bag.start_ns + round(self.seconds * NS_PER_S)
            for topic, log_ns, message in bag.messages():
                if log_ns > end_ns:
                    break
                if topic == "/odom":
                    position = message.pose.pose.position
                    stamp_ns = nanoseconds(message.header.stamp)
                    self.odometry.append((stamp_ns, position.x, position.y))
                    self.frame_id = message.header.frame_id
                elif topic.endswith("/compressed"):
                    self.image_stamps_ns.add(nanoseconds(message.header.stamp))
        with BagReader(recorded) as bag:
            for name in OUTPUTS:
                topic = f"/planner/{name}"
                self.published[name] = [m for _, _, m in bag.messages([topic])]


@pytest.fixture(scope="module", params=["generated", "kitti06"])
def replay(request: pytest.FixtureRequest) -> Iterator[Replay]:
    """Plays a recording's images through a real planner, once for all tests of this module."""
    if request.param == "generated":
        replay = Replay(request.getfixturevalue("generated_bag"), 5.0)
    else:
        replay = Replay(request.getfixturevalue("kitti06"), 5.2)
    with Bench() as bench:
        out = bench.folder / "plans"
        bench.start("planner_node", autostart=True, use_sim_time=True)
        recorder = bench.start("recorder_node", bag=str(out), use_sim_time=True)
        bench.wait(lambda: bench.node.count_subscribers("/planner/path") >= 2, START_S, "recorder")
        player = bench.start(
            "player_node", bag=str(replay.bag), seconds=replay.seconds, rate=RATE,
            wait_for_subscribers_s=10.0,
        )  # fmt: skip
        bench.wait(lambda: not player.alive, START_S + PATIENCE * replay.seconds, "its end")
        assert player.process.returncode == 0
        assert recorder.stop() == 0
        replay.read(out)
    yield replay


def test_counts(replay: Replay) -> None:
    """One plan a tick from 1.6 s to the last image, give or take one, on every topic alike.

    Once the history has filled, no tick is refused, but for a stall of a busy machine.
    """
    first_ns = min(replay.image_stamps_ns)
    last_ns = max(replay.image_stamps_ns)
    expected = (last_ns - first_ns - round(FIRST_T0_S * NS_PER_S)) // TICK_NS + 1
    paths = replay.published["path"]
    assert abs(len(paths) + len(_refused(replay)) - expected) <= 2
    for name in ("trajectory", "candidates", "reasoning", "reasoning_trace"):
        assert len(replay.published[name]) == len(paths), name
    assert len([status for status in replay.published["status"] if not status.reason]) == len(paths)
    late = _refused(replay)
    assert len(late) <= STALLED_TICKS, [(s.reason, s.source, s.detail) for s in late]


def _refused(replay: Replay) -> list[Any]:
    """Statuses of ticks refused after the first plan and before the end of the images."""
    first_t0_ns = nanoseconds(replay.published["path"][0].header.stamp)
    last_ns = max(replay.image_stamps_ns)
    return [
        status
        for status in replay.published["status"]
        if status.reason and first_t0_ns < nanoseconds(status.due) <= last_ns
    ]


def test_stamps(replay: Replay) -> None:
    """A path is stamped t0, which is an image's stamp; pose k at t0 + (k + 1) * 0.1 s."""
    stamps = [nanoseconds(path.header.stamp) for path in replay.published["path"]]
    assert stamps == sorted(set(stamps))
    assert set(stamps) <= replay.image_stamps_ns
    assert stamps == [nanoseconds(t.header.stamp) for t in replay.published["trajectory"]]
    for path in replay.published["path"]:
        t0_ns = nanoseconds(path.header.stamp)
        wanted = [t0_ns + (k + 1) * TICK_NS for k in range(64)]
        assert [nanoseconds(pose.header.stamp) for pose in path.poses] == wanted
    for trajectory in replay.published["trajectory"]:
        times = [nanoseconds(point.time_from_start) for point in trajectory.points]
        assert times == [k * TICK_NS for k in range(65)]


def test_frames_and_sizes(replay: Replay) -> None:
    """Paths are in the odometry's frame with 64 poses, trajectories of base_link with 65 points."""
    for path in replay.published["path"]:
        assert path.header.frame_id == replay.frame_id
        assert {pose.header.frame_id for pose in path.poses} == {replay.frame_id}
        assert len(path.poses) == 64
    sequences = []
    for trajectory in replay.published["trajectory"]:
        assert trajectory.header.frame_id == replay.frame_id
        assert trajectory.rig_frame_id == "base_link"
        assert len(trajectory.points) == 65
        sequences.append(trajectory.sequence)
    assert sequences == list(range(sequences[0], sequences[0] + len(sequences)))


def test_paths_start_at_the_vehicle(replay: Replay) -> None:
    """A trajectory's first point is where the vehicle was at t0, within 1 cm."""
    for trajectory in replay.published["trajectory"]:
        first = trajectory.points[0].pose.position
        was = replay.position_at(nanoseconds(trajectory.header.stamp))
        assert np.hypot(*(was - [first.x, first.y])) < 0.01


def test_paths_are_what_the_vehicle_did(replay: Replay) -> None:
    """Over the next 1 s the median path is within 15 cm of what the vehicle then drove, in odom."""
    errors = []
    last_ns = replay.odometry[-1][0]
    for path in replay.published["path"]:
        t0_ns = nanoseconds(path.header.stamp)
        if t0_ns + 10 * TICK_NS > last_ns:
            continue
        planned = np.array([(p.pose.position.x, p.pose.position.y) for p in path.poses[:10]])
        drove = np.array([replay.position_at(t0_ns + (k + 1) * TICK_NS) for k in range(10)])
        errors.append(float(np.linalg.norm(planned - drove, axis=1).mean()))
    assert len(errors) > 20
    assert np.median(errors) < 0.15


def test_replay_without_ros_plans_the_same(replay: Replay, tmp_path: Path) -> None:
    """`alpamayo replay` of the recording gives the node's paths, number for number, at each t0."""
    assert main(["replay", str(replay.bag), "--out", str(tmp_path), "--model", "kinematic"]) == 0
    with BagReader(tmp_path / "plans.mcap") as bag:
        offline = {
            nanoseconds(path.header.stamp): _numbers(path)
            for _, _, path in bag.messages(["/planner/path"])
        }
    live = {nanoseconds(p.header.stamp): _numbers(p) for p in replay.published["path"]}
    assert len(live.keys() & offline.keys()) >= len(live) - STALLED_TICKS
    for t0_ns in live.keys() & offline.keys():
        np.testing.assert_allclose(live[t0_ns], offline[t0_ns], rtol=0, atol=1e-9)


def _numbers(path: Any) -> list[tuple[float, ...]]:
    """Positions and orientations of a path."""
    return [
        (p.position.x, p.position.y, p.position.z)
        + (p.orientation.x, p.orientation.y, p.orientation.z, p.orientation.w)
        for p in (stamped.pose for stamped in path.poses)
    ]


def test_looping_recording(bench: Bench, generated_bag: Path) -> None:
    """A recording that begins again: the planner says so once, and plans in both rounds."""
    planner = bench.start("planner_node", autostart=True, use_sim_time=True)
    bench.start(
        "player_node", bag=str(generated_bag), seconds=2.4, loop=True, wait_for_subscribers_s=10.0
    )

    def stamps() -> list[int]:
        return [nanoseconds(path.header.stamp) for path in bench.paths]

    bench.wait(lambda: any(b < a for a, b in zip(stamps(), stamps()[1:])), START_S, "a loop")
    bench.wait_plans(3)
    assert planner.alive
    assert [s.reason for s in bench.statuses].count("clock_jump") <= 2


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"bag": "/nowhere/drive"}, "/nowhere/drive does not exist"),
        ({"rate": 0}, "rate"),
        ({"topics": ["/lidar"]}, "/lidar"),
    ],
)
def test_player_says_what_is_wrong(
    bench: Bench, generated_bag: Path, parameters: dict[str, Any], says: str
) -> None:
    """A missing bag, a rate of 0, a topic the bag lacks: exit code 1, the reason, no traceback."""
    player = bench.start("player_node", **{"bag": str(generated_bag), **parameters})
    bench.wait(lambda: not player.alive, START_S, "end")
    assert player.process.returncode == 1
    assert says in player.output
    assert "Traceback" not in player.output


def test_recorder_keeps_what_is_there(bench: Bench, generated_bag: Path) -> None:
    """A folder that exists is not overwritten: exit code 1, the reason, no traceback."""
    recorder = bench.start("recorder_node", bag=str(generated_bag))
    bench.wait(lambda: not recorder.alive, START_S, "end")
    assert recorder.process.returncode == 1
    assert "exists" in recorder.output
    assert "Traceback" not in recorder.output

"""Recordings whose stamps keep to another clock than the times at which they were recorded."""

from __future__ import annotations

from pathlib import Path

import pytest

from alpamayo_ros.bags.context import read_context
from alpamayo_ros.bags.inputs import guess_inputs
from alpamayo_ros.bags.moments import Moments
from alpamayo_ros.bags.reader import BagReader
from alpamayo_ros.bags.shown import ShownPlans
from alpamayo_ros.bags.ticks import Ticks
from alpamayo_ros.bags.writer import BagWriter
from alpamayo_ros.errors import BagError
from alpamayo_ros.odometry import stamp_ns
from alpamayo_ros.parameters import PlannerSettings, settings_from
from alpamayo_ros.sampling import Selection
from alpamayo_ros.world.record import RecordOptions, record

SETTINGS = settings_from({})


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four seconds with small pictures."""
    path = tmp_path_factory.mktemp("clock") / "drive"
    record(path, RecordOptions(seconds=4.0, seed=5, width_px=144, height_px=80))
    return path


def shifted(source: Path, target: Path, shift_ns: int) -> Path:
    """The same drive, its images' and odometry's stamps moved, its log times as they were."""
    with BagReader(source) as bag, BagWriter(target) as writer:
        for topic, info in bag.topics.items():
            writer.add_topic(topic, info.type, latched=info.latched)
        for topic, log_ns, message in bag.messages():
            if hasattr(message, "header"):
                stamp = message.header.stamp
                stamp.sec, stamp.nanosec = divmod(stamp_ns(stamp) + shift_ns, 10**9)
            writer.write(topic, log_ns, message)
    return target


def instants(path: Path, settings: PlannerSettings = SETTINGS) -> tuple[list[int], list[str]]:
    """Every t0 that can be planned, and what the reader warns of."""
    with BagReader(path) as bag:
        ticks = Ticks(bag, settings, read_context(bag, settings)).all()
        return [t.t0_ns for t in ticks if isinstance(t, Selection)], bag.warnings


@pytest.mark.parametrize("seconds", [-0.4, -3600.0, 37.0])
def test_the_stamps_have_the_word(drive: Path, tmp_path: Path, seconds: float) -> None:
    """Late all along, played an hour later and recorded again, and TAI beside UTC."""
    whole, warnings = instants(drive)
    assert len(whole) > 20 and not warnings
    shift_ns = round(seconds * 1e9)
    found, warnings = instants(shifted(drive, tmp_path / "moved", shift_ns))
    assert found == [t0 + shift_ns for t0 in whole]
    way = "behind" if seconds < 0 else "ahead of"
    assert len(warnings) == 1 and f"{way} the times at which they were recorded" in warnings[0]


def test_stamps_from_zero_are_shown_and_planned(drive: Path, tmp_path: Path) -> None:
    """As converted videos have them: zero is a stamp like any other."""
    with BagReader(drive) as bag:
        messages = bag.messages([camera.topic for camera in SETTINGS.cameras])
        first_ns = min(stamp_ns(message.header.stamp) for _, _, message in messages)
    moved = shifted(drive, tmp_path / "zero", -first_ns)
    assert instants(moved)[0] == [t0 - first_ns for t0 in instants(drive)[0]]
    with BagReader(moved) as bag:
        shown = Moments(bag, SETTINGS, read_context(bag, SETTINGS), ShownPlans([], []))
        times = [moment.time_s for moment in shown.all(lambda camera: (36, 20))]
    assert times[0] == 0.0 and all(b > a for a, b in zip(times, times[1:])) and times[-1] > 3.5


def test_what_was_named_is_not_guessed(drive: Path) -> None:
    """A configured camera keeps its offset and calibration topic; a named topic that is not there
    is an error, not another topic."""
    values = {"camera_names": ["front_wide"], "camera_stamp_offsets_ms": [5.0],
              "camera_topics": ["/camera/front_wide/image/compressed"],
              "camera_info_topics": ["/camera/front_wide/camera_info"]}  # fmt: skip
    settings = settings_from(values)
    typo = settings_from({**values, "camera_topics": ["/typo"], "camera_info_topics": []})
    with BagReader(drive) as bag:
        front = guess_inputs(bag, settings).cameras[0]
        assert (front.stamp_offset_ns, front.info_topic) == (5_000_000, values[
            "camera_info_topics"][0])  # fmt: skip
        assert len(guess_inputs(bag, settings, cameras_given=True).cameras) == 1
        with pytest.raises(BagError, match="/typo"):
            guess_inputs(bag, typo, cameras_given=True)
        assert guess_inputs(bag, typo).cameras[0].topic == front.topic

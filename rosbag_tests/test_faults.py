"""Every fault of a sensor or a clock: one good recording, one fault, the declared behaviour.

All times are the bag's. What is declared stands in alpamayo_ros/safety/faults.py.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from spoil import CAMERA, ODOMETRY, Entry, Recording, Spoil, Told, grey, ms, planned, spoilt

from alpamayo_ros.bags.reader import BagReader
from alpamayo_ros.diagnosis import Level
from alpamayo_ros.odometry import stamp_ns
from alpamayo_ros.safety.faults import BEHAVIOUR, Fault

LENGTH_S = 5.4
FAULT_S, GONE_S = 2.4, 3.0
GAP_NS = ms(210)  # between stops at 10 Hz, asked for with every message of the bag
F = Fault


@pytest.fixture(scope="session")
def good(generated_bag: Path) -> Recording:
    """The drive that every test spoils."""
    return Recording(generated_bag, LENGTH_S)


# ---- ways to spoil a message -----------------------------------------------------------------


def drop(entry: Entry) -> Iterable[Entry]:
    return ()


def late(entry: Entry) -> Iterable[Entry]:
    return (Entry(entry.topic, entry.log_ns + ms(500), entry.message),)


def ahead(entry: Entry) -> Iterable[Entry]:
    return (entry.stamped(entry.stamp_ns + ms(700)),)


def skewed(entry: Entry) -> Iterable[Entry]:
    """Later than its tolerance allows beside the others, and yet near its grid time."""
    return (entry.stamped(entry.stamp_ns + ms(45)),)


def twice(entry: Entry) -> Iterable[Entry]:
    return (entry, Entry(entry.topic, entry.log_ns + ms(1), entry.message))


def with_data(data: np.ndarray) -> Spoil:
    def spoil(entry: Entry) -> Iterable[Entry]:
        changed = copy.deepcopy(entry.message)
        changed.data = data
        return (Entry(entry.topic, entry.log_ns, changed),)

    return spoil


def cut_short(entry: Entry) -> Iterable[Entry]:
    return with_data(entry.message.data[: len(entry.message.data) // 2])(entry)


def unknown_format(entry: Entry) -> Iterable[Entry]:
    """Bytes of no picture format that there is."""
    return with_data(np.arange(256, dtype=np.uint8))(entry)


def reordered(entry: Entry) -> Iterable[Entry]:
    """Every other frame comes after its successor."""
    odd = entry.stamp_ns // ms(100) % 2
    return (Entry(entry.topic, entry.log_ns + ms(110) * odd, entry.message),)


def another_size(entry: Entry) -> Iterable[Entry]:
    """The same picture, half as high and twice as wide."""
    image = cv2.imdecode(entry.message.data, cv2.IMREAD_COLOR)
    other = cv2.resize(image, (2 * image.shape[1], image.shape[0] // 2))
    return with_data(cv2.imencode(".jpg", other)[1].ravel())(entry)


def frozen(recording: Recording, first_ns: int) -> Spoil:
    """The last good picture with fresh stamps."""
    still = [e for e in recording.entries if e.topic == CAMERA and e.stamp_ns < first_ns][-1]
    return with_data(still.message.data)


def same_stamp(recording: Recording, first_ns: int) -> Spoil:
    stamp = recording.last_good_ns(CAMERA, first_ns)
    return lambda entry: (entry.stamped(stamp),)


def pose(**changes: float) -> Spoil:
    """Odometry whose position or orientation is changed: `dx` is added, the rest is set."""

    def spoil(entry: Entry) -> Iterable[Entry]:
        changed = copy.deepcopy(entry.message)
        inner = changed.pose.pose
        inner.position.x = changes.get("x", inner.position.x + changes.get("dx", 0.0))
        inner.orientation.w = changes.get("w", inner.orientation.w)
        return (Entry(entry.topic, entry.log_ns, changed),)

    return spoil


def stuck(recording: Recording, first_ns: int) -> Spoil:
    still = [e for e in recording.entries if e.topic == ODOMETRY and e.stamp_ns < first_ns][-1]

    def spoil(entry: Entry) -> Iterable[Entry]:
        changed = copy.deepcopy(entry.message)
        changed.pose = still.message.pose
        return (Entry(entry.topic, entry.log_ns, changed),)

    return spoil


def seldom(entry: Entry) -> Iterable[Entry]:
    """5 Hz of 50."""
    return (entry,) if entry.stamp_ns // ms(20) % 10 == 0 else ()


def another_frame(entry: Entry) -> Iterable[Entry]:
    changed = copy.deepcopy(entry.message)
    changed.header.frame_id = "map"
    return (Entry(entry.topic, entry.log_ns, changed),)


# ---- what is declared ------------------------------------------------------------------------


def check(good: Recording, told: Told, fault: Fault, since_ns: int, last_good_ns: int) -> None:
    """Noticed in time, named on both topics; the stop at 10 Hz meanwhile; then plans again."""
    declared = BEHAVIOUR[fault]
    assert declared.within_ms is not None
    assert not [s.reason for at, s in told.refusals(good.at(2.2)) if at < since_ns]
    refused = told.refusals(since_ns)
    assert refused and (declared.says in refused[0][1].reason), refused[0][1].detail
    noticed_ns = refused[0][0]
    assert noticed_ns - last_good_ns <= ms(declared.within_ms)
    assert told.says(declared.entry, declared.level, declared.says, noticed_ns)
    assert told.says("safety", Level.ERROR, "stopping the vehicle", noticed_ns)
    # From then on to the first plan after it: stops, none missing, each slower than its start.
    again_ns = next(at for at, t in told.trajectories if at > noticed_ns and t.source == "planner")
    stops = [(at, t) for at, t in told.trajectories if noticed_ns <= at < again_ns]
    assert {t.source for _, t in stops} == {"fallback"} and len(stops) >= 3
    assert all(t.reason and t.points[-1].velocity_mps < t.points[0].velocity_mps for _, t in stops)
    times = [noticed_ns, *(at for at, _ in stops), again_ns]
    assert max(np.diff(times)) <= GAP_NS
    # Recovery: the planner's to the end, and nothing is said any more.
    assert set(told.sources(again_ns)) == {"planner"} and len(told.sources(again_ns)) >= 3
    assert told.diagnostics[-1][1].status[0].level == Level.OK.value


CASES: dict[Fault, tuple[set[str], Spoil | str]] = {
    F.CAMERA_LOST: ({CAMERA}, drop),
    F.CAMERA_FROZEN: ({CAMERA}, "frozen"),
    F.CAMERA_SAME_STAMP: ({CAMERA}, "same_stamp"),
    F.CAMERA_LATE: ({CAMERA}, late),
    F.CAMERA_EARLY: ({CAMERA}, ahead),
    F.CAMERA_WRONG_ENCODING: ({CAMERA}, unknown_format),
    F.CAMERA_CORRUPT: ({CAMERA}, cut_short),
    F.CAMERA_BLACK: ({CAMERA}, with_data(grey(0))),
    F.CAMERA_OVEREXPOSED: ({CAMERA}, with_data(grey(255))),
    F.ODOMETRY_LOST: ({ODOMETRY}, drop),
    F.ODOMETRY_NAN: ({ODOMETRY}, pose(x=float("nan"))),
    F.ODOMETRY_QUATERNION: ({ODOMETRY}, pose(w=3.0)),
    F.ODOMETRY_RATE: ({ODOMETRY}, seldom),
    F.ODOMETRY_STUCK: ({ODOMETRY}, "stuck"),
}


@pytest.mark.parametrize("fault", CASES, ids=lambda fault: fault.name.lower())
def test_a_fault_that_passes(good: Recording, tmp_path: Path, fault: Fault) -> None:
    """For 0.6 s one source is spoilt."""
    topics, way = CASES[fault]
    first_ns, last_ns = good.at(FAULT_S), good.at(GONE_S)
    makers = {"frozen": frozen, "same_stamp": same_stamp, "stuck": stuck}
    spoil = makers[way](good, first_ns) if isinstance(way, str) else way
    entries = spoilt(good, topics, first_ns, last_ns, spoil)
    told = planned(good, entries, tmp_path)
    check(good, told, fault, first_ns, good.last_good_ns(next(iter(topics)), first_ns))


def test_cameras_apart_in_time(good: Recording, tmp_path: Path) -> None:
    """One camera's stamps 45 ms after the others', where 30 ms are allowed."""
    first_ns = good.at(FAULT_S)
    entries = spoilt(good, {CAMERA}, first_ns, good.at(GONE_S), skewed)
    told = planned(good, entries, tmp_path, camera_skew_ms=30.0)
    check(good, told, F.CAMERA_SKEW, first_ns, good.last_good_ns(CAMERA, first_ns))


@pytest.mark.parametrize(
    ("fault", "spoil"),
    [(F.ODOMETRY_JUMP, pose(dx=40.0)), (F.ODOMETRY_FRAME_ID, another_frame)],
    ids=["odometry_jump", "odometry_frame_id"],
)
def test_odometry_goes_elsewhere(
    good: Recording, tmp_path: Path, fault: Fault, spoil: Spoil
) -> None:
    """For good: stops and then plans are in the new place, none in the old one."""
    first_ns = good.at(FAULT_S)
    told = planned(good, spoilt(good, {ODOMETRY}, first_ns, 2**62, spoil), tmp_path)
    check(good, told, fault, first_ns, good.last_good_ns(ODOMETRY, first_ns))
    refused_ns = told.refusals(first_ns)[0][0]
    if fault is F.ODOMETRY_FRAME_ID:
        assert {t.header.frame_id for at, t in told.trajectories if at > refused_ns} == {"map"}
    else:
        starts = [t.points[0].pose.position.x for _, t in told.trajectories]
        assert np.count_nonzero(np.abs(np.diff(starts)) > 20.0) == 1


def test_the_clock_jumps_ahead(good: Recording, tmp_path: Path) -> None:
    """By 5 s, with every stamp."""
    first_ns, by_ns = good.at(FAULT_S), ms(5_000)

    def later(entry: Entry) -> Iterable[Entry]:
        moved = entry.stamped(entry.stamp_ns + by_ns)
        return (Entry(moved.topic, moved.log_ns + by_ns, moved.message),)

    told = planned(good, spoilt(good, set(good.types), first_ns, 2**62, later), tmp_path)
    check(good, told, F.CLOCK_AHEAD, first_ns + by_ns, first_ns + by_ns)


def test_the_clock_is_set_back(good: Recording, tmp_path: Path) -> None:
    """By 2 s, with every stamp. A bag goes by its time, so that its reader sets the clock back."""
    first_ns, by_ns = good.at(FAULT_S), ms(2_000)

    class SetBack(BagReader):
        def messages(self, *args: Any, **options: Any) -> Iterator[tuple[str, int, Any]]:
            for topic, log_ns, message in super().messages(*args, **options):
                back = stamp_ns(message.header.stamp) < log_ns - ms(1_000)
                yield topic, log_ns - by_ns * back, message

    def earlier(entry: Entry) -> Iterable[Entry]:
        return (entry.stamped(entry.stamp_ns - by_ns),)

    entries = spoilt(good, set(good.types), first_ns, 2**62, earlier)
    told = planned(good, entries, tmp_path, reader=SetBack)
    declared = BEHAVIOUR[F.CLOCK_BACK]
    jump = next(k for k, (_, s) in enumerate(told.statuses) if s.reason == declared.says)
    noticed_ns = told.statuses[jump][0]
    assert noticed_ns - (first_ns - by_ns) <= ms(declared.within_ms or 0)
    # What was published since: of the new time alone, stops first and then plans.
    since = next(k for k, (at, _) in enumerate(told.trajectories[1:], 1)
                 if at < told.trajectories[k - 1][0])  # fmt: skip
    after = [t for _, t in told.trajectories[since:]]
    assert all(stamp_ns(t.header.stamp) < first_ns + ms(1_000) for t in after)
    sources = [t.source for t in after]
    plans = sources.index("planner")
    assert plans >= 10 and set(sources[:plans]) == {"fallback"}
    assert set(sources[plans:]) == {"planner"} and len(sources[plans:]) >= 3
    times = [noticed_ns, *(at for at, _ in told.trajectories[since:])]
    assert max(np.diff(times)) <= GAP_NS


def test_stamps_from_the_future(good: Recording, tmp_path: Path) -> None:
    """Every source is 700 ms ahead for a while: the ticks say so, not that all are missing."""
    first_ns, last_ns = good.at(FAULT_S), good.at(GONE_S)
    told = planned(good, spoilt(good, set(good.types), first_ns, last_ns, ahead), tmp_path)
    check(good, told, F.STAMPS_AHEAD, first_ns, good.last_good_ns(CAMERA, first_ns))


@pytest.mark.parametrize(
    ("fault", "spoil"),
    [
        (F.CAMERA_OUT_OF_ORDER, reordered),
        (F.CAMERA_DUPLICATED, twice),
        (F.CAMERA_WRONG_SIZE, another_size),
    ],
    ids=["camera_out_of_order", "camera_duplicated", "camera_wrong_size"],
)
def test_what_is_no_fault(good: Recording, tmp_path: Path, fault: Fault, spoil: Spoil) -> None:
    """Plans go on, tick by tick, and /diagnostics has what is declared."""
    first_ns, last_ns = good.at(FAULT_S), good.at(GONE_S)
    told = planned(good, spoilt(good, {CAMERA}, first_ns, last_ns, spoil), tmp_path)
    assert not told.refusals(good.at(1.6))
    assert set(told.sources(first_ns)) == {"planner"}
    declared = BEHAVIOUR[fault]
    entry = "front_tele" if declared.entry == "the camera" else declared.entry
    assert told.says(entry, declared.level, declared.says, first_ns)

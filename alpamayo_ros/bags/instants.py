"""One instant of a recording as a planner sees it."""

from __future__ import annotations

from pathlib import Path

from alpamayo_ros.backends.base import Resize
from alpamayo_ros.bags.context import read_context
from alpamayo_ros.bags.inputs import check_inputs
from alpamayo_ros.bags.reader import BagReader
from alpamayo_ros.bags.ticks import Ticks
from alpamayo_ros.errors import BagError
from alpamayo_ros.parameters import PlannerSettings
from alpamayo_ros.sampling import Selection, UnreadableFrame, materialise
from alpamayo_ros.types import NS_PER_S, PlannerSample, Rejection


def sample_at(
    path: Path, settings: PlannerSettings, at_s: float, resize: Resize | None = None
) -> PlannerSample:
    """The first sample whose t0 is `at_s` seconds or more behind the first camera frame's stamp.

    Goes through the node's own pipeline. Raises BagError: no such time, or why there is no sample
    then.
    """
    with BagReader(path) as bag:
        length_s = (bag.end_ns - bag.start_ns) / NS_PER_S
        if not 0.0 <= at_s <= length_s:
            raise BagError(f"{path} is {length_s:.1f} s long; there is no instant at {at_s:g} s")
        check_inputs(bag, settings)
        context = read_context(bag, settings)
        last: Rejection | None = None
        ticks = Ticks(bag, settings, context, resize)
        for tick in ticks.all():
            if isinstance(tick, Rejection):
                last = tick
                continue
            assert ticks.first_frame_ns is not None  # a sample has frames
            if tick.t0_ns >= ticks.first_frame_ns + round(at_s * NS_PER_S):
                return _sample(tick, path)
        raise BagError(f"{path} has no sample from {at_s:g} s on; the last reason: {last}")


def _sample(selection: Selection, path: Path) -> PlannerSample:
    try:
        return materialise(selection)
    except UnreadableFrame as error:
        raise BagError(f"{path}: a frame of {error.slot.camera}: {error.reason}") from error

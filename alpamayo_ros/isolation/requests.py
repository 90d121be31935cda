"""What the node's process says to the model's, and what comes back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from alpamayo_ros.isolation.channel import Message
from alpamayo_ros.isolation.codec import ArrayReader, pack, unpack
from alpamayo_ros.isolation.frames import SharedFrames
from alpamayo_ros.types import Answer, CameraFrame, LateReasoning, Plan, PlannerSample

LOAD, WARM_UP, FORGET, FORESEE, PLAN, ASK, REASON, STEP, DROP, CLOSE = (
    "load", "warm_up", "forget", "foresee", "plan", "ask", "reason", "step", "drop", "close",
)  # fmt: skip
FORESIGHT = "foresight"  # of the backend, in the reply to LOAD


def pack_sample(
    sample: PlannerSample, frames: SharedFrames, slot: int
) -> tuple[dict[str, Any], list[NDArray[Any]]]:
    """A sample's pixels into a slot, the rest as a header and arrays. Raises ModelError."""
    frames.write(slot, sample.images)
    arrays: list[NDArray[Any]] = []
    fields = {
        name: pack(getattr(sample, name), arrays)
        for name in sample.__dataclass_fields__
        if name != "images"
    }
    return {"slot": slot, "shape": list(sample.images.shape), "fields": fields}, arrays


def unpack_sample(told: Mapping[str, Any], arrays: ArrayReader, frames: SharedFrames) -> Any:
    """The sample again, its pixels a view of the slot."""
    images = frames.read(int(told["slot"]), tuple(told["shape"]))
    return unpack(PlannerSample, told["fields"], arrays, images=images)


def pack_frames(frames: Sequence[CameraFrame]) -> tuple[list[Any], list[NDArray[Any]]]:
    """Frames to come: they go over the socket, since a slot is a whole sample's."""
    arrays: list[NDArray[Any]] = []
    return [pack(frame, arrays) for frame in frames], arrays


def unpack_frames(told: Sequence[Any], arrays: ArrayReader) -> list[CameraFrame]:
    """The frames again. Raises ValueError where they are none."""
    return [unpack(CameraFrame, frame, arrays) for frame in told]


def pack_result(
    name: str, value: Plan | Answer | LateReasoning
) -> tuple[dict[str, Any], list[NDArray[Any]]]:
    """A plan, an answer or a reasoning as {name: …} and its arrays."""
    arrays: list[NDArray[Any]] = []
    return {name: pack(value, arrays)}, arrays


def plan_of(message: Message) -> Plan:
    """The plan of a reply. Raises ValueError where it is none."""
    return unpack(Plan, message.header["plan"], message.arrays)


def answer_of(message: Message) -> Answer:
    """The answer of a reply."""
    return unpack(Answer, message.header[ASK], message.arrays)


def reasoning_of(message: Message) -> LateReasoning:
    """The reasoning of a reply."""
    return unpack(LateReasoning, message.header[REASON], message.arrays)

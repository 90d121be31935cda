"""Recordings and what another process sends: a named refusal, or what is in them."""

from __future__ import annotations

import dataclasses
import json
import shutil
import socket
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fuzz import wild
from fuzz.budget import fuzzed
from hypothesis import strategies as st
from rosbags.rosbag2 import StoragePlugin, Writer

from alpamayo_ros.backends.registry import create_backend
from alpamayo_ros.bags.context import read_context
from alpamayo_ros.bags.inputs import check_inputs, guess_inputs
from alpamayo_ros.bags.reader import BagReader
from alpamayo_ros.bags.ticks import Ticks
from alpamayo_ros.bags.typestore import package_typestore
from alpamayo_ros.bags.writer import BagWriter
from alpamayo_ros.cameras.calibration import camera_model
from alpamayo_ros.errors import UserError
from alpamayo_ros.isolation.channel import Channel, ChannelClosed
from alpamayo_ros.isolation.codec import ArrayReader, pack, unpack
from alpamayo_ros.parameters import settings_from
from alpamayo_ros.sampling import Selection
from alpamayo_ros.types import Decisions, Plan, ReasoningSource
from alpamayo_ros.worker import run

T0 = 1_700_000_000_000_000_000
MS = 1_000_000
ODOMETRY = "nav_msgs/msg/Odometry"
IMAGE = "sensor_msgs/msg/Image"
INFO = "sensor_msgs/msg/CameraInfo"
CAMERA = "/camera/front_wide/image"
SETTINGS = settings_from({})
KINEMATIC = create_backend("kinematic")
KINEMATIC.load()


def _messages(make: Any) -> list[tuple[str, int, Any]]:
    """2.2 s of a drive: odometry at 20 Hz, one camera of 8 x 4 pixels at 10 Hz, its calibration."""
    drive: list[tuple[str, int, Any]] = []
    transform = make("geometry_msgs/msg/TransformStamped", child_frame_id="camera")
    transform.header.frame_id = "base_link"
    transform.transform.rotation.w = 1.0
    drive.append(("/tf_static", T0, make("tf2_msgs/msg/TFMessage", transforms=[transform])))
    for k in range(44):
        at_ns = T0 + k * 50 * MS
        stamp = make("builtin_interfaces/msg/Time", sec=at_ns // 10**9, nanosec=at_ns % 10**9)
        message = make(ODOMETRY, child_frame_id="base_link")
        message.header.stamp, message.header.frame_id = stamp, "odom"
        message.pose.pose.position.x, message.pose.pose.orientation.w = 0.5 * k, 1.0
        message.twist.twist.linear.x = 10.0
        drive.append(("/odom", at_ns, message))
        if k % 2 == 0:
            image = make(IMAGE, height=4, width=8, step=8, encoding="mono8", data=bytes(range(32)))
            image.header.stamp = stamp
            drive.append((CAMERA, at_ns + 1, image))
        if k == 0:
            info = make(INFO, height=4, width=8, distortion_model="plumb_bob", d=[0.1] * 5)
            info.header.frame_id = "camera"
            info.k[:] = [6.0, 0.0, 4.0, 0.0, 6.0, 2.0, 0.0, 0.0, 1.0]
            drive.append(("/camera/front_wide/camera_info", at_ns + 2, info))
    return drive


@pytest.fixture(scope="module")
def bags(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Good files by their names."""
    folder = tmp_path_factory.mktemp("bags")
    files: dict[str, bytes] = {}
    maker = BagWriter(folder / "unused")
    drive = _messages(maker.make)
    types = {topic: message.__msgtype__ for topic, _, message in drive}
    with BagWriter(folder / "mcap") as bag:
        for topic, kind in types.items():
            bag.add_topic(topic, kind)
        for topic, at_ns, message in drive:
            bag.write(topic, at_ns, message)
    store = package_typestore()
    with Writer(folder / "db3", version=8, storage_plugin=StoragePlugin.SQLITE3) as writer:
        topics = {t: writer.add_connection(t, kind, typestore=store) for t, kind in types.items()}
        for topic, at_ns, message in drive:
            writer.write(topics[topic], at_ns, store.serialize_cdr(message, types[topic]))
    for path in (*(folder / "mcap").iterdir(), *(folder / "db3").glob("*.db3")):
        files[path.name] = path.read_bytes()
    return files


def _planned(path: Path) -> int:
    """Plans on a recording; everything else that can be read of it is read too."""
    with BagReader(path) as bag:
        settings = guess_inputs(bag, SETTINGS)
        check_inputs(bag, settings)
        context = read_context(bag, settings)
        for calibration in context.calibrations.values():
            camera = camera_model(calibration, context.transforms)
            if camera is not None:
                assert camera.to_pixels(np.ones((2, 3))).shape == (2, 2)
        count = 0
        for tick in Ticks(bag, settings, context).all():
            if isinstance(tick, Selection):
                outcome = run(KINEMATIC, tick)
                assert (outcome.plan is None) != (outcome.rejection is None)
                if outcome.plan is not None:
                    assert np.isfinite(outcome.plan.xyz_in_rig_t0).all()
                    count += 1
        return count


@pytest.mark.parametrize("name", ["mcap.mcap", "db3.db3"])
def test_the_good_ones_are_planned_on(bags: dict[str, bytes], tmp_path: Path, name: str) -> None:
    """So that the damage below is the only thing wrong."""
    (tmp_path / name).write_bytes(bags[name])
    assert _planned(tmp_path / name) >= 5


@fuzzed(0.04, data=st.data(), name=st.sampled_from(["mcap.mcap", "db3.db3", "metadata.yaml"]))
def test_bags(
    bags: dict[str, bytes], tmp_path_factory: Any, data: st.DataObject, name: str
) -> None:
    """Plans on what can be read, or a UserError that names the file."""
    folder = tmp_path_factory.getbasetemp() / "damaged"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    good = bags[name]
    # Damage is drawn in a part of the file: over all of it pixels would get most.
    start = data.draw(
        st.sampled_from([0, len(good) // 4, len(good) // 2, max(len(good) - 2000, 0)])
    )
    piece = data.draw(wild.damaged(good[start : start + 2000]))
    (folder / name).write_bytes(good[:start] + piece + good[start + 2000 :])
    if name == "metadata.yaml":
        (folder / "mcap.mcap").write_bytes(bags["mcap.mcap"])
    try:
        _planned(folder if name == "metadata.yaml" else folder / name)
    except UserError as error:
        assert str(folder) in str(error) or "odometry" in str(error)


# ---- another process -------------------------------------------------------------------------

PLAN = Plan(
    t0_ns=1,
    xyz_in_rig_t0=np.zeros((64, 3)),
    rot_in_rig_t0=np.tile(np.eye(3), (64, 1, 1)),
    action=np.zeros((64, 2)),
    speed_t0_mps=1.0,
    candidates_xyz_in_rig_t0=np.zeros((1, 64, 3)),
    candidates_rot_in_rig_t0=np.zeros((1, 64, 3, 3)),
    reasoning="straight on",
    reasoning_source=ReasoningSource.MODEL,
    decisions=Decisions("none", "none"),
    model="kinematic",
)


def _sent(header: dict[str, Any], arrays: list[Any]) -> bytes:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        Channel(ours).send(header, arrays)
        return theirs.recv(1 << 20)


ARRAYS: list[Any] = []
HEADER = {"plan": pack(PLAN, ARRAYS)}
FRAME = _sent(HEADER, ARRAYS)


@fuzzed(0.03, sent=st.one_of(wild.damaged(FRAME[:1200]).map(lambda head: head + FRAME[1200:]),
                             st.binary(max_size=64)))  # fmt: skip
def test_the_channel(sent: bytes) -> None:
    """A message, or the end of the connection: never another error, and no waiting."""
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            theirs.sendall(sent)
        try:
            message = Channel(ours).receive(1.0)
        except ChannelClosed:
            return
    assert isinstance(message.header, dict)


@fuzzed(0.03, told=wild.mutated_tree(json.loads(json.dumps(HEADER["plan"]))))
def test_plans_of_another_process(told: Any) -> None:
    """A whole plan, or an error that becomes a refusal; `Plan` checks its own shapes."""
    body = b"".join(array.tobytes() for array in ARRAYS)
    try:
        plan = unpack(Plan, told, ArrayReader(body))
    except ValueError:
        return
    for entry in dataclasses.fields(plan):
        value = getattr(plan, entry.name)
        assert not isinstance(value, np.ndarray) or np.isfinite(value).all()


def test_lengths_are_checked_before_memory_is_taken() -> None:
    """4 GiB announced."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(struct.pack("<II", 2**32 - 1, 2**32 - 1))
        with pytest.raises(ChannelClosed, match="garbage"):
            Channel(ours).receive(1.0)

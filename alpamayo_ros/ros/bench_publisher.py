"""A process that publishes cameras and odometry: `main()` with a JSON object as its argument.

It publishes from the start on, says "matched" when every topic has a subscription, and obeys lines
on stdin: `pause`, `resume`, `cut CAMERA`, `quit` (or end of file). On `quit` it writes what it has
published to the file "log": for every source its [stamp_ns, steady_ns] pairs since the last
`resume`.
"""

from __future__ import annotations

import ctypes
import json
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rclpy
from nav_msgs.msg import Odometry
from rclpy.node import Node
from rclpy.serialization import serialize_message
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import CompressedImage, Image

from alpamayo_ros.bench.load import ODOMETRY, SPEED_MPS, Load, events, topic_of
from alpamayo_ros.types import NS_PER_S

JPEG_QUALITY = 90
DEPTH = 10

# Serialised: 4 bytes of encapsulation, then the header's stamp: int32 seconds, uint32 nanoseconds.
STAMP_OFFSET = 4

PICTURE_NS = NS_PER_S // 10


class Stamped:
    """A serialised message whose stamp is changed in place.

    A new bytes object a message would copy its 6 MB once more, on the machine that is measured.
    Nobody else holds these bytes, and rclpy copies them before `publish` returns.
    """

    def __init__(self, message: Any) -> None:
        self._payload = bytes(serialize_message(message))
        address = ctypes.cast(ctypes.c_char_p(self._payload), ctypes.c_void_p).value
        assert address is not None
        self._seconds = ctypes.c_int32.from_address(address + STAMP_OFFSET)
        self._nanoseconds = ctypes.c_uint32.from_address(address + STAMP_OFFSET + 4)

    def at(self, stamp_ns: int) -> bytes:
        """The payload, stamped; valid until the next call."""
        self._seconds.value, self._nanoseconds.value = divmod(stamp_ns, NS_PER_S)
        return self._payload


def picture(width: int, height: int, seed: int) -> np.ndarray:
    """(H, W, 3) with the detail of a street scene: JPEG takes about a fifth of a byte a pixel."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (height // 40 + 1, width // 40 + 1, 3), dtype=np.uint8)
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    noise = cv2.resize(
        random.integers(0, 24, (height // 2 + 1, width // 2 + 1, 3), dtype=np.uint8),
        (width, height),
        interpolation=cv2.INTER_LINEAR,
    )
    return cv2.add(smooth, noise)


def image_message(camera: str, kind: str, width: int, height: int, seed: int) -> Any:
    """An rgb8 Image or a JPEG CompressedImage."""
    pixels = picture(width, height, seed)
    if kind == "compressed":
        done, encoded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        assert done
        message: Any = CompressedImage(format="rgb8; jpeg compressed bgr8")
        message.data = encoded.tobytes()
    else:
        message = Image(height=height, width=width, encoding="rgb8", step=3 * width)
        message.data = pixels.tobytes()
    message.header.frame_id = camera
    return message


class Generator(Node):
    """The publishers. Nothing is subscribed to, so nothing needs to spin."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__("bench_generator")
        self._load = Load.from_json(config["load"])
        kind, width, height = config["kind"], config["width"], config["height"]
        kind_of = CompressedImage if kind == "compressed" else Image
        self._outputs: dict[str, Any] = {}
        self._payloads: dict[str, tuple[Stamped, Stamped]] = {}
        for index, camera in enumerate(self._load.cameras):
            self._outputs[camera] = self.create_publisher(kind_of, topic_of(camera, kind), DEPTH)
            first, second = (
                Stamped(image_message(camera, kind, width, height, seed))
                for seed in (index, index + len(self._load.cameras))
            )
            self._payloads[camera] = first, second
        self._odometry = Odometry(child_frame_id="base_link")
        self._odometry.header.frame_id = "odom"
        self._odometry.pose.pose.orientation.w = 1.0
        self._odometry.twist.twist.linear.x = SPEED_MPS
        self._outputs[ODOMETRY] = self.create_publisher(Odometry, "/odom", 100)
        self.quit = threading.Event()
        self._commands: list[str] = []
        self._cut: set[str] = set()
        self._paused = False
        self.published: dict[str, list[tuple[int, int]]] = {name: [] for name in self._outputs}

    def obey(self) -> None:
        """Read commands until end of file."""
        for line in sys.stdin:
            self._commands.append(line.strip())
            if line.strip() == "quit":
                break
        self.quit.set()

    def run(self) -> None:
        """Publish on schedule until told to quit."""
        matched = False
        # Stamps are of the system's clock, which is ROS time here; waiting is steady.
        start_steady_ns = time.monotonic_ns()
        start_stamp_ns = time.time_ns()
        for event in events(self._load):
            wait_ns = start_steady_ns + event.publish_ns - time.monotonic_ns()
            if wait_ns > 0 and self.quit.wait(wait_ns * 1e-9) or self.quit.is_set():
                return
            self._do_commands()
            if not self._paused and event.source not in self._cut:
                self._publish(event.source, start_stamp_ns + event.stamp_ns, event.stamp_ns)
            if not matched and all(p.get_subscription_count() for p in self._outputs.values()):
                matched = True
                say(event="matched")

    def _publish(self, source: str, stamp_ns: int, since_start_ns: int) -> None:
        self.published[source].append((stamp_ns, time.monotonic_ns()))
        if source != ODOMETRY:
            # Another picture each 0.1 s: of the same one the planner would say that it is frozen.
            payload = self._payloads[source][stamp_ns // PICTURE_NS % 2]
            self._outputs[source].publish(payload.at(stamp_ns))
            return
        stamp = self._odometry.header.stamp
        stamp.sec, stamp.nanosec = divmod(stamp_ns, NS_PER_S)
        self._odometry.pose.pose.position.x = SPEED_MPS * since_start_ns * 1e-9
        self._outputs[source].publish(self._odometry)

    def _do_commands(self) -> None:
        while self._commands:
            command, _, argument = self._commands.pop(0).partition(" ")
            if command == "pause":
                self._paused = True
            elif command == "resume":
                for pairs in self.published.values():
                    pairs.clear()
                self._paused = False
            elif command == "cut":
                self._cut.add(argument)
            say(event=command, steady_ns=time.monotonic_ns())


def say(**event: Any) -> None:
    """One JSON line on stdout."""
    print(json.dumps(event), flush=True)


def main() -> int:
    """Publish until told to quit."""
    config = json.loads(sys.argv[1])
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    generator = Generator(config)
    # Ended by default, it would leave its shared memory behind.
    signal.signal(signal.SIGTERM, lambda number, frame: generator.quit.set())
    threading.Thread(target=generator.obey, name="obey", daemon=True).start()
    generator.run()
    Path(config["log"]).write_text(json.dumps(generator.published))
    say(event="quit")
    generator.destroy_node()
    rclpy.try_shutdown()
    return 0

"""What world_node publishes: four cameras from a rendering thread, odometry, TF."""

from __future__ import annotations

import queue
import threading
import traceback
from array import array
from typing import Any

import numpy as np
from nav_msgs.msg import Odometry
from numpy.typing import NDArray
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from tf2_msgs.msg import TFMessage

from alpamayo_ros.errors import UserError
from alpamayo_ros.ros import topics
from alpamayo_ros.ros.convert import make
from alpamayo_ros.world.messages import WorldMessages
from alpamayo_ros.world.record import encode_jpeg
from alpamayo_ros.world.rig import Rig
from alpamayo_ros.world.scenario import Scenario
from alpamayo_ros.world.scene import Actor
from alpamayo_ros.world.sensors import EPOCH_NS
from alpamayo_ros.world.simulation import Simulation
from alpamayo_ros.world.vehicle import EgoState

TRANSPORTS = ("compressed", "raw")
Snapshot = tuple[EgoState, list[Actor], int]


class WorldOutputs:
    """`publish_…` from the stepping thread; images follow when they are drawn."""

    def __init__(self, node: Node, scenario: Scenario, rig: Rig, transport: str) -> None:
        if transport not in TRANSPORTS:
            choices = " or ".join(TRANSPORTS)
            raise UserError(f"parameter image_transport is {transport!r}, wanted {choices}")
        self._node, self._scenario, self._rig = node, scenario, rig
        self._compressed = transport == "compressed"
        self._messages = WorldMessages(make, rig, EPOCH_NS)
        qos, kind = topics.reliable_qos(), CompressedImage if self._compressed else Image
        ending = "/image/compressed" if self._compressed else "/image"
        self._images = {
            camera.name: node.create_publisher(kind, f"/camera/{camera.name}{ending}", qos)
            for camera in rig
        }
        self._infos = {
            name: node.create_publisher(CameraInfo, f"/camera/{name}/camera_info", qos)
            for name in self._images
        }
        self._odometry = node.create_publisher(Odometry, "/odom", qos)
        self._tf = node.create_publisher(TFMessage, "/tf", qos)
        self._static_tf = node.create_publisher(TFMessage, "/tf_static", topics.reliable_qos(True))
        self._static_tf.publish(self._messages.mountings())
        self._waiting: queue.Queue[Snapshot | None] = queue.Queue(maxsize=1)
        self._drawn = threading.Event()
        self._drawn.set()
        self._thread = threading.Thread(target=self._draw, name="render", daemon=True)
        self._first: Snapshot
        self._failure: UserError | None = None
        self._ready = threading.Event()

    def start(self, simulation: Simulation) -> None:
        """Open the renderer and draw once, which builds what is near. Raises UserError."""
        self._first = (simulation.ego, simulation.actors(), simulation.time_ns)
        self._thread.start()
        self._ready.wait()
        self._check()

    @property
    def connected(self) -> bool:
        """Whether somebody listens to every camera and to odometry."""
        wanted = [*self._images.values(), self._odometry]
        return all(publisher.get_subscription_count() for publisher in wanted)

    def publish_odometry(self, simulation: Simulation) -> None:
        """/odom and /tf of now."""
        odometry, transform = self._messages.odometry(simulation.time_ns, simulation.ego)
        self._odometry.publish(odometry)
        self._tf.publish(transform)

    def publish_cameras(self, simulation: Simulation) -> None:
        """Have the cameras drawn as of now, the last ones being through: see `wait_drawn`."""
        self._drawn.clear()
        self._waiting.put((simulation.ego, simulation.actors(), simulation.time_ns))

    def wait_drawn(self, timeout_s: float) -> bool:
        """Whether all images are out within `timeout_s`. Raises UserError where drawing failed."""
        drawn = self._drawn.wait(timeout_s)
        self._check()
        return drawn

    def close(self) -> None:
        """End the rendering thread."""
        if self._thread.is_alive():
            try:
                self._waiting.put(None, timeout=1.0)
            except queue.Full:
                return
            self._thread.join(2.0)

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _draw(self) -> None:
        # Panda3D belongs to the thread that opened it.
        from alpamayo_ros.world.views import WorldCameras

        try:
            with WorldCameras(self._scenario, self._rig) as cameras:
                cameras.images_of(*self._first)
                self._ready.set()
                while True:
                    snapshot = self._waiting.get()
                    if snapshot is None:
                        return
                    for name, image in cameras.images_of(*snapshot).items():
                        self._publish_image(name, image, snapshot[2])
                    self._drawn.set()
        except UserError as error:
            self._failure = error
        except Exception:
            self._failure = UserError(f"cameras cannot be drawn:\n{traceback.format_exc()}")
        finally:
            self._ready.set()
            self._drawn.set()

    def _publish_image(self, name: str, image: NDArray[np.uint8], time_ns: int) -> None:
        header = self._messages.camera_header(name, time_ns)
        self._infos[name].publish(self._messages.camera_info(name, header))
        if self._compressed:
            message: Any = self._messages.compressed(header, array("B", encode_jpeg(image)))
        else:
            height, width = image.shape[:2]
            message = Image(header=header, height=height, width=width, encoding="rgb8",
                            step=3 * width, data=array("B", image.tobytes()))  # fmt: skip
        self._images[name].publish(message)

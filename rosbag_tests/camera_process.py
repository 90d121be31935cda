"""One camera as a driver of its own: a picture at every 100 ms of /clock. Run as a script."""

from __future__ import annotations

import rclpy
from drive import N_PICTURES, STEP_NS, STEPS_A_FRAME, jpeg
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.time import Time
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import Header

from alpamayo_ros.ros import topics


class Camera(Node):
    """Parameter `topic`: where its pictures go."""

    def __init__(self) -> None:
        super().__init__("camera")
        topic = str(self.declare_parameter("topic", "").value)
        self._pictures = [jpeg(moved=k) for k in range(N_PICTURES)]
        self._publisher = self.create_publisher(CompressedImage, topic, topics.reliable_qos())
        # As many as a drive says at once when it starts, and then some.
        self.create_subscription(Clock, "/clock", self._on_clock, QoSProfile(depth=200))

    def _on_clock(self, message: Clock) -> None:
        step = Time.from_msg(message.clock).nanoseconds // STEP_NS
        if step % STEPS_A_FRAME == 0:
            picture = self._pictures[step // STEPS_A_FRAME % N_PICTURES]
            header = Header(stamp=message.clock)
            self._publisher.publish(CompressedImage(header=header, format="jpeg", data=picture))


if __name__ == "__main__":
    rclpy.init()
    try:
        rclpy.spin(Camera())
    except (KeyboardInterrupt, ExternalShutdownException):
        pass

"""Entities that end while the executor waits for them."""

from __future__ import annotations

import sys
import threading

from harness import Bench
from rclpy.node import Node
from std_msgs.msg import String

from alpamayo_ros.ros.executor import PlannerExecutor

ROUNDS = 600
SWITCH_S = 1e-6  # threads take turns so often that what is destroyed beside a wait hits one


def test_entities_end_between_waits(bench: Bench) -> None:
    """Publishers and subscriptions come and go beside a spinning executor: it goes on spinning."""
    node = Node("comes_and_goes", context=bench.context)
    executor = PlannerExecutor(context=bench.context)
    executor.add_node(node)
    ended, faults = threading.Event(), []

    def spin() -> None:
        try:
            while not ended.is_set():
                executor.spin_once(timeout_sec=0.05)
        except Exception as fault:
            faults.append(fault)
            ended.set()

    spinner = threading.Thread(target=spin)
    ticks: list[int] = []
    node.create_timer(0.001, lambda: ticks.append(1))
    before_s = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_S)
    spinner.start()
    try:
        for _ in range(ROUNDS):
            if ended.is_set():
                break
            publisher = node.create_publisher(String, "~/text", 1)
            heard = node.create_subscription(String, "~/text", lambda text: None, 1)
            publisher.publish(String(data="here"))
            executor.run_between(lambda: _end(node, publisher, heard))  # noqa: B023 (waited for)
    finally:
        sys.setswitchinterval(before_s)
        ended.set()
        spinner.join(10.0)
    assert not faults and not spinner.is_alive()
    assert ticks
    executor.shutdown()
    node.destroy_node()


def test_what_a_step_raises_is_raised_to_its_caller(bench: Bench) -> None:
    """From another thread too, and the executor spins on."""
    executor = PlannerExecutor(context=bench.context)
    caught: list[BaseException] = []

    def ask() -> None:
        try:
            executor.run_between(lambda: (_ for _ in ()).throw(ValueError("no such thing")))
        except ValueError as error:
            caught.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    while thread.is_alive():
        executor.spin_once(timeout_sec=0.05)
    assert [str(error) for error in caught] == ["no such thing"]
    executor.shutdown()


def _end(node: Node, publisher: object, heard: object) -> None:
    node.destroy_publisher(publisher)
    node.destroy_subscription(heard)

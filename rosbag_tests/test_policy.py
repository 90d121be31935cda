"""The declared interfaces, of which the SROS 2 policy is made, against the graph of real nodes."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path
from typing import Any

from harness import START_S, Bench

from alpamayo_ros import interface
from alpamayo_ros.interface import NodeInterface
from alpamayo_ros.parameters import settings_from
from alpamayo_ros.types import DEFAULT_CAMERAS


def seen(bench: Bench, node: str) -> NodeInterface:
    """A running node as the others see it."""
    ask: Any = bench.node

    def endpoints(pairs: list[tuple[str, list[str]]]) -> dict[str, str]:
        for name, kinds in pairs:
            assert len(kinds) == 1, f"{name} has types {kinds}"
        return {name: kinds[0] for name, kinds in pairs}

    return NodeInterface(
        node,
        publishes=endpoints(ask.get_publisher_names_and_types_by_node(node, "/")),
        subscribes=endpoints(ask.get_subscriber_names_and_types_by_node(node, "/")),
        serves=endpoints(ask.get_service_names_and_types_by_node(node, "/")),
        calls=endpoints(ask.get_client_names_and_types_by_node(node, "/")),
    )


def as_here(declared: NodeInterface) -> NodeInterface:
    """Humble's nodes have no service for type descriptions."""
    if importlib.util.find_spec("type_description_interfaces") is not None:
        return declared
    serves = {name: kind for name, kind in declared.serves.items()
              if not name.endswith("/get_type_description")}  # fmt: skip
    return dataclasses.replace(declared, serves=serves)


def wait_for(bench: Bench, declared: NodeInterface) -> None:
    """Until what is seen of the node is all that it declares, which discovery brings bit by bit;
    then that it is no more."""
    names = bench.node.get_node_names

    def complete() -> bool:
        if declared.name not in names():
            return False
        now = seen(bench, declared.name)
        return all(
            set(getattr(declared, part)) <= set(getattr(now, part))
            for part in ("publishes", "subscribes", "serves", "calls")
        )

    try:
        bench.wait(complete, START_S, f"the whole of {declared.name}")
    finally:
        if declared.name in names():
            assert seen(bench, declared.name) == declared


def test_planner_controller_and_world(bench: Bench) -> None:
    """As demo.launch.py starts them: names and types of every topic and service, node by node."""
    bench.start("planner_node", autostart=True, use_sim_time=True)
    bench.start("controller_node", use_sim_time=True)
    bench.start("world_node", seconds=600.0, wait_for_subscribers_s=600.0)
    bench.start("recorder_node", bag=str(bench.folder / "out"), use_sim_time=True)
    for declared in (
        interface.planner(settings_from({})),
        interface.controller(),
        interface.world(DEFAULT_CAMERAS),
        interface.recorder(),
    ):
        wait_for(bench, as_here(declared))


def test_player(bench: Bench, generated_bag: Path) -> None:
    """A recording of a vehicle's inputs: nothing that is not declared, and the rest exactly."""
    bench.start("player_node", bag=str(generated_bag), rate=0.05)
    declared = as_here(interface.player())
    bench.wait(
        lambda: (
            "player" in bench.node.get_node_names()
            and "/odom" in seen(bench, "player").publishes
            and set(seen(bench, "player").serves) == set(declared.serves)
        ),
        START_S,
        "the player's topics",
    )
    now = seen(bench, "player")
    assert now.publishes.items() <= declared.publishes.items()
    assert (now.subscribes, now.serves, now.calls) == ({}, declared.serves, {})

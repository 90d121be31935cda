"""SROS 2 policies: what each node may do, and nothing else, as XML for `ros2 security`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from xml.etree import ElementTree

from alpamayo_ros import interface
from alpamayo_ros.interface import NodeInterface
from alpamayo_ros.parameters import PlannerSettings
from alpamayo_ros.types import DEFAULT_CAMERAS

VERSION = "0.2.0"  # of the policy's schema
ENCLAVES = "/alpamayo"
HEADER = """<?xml version="1.0" encoding="UTF-8"?>
<!-- Written by `alpamayo policy`; the same command with params and namespace writes your own. -->
"""


def nodes(settings: PlannerSettings, namespace: str = "/") -> list[NodeInterface]:
    """Every node that the launch files start; only the planner is set by parameters."""
    return [
        interface.planner(settings, namespace),
        interface.controller(),
        interface.world(DEFAULT_CAMERAS),
        interface.player(),
        interface.recorder(),
    ]


def policy_xml(interfaces: Sequence[NodeInterface]) -> str:
    """One enclave a node, in the order of names."""
    root = ElementTree.Element("policy", version=VERSION)
    enclaves = ElementTree.SubElement(root, "enclaves")
    for node in interfaces:
        enclave = ElementTree.SubElement(enclaves, "enclave", path=f"{ENCLAVES}/{node.name}")
        profiles = ElementTree.SubElement(enclave, "profiles")
        profile = ElementTree.SubElement(profiles, "profile", ns=node.namespace, node=node.name)
        for group, element, verb, names in (
            ("services", "service", "reply", node.serves),
            ("services", "service", "request", node.calls),
            ("topics", "topic", "publish", node.publishes),
            ("topics", "topic", "subscribe", node.subscribes),
        ):
            _allow(profile, group, element, verb, names)
    ElementTree.indent(root)
    return HEADER + ElementTree.tostring(root, encoding="unicode") + "\n"


def _allow(
    profile: ElementTree.Element, group: str, element: str, verb: str, names: Iterable[str]
) -> None:
    listed = sorted(names)
    if listed:
        allowed = ElementTree.SubElement(profile, group, {verb: "ALLOW"})
        for name in listed:
            ElementTree.SubElement(allowed, element).text = name

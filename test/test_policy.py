"""The SROS 2 policy: what is shipped is what the command writes, and names all it allows."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from alpamayo_ros import cli
from alpamayo_ros.interface import planner
from alpamayo_ros.parameters import settings_from
from alpamayo_ros.policy import nodes, policy_xml
from alpamayo_ros.resources import resource


def allowed(text: str, node: str) -> dict[str, set[str]]:
    """ "publish", "subscribe", "reply", "request" -> names, of one node."""
    root = ElementTree.fromstring(text)
    (profile,) = root.iterfind(f".//profile[@node='{node}']")
    verbs: dict[str, set[str]] = {}
    for group in profile:
        ((verb, permission),) = group.attrib.items()
        assert permission == "ALLOW"
        verbs[verb] = {str(entry.text) for entry in group}
    return verbs


def test_the_shipped_policy() -> None:
    """Is that of the default parameters."""
    shipped = resource("config", "sros2_policy.xml").read_text(encoding="utf-8")
    assert shipped == policy_xml(nodes(settings_from({})))
    assert "*" not in "".join(ElementTree.fromstring(shipped).itertext())


def test_least_privileges() -> None:
    """Only the controller commands the vehicle; only the planner publishes plans."""
    text = policy_xml(nodes(settings_from({})))
    by_node = {name: allowed(text, name)
               for name in ("planner", "controller", "world", "player", "recorder")}  # fmt: skip
    for topic, node in (("/controller/command", "controller"), ("/planner/trajectory", "planner")):
        assert [n for n, verbs in by_node.items() if topic in verbs["publish"]] == [node]
    assert not any("request" in verbs for verbs in by_node.values())
    assert "subscribe" not in by_node["player"]


def test_by_parameters(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Topics of one's own, a namespace, and raw images."""
    params = tmp_path / "p.yaml"
    params.write_text(
        "/**:\n  ros__parameters:\n    camera_names: [front_wide]\n"
        "    camera_topics: [/front/image]\n"
        "    odometry_topic: /localization\n"
    )
    assert cli.main(["policy", "--params", str(params), "--namespace", "/car1"]) == 0
    verbs = allowed(capsys.readouterr().out, "planner")
    assert verbs["subscribe"] == {
        "/front/image", "/localization", "/tf_static", "/car1/planner/navigation", "/clock",
        "/car1/planner/engaged",
    }  # fmt: skip
    assert "/car1/planner/path" in verbs["publish"]
    assert "/car1/planner/change_state" in verbs["reply"]
    assert cli.main(["policy", "--namespace", "car1"]) == 2
    assert cli.main(["policy", "--out", str(tmp_path / "none" / "p.xml")]) == 2


def test_types_of_cameras() -> None:
    """By the transport, else by the topic's name, as the node does."""
    settings = settings_from({
        "camera_names": ["front_wide", "cross_left", "cross_right"],
        "camera_topics": ["/a", "/b/compressed", "/c/compressed"],
        "image_transports": ["auto", "auto", "raw"],
    })  # fmt: skip
    kinds = planner(settings).subscribes
    assert [kinds[topic].rpartition("/")[2] for topic in ("/a", "/b/compressed", "/c/compressed")] \
        == ["Image", "CompressedImage", "Image"]  # fmt: skip

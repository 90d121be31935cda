"""The doctor's findings: nothing wrong with what is good, and each fault named with a remedy."""

from __future__ import annotations

import configparser
import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from alpamayo_ros import cli
from alpamayo_ros.doctor import environment, libraries, live
from alpamayo_ros.doctor.findings import Finding, Level, is_sound
from alpamayo_ros.doctor.live import CLOCK, COMPRESSED, IMAGE, ODOMETRY, Endpoint, Heard, Snapshot
from alpamayo_ros.doctor.model import check_model, needs_gpu
from alpamayo_ros.parameters import settings_from
from alpamayo_ros.processes import PROFILE_VARIABLES
from alpamayo_ros.resources import resource
from alpamayo_ros.ros import installation
from alpamayo_ros.types import NS_PER_MS

SETTINGS = settings_from({})
CAMERA = SETTINGS.cameras[0].topic
SETUP_CFG = Path(__file__).resolve().parent.parent / "setup.cfg"


def errors(findings: Any) -> list[Finding]:
    """Those at level error; every fault has a remedy."""
    found = list(findings)
    assert all(f.remedy for f in found if f.level in (Level.ERROR, Level.WARNING))
    return [f for f in found if f.level == Level.ERROR]


# ---- a running graph -------------------------------------------------------------------------


def stream(rate_hz: float, age_ms: float = 40.0, frame: str = "odom") -> Heard:
    """Three seconds of regular messages."""
    step = round(1e9 / rate_hz)
    arrivals = [k * step for k in range(int(3 * rate_hz))]
    age_ns = round(age_ms * NS_PER_MS)
    stamps = [arrival + 10**18 for arrival in arrivals]
    return Heard(arrivals, stamps, [age_ns] * len(arrivals), {frame})


def good() -> Snapshot:
    """An active planner with all that it wants."""
    cameras = [camera.topic for camera in SETTINGS.cameras]
    return Snapshot(
        planner="/planner",
        domain=7,
        seconds=3.0,
        nodes=("/driver", "/planner"),
        state="active",
        settings=SETTINGS,
        topics={**dict.fromkeys(cameras, (COMPRESSED,)), "/odom": (ODOMETRY,)},
        publishers={
            **{topic: [Endpoint("/driver", COMPRESSED)] for topic in cameras},
            "/odom": [Endpoint("/driver", ODOMETRY)],
        },
        subscribed={*cameras, "/odom"},
        listeners={"/planner/path": [Endpoint("/controller", "nav_msgs/msg/Path")]},
        heard={**{topic: stream(10.0) for topic in cameras}, "/odom": stream(50.0)},
        outcomes={"planned": 30},
    )


def test_a_good_graph_is_sound() -> None:
    """Every finding is ok, and each input has one."""
    found = list(live.findings(good()))
    assert {f.level for f in found} == {Level.OK}
    assert {"camera front_wide", "odometry", "node", "time", "plans"} <= {f.area for f in found}


def no_publisher(seen: Snapshot) -> None:
    seen.publishers[CAMERA] = []


def other_type(seen: Snapshot) -> None:
    seen.publishers[CAMERA] = [Endpoint("/driver", "std_msgs/msg/String")]


def qos_in(seen: Snapshot) -> None:
    seen.publishers["/odom"] = [Endpoint("/driver", ODOMETRY, "Best effort and reliable")]


def qos_out(seen: Snapshot) -> None:
    seen.listeners["/planner/path"] = [Endpoint("/rviz", "nav_msgs/msg/Path", "Volatile publisher")]


def not_subscribed(seen: Snapshot) -> None:
    seen.subscribed.remove(CAMERA)
    seen.publishers[CAMERA] = [Endpoint("/driver", IMAGE)]


def silent(seen: Snapshot) -> None:
    seen.heard[CAMERA] = Heard()


def other_clock(seen: Snapshot) -> None:
    seen.heard[CAMERA] = stream(10.0, age_ms=37_000.0)


def frozen_stamps(seen: Snapshot) -> None:
    seen.heard[CAMERA].stamps_ns[5] = seen.heard[CAMERA].stamps_ns[4]


def two_frames(seen: Snapshot) -> None:
    seen.heard["/odom"].frame_ids.add("map")


def inactive(seen: Snapshot) -> None:
    seen.state = "inactive"


def mute(seen: Snapshot) -> None:
    seen.state = ""


def no_clock(seen: Snapshot) -> None:
    seen.uses_sim_time = True


def unused_clock(seen: Snapshot) -> None:
    seen.topics = {**seen.topics, "/clock": (CLOCK,)}


def refusing(seen: Snapshot) -> None:
    seen.outcomes = {"camera_missing": 30}


def no_ticks(seen: Snapshot) -> None:
    seen.outcomes = {}


def complaining(seen: Snapshot) -> None:
    seen.complaints["model"] = "the model's process is being started anew"


def absent(seen: Snapshot) -> None:
    seen.nodes = ("/driver", "/planer")


def bad_parameters(seen: Snapshot) -> None:
    seen.settings, seen.settings_problem = None, "camera_names is empty"


@pytest.mark.parametrize(
    ("spoil", "area", "said"),
    [
        (no_publisher, "camera front_wide", f"nobody publishes {CAMERA}"),
        (other_type, "camera front_wide", "as std_msgs/msg/String, wanted"),
        (qos_in, "odometry", "do not match on /odom: Best effort"),
        (qos_out, "outputs", "/rviz hears nothing on /planner/path: Volatile"),
        (not_subscribed, "camera front_wide", f"does not subscribe to {CAMERA} as {IMAGE}"),
        (silent, "camera front_wide", "nothing came"),
        (other_clock, "camera front_wide", "37.0 s behind the clock"),
        (frozen_stamps, "camera front_wide", "do not rise"),
        (two_frames, "odometry", "in frames map, odom"),
        (inactive, "node", "/planner is inactive"),
        (mute, "node", "does not answer"),
        (no_clock, "time", "nobody publishes /clock"),
        (unused_clock, "time", "/clock is published"),
        (refusing, "plans", "camera_missing 30"),
        (no_ticks, "plans", "no tick"),
        (complaining, "diagnostics", "started anew"),
        (absent, "node", "no node /planner in domain 7; there are: /driver, /planer"),
        (bad_parameters, "parameters", "camera_names is empty"),
    ],
)
def test_each_fault_of_a_graph(spoil: Callable[[Snapshot], None], area: str, said: str) -> None:
    """Is an error of its area, and the only one."""
    seen = good()
    spoil(seen)
    (fault,) = errors(live.findings(seen))
    assert fault.area == area and said in fault.what


def test_odometry_without_a_twist_is_told_the_remedy() -> None:
    """Unless that is in force."""
    seen = good()
    seen.outcomes = {"odometry_inconsistent": 30}
    (fault,) = errors(live.findings(seen))
    assert "odometry_twist to poses" in fault.remedy
    seen.settings = settings_from({"odometry_twist": "poses"})
    (fault,) = errors(live.findings(seen))
    assert "odometry_twist" not in fault.remedy


def test_slow_inputs_are_a_warning() -> None:
    """A camera at 5 Hz."""
    seen = good()
    seen.heard[CAMERA] = stream(5.0)
    found = list(live.findings(seen))
    assert not errors(found)
    (slow,) = [f for f in found if f.level == Level.WARNING]
    assert "5.0 Hz" in slow.what and slow.area == "camera front_wide"


def test_likely_topics_are_named() -> None:
    """Where a topic of the right type and a like name is there."""
    seen = good()
    no_publisher(seen)
    seen.topics = {**seen.topics, "/camera/front/image/compressed": (COMPRESSED,)}
    (fault,) = errors(live.findings(seen))
    assert "/camera/front/image/compressed" in fault.remedy


# ---- a machine -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"ROS_DOMAIN_ID": "seven"}, "ROS_DOMAIN_ID is 'seven'"),
        ({"ROS_DOMAIN_ID": "233"}, "ROS_DOMAIN_ID is '233'"),
        ({"ROS_AUTOMATIC_DISCOVERY_RANGE": "OFF"}, "do not find each other"),
        ({"ROS_AUTOMATIC_DISCOVERY_RANGE": "HOME"}, "is 'HOME'"),
    ],
)
def test_environments_that_do_not_work(variables: dict[str, str], said: str) -> None:
    """By variable."""
    pytest.importorskip("rclpy")
    assert not errors(environment.ros({}, installation))
    (fault,) = errors(environment.ros(variables, installation))
    assert said in fault.what


def test_profiles(tmp_path: Path) -> None:
    """None, one of two names, a file that is not there, the shipped one."""
    shipped = str(resource("config", "fastdds_shm.xml"))

    def levels(*paths: str) -> list[Level]:
        found = environment.profile(dict(zip(PROFILE_VARIABLES, paths)))
        return [f.level for f in found]

    assert levels() == [Level.WARNING]
    assert levels(shipped) == [Level.OK, Level.WARNING]
    assert levels(shipped, str(tmp_path / "none.xml")) == [Level.OK, Level.ERROR]
    assert levels(shipped, shipped) == [Level.OK, Level.OK]


def test_every_extra_is_known() -> None:
    """What setup.cfg offers, the doctor can name; dev is for developers."""
    content = configparser.ConfigParser()
    content.read(SETUP_CFG)
    assert set(content["options.extras_require"]) - {"dev"} == set(libraries.FEATURES)


def test_missing_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    """An optional one costs a feature, a required one everything."""
    absent = {"torch"}
    monkeypatch.setattr(libraries, "has", lambda module: module not in absent)
    found = list(libraries.installed())
    assert is_sound(found)
    assert any("torch: no Alpamayo" in f.what and "[vla]" in f.remedy for f in found)
    absent.add("numpy")
    assert "numpy" in errors(libraries.installed())[0].what


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A manifest and files that look like a release."""
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    return tmp_path


def test_files_of_a_model(checkpoint: Path) -> None:
    """All there and the hash right; then the hash, the file, the folder wrong."""
    right = hashlib.sha256(b"weights").hexdigest()

    def check(folder: Path = checkpoint, **sha256: str) -> list[Finding]:
        hashes = {name.replace("_", "."): value for name, value in sha256.items()}
        options = {"checkpoint": str(folder), "tokenizer": str(folder), "sha256": hashes}
        return list(check_model("alpamayo_1_5", options, True))

    assert not errors(check(model_safetensors=right))
    assert any("sha256 as in the manifest" in f.what for f in check(model_safetensors=right))
    (wrong,) = errors(check(model_safetensors="0" * 64))
    assert right in wrong.what
    (missing,) = errors(check(other_safetensors=right))
    assert "is missing" in missing.what
    assert errors(check(checkpoint / "nowhere"))
    assert needs_gpu("alpamayo_1_5", {"checkpoint": str(checkpoint)})
    assert not needs_gpu("kinematic", {})


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 1 with the reason where a model cannot be had, and the same as JSON."""
    path = tmp_path / "findings.json"
    assert cli.main(["doctor", "--model", "no_such_model", "--json", str(path)]) == 1
    said = capsys.readouterr().out
    assert "no model 'no_such_model'" in said and "->" in said
    result = json.loads(path.read_text())
    assert result["sound"] is False
    assert set(result["findings"][0]) == {f.name for f in dataclasses.fields(Finding)}

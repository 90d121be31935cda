"""The command line: help, exit codes, and the README's tables."""

from __future__ import annotations

import configparser
import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path

import pytest

from alpamayo_ros import cli
from alpamayo_ros.commands.parameters import markdown_table
from alpamayo_ros.parameter_table import PARAMETERS
from alpamayo_ros.safety.faults import BEHAVIOUR, Fault
from alpamayo_ros.safety.faults import markdown_table as faults_table

README = Path(__file__).resolve().parents[1] / "README.md"


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_help_has_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`alpamayo COMMAND --help` exits 0 and shows how the command is used."""
    with pytest.raises(SystemExit) as ending:
        cli.main([command, "--help"])
    assert ending.value.code == 0
    text = capsys.readouterr().out
    assert "example" in text and f"alpamayo {command}" in text


def test_wrong_command_is_wrong_use(capsys: pytest.CaptureFixture[str]) -> None:
    """An unknown command exits 2 and lists the known ones."""
    with pytest.raises(SystemExit) as ending:
        cli.main(["fly"])
    assert ending.value.code == 2
    said = capsys.readouterr().err
    assert all(name in said for name in cli.COMMANDS)


def test_no_command_shows_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    """`alpamayo` alone is wrong use, and says what there is."""
    assert cli.main([]) == 2
    said = capsys.readouterr().err
    assert all(name in said for name in cli.COMMANDS)


def test_pip_knows_the_extras_that_messages_name() -> None:
    """Of the package as it is installed, by CMake or by pip: else "pip install
    'alpamayo_ros[evaluate]'" would do nothing and say that all is well."""
    setup = configparser.ConfigParser()
    setup.read(Path(__file__).resolve().parents[1] / "setup.cfg")
    installed = importlib.metadata.distribution("alpamayo_ros")
    listed = installed.read_text("requires.txt") or ""  # an egg's; a wheel has them in METADATA
    known = {line[1:-1] for line in listed.splitlines() if line.startswith("[")}
    known |= set(installed.metadata.get_all("Provides-Extra") or ())
    assert known >= set(setup["options.extras_require"])


def test_parameters_as_json(tmp_path: Path) -> None:
    """`alpamayo parameters --json` has every parameter of the node."""
    path = tmp_path / "parameters.json"
    assert cli.main(["parameters", "--json", str(path)]) == 0
    assert set(json.loads(path.read_text())) == {parameter.name for parameter in PARAMETERS}


def test_readme_has_the_parameter_table() -> None:
    """README.md shows the parameters as they are (`alpamayo parameters --markdown`)."""
    assert markdown_table() in README.read_text()


def test_every_fault_has_a_behaviour_and_the_readme_shows_it() -> None:
    """README.md has the table of `alpamayo faults --markdown`; no fault is left out of it."""
    assert set(BEHAVIOUR) == set(Fault)
    assert faults_table() in README.read_text()


def test_commands_do_not_wait_for_libraries_they_do_not_use() -> None:
    """`alpamayo --help` loads neither numpy nor OpenCV nor ROS: it answers at once."""
    script = (
        "import sys; from alpamayo_ros import cli\n"
        "try: cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'numpy', 'cv2', 'rclpy', 'rosbags', 'panda3d'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert result.stdout.splitlines()[-1] == "[]"


def test_planner_node_starts_without_what_it_does_not_use() -> None:
    """The node's module loads neither the bag library, the renderer nor any deep-learning one."""
    pytest.importorskip("rclpy", reason="needs ROS 2")
    script = (
        "import sys; import alpamayo_ros.ros.planner_node\n"
        "unwanted = {'rosbags', 'panda3d', 'torch', 'onnxruntime', 'tensorrt', 'transformers'}\n"
        "print(sorted(unwanted & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert result.stdout.splitlines()[-1] == "[]"

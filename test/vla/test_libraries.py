"""What the `vla` backend needs, and what it says where it is missing."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

LIBRARIES = ("torch", "transformers", "safetensors", "tokenizers")


def test_the_model_s_libraries_are_here() -> None:
    """Where they are not, none of the tests of this folder ran."""
    for name in LIBRARIES:
        pytest.importorskip(name, reason=f"needs {name}: pip install 'alpamayo_ros[vla]'")


def _without(name: str, code: str) -> str:
    """The output of a Python that cannot find a package."""
    blocked = (
        "import sys, importlib.util as util\n"
        "find = util.find_spec\n"
        f"util.find_spec = lambda n, *a: None if n == {name!r} else find(n, *a)\n"
        f"sys.modules[{name!r}] = None\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", blocked + code], capture_output=True, text=True, timeout=120
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize("name", LIBRARIES[:2])
def test_a_missing_library_is_named_with_its_remedy(name: str) -> None:
    """Of the command line, exit code 2 and no traceback."""
    if importlib.util.find_spec("torch") is None and name != "torch":
        pytest.skip("needs torch: pip install 'alpamayo_ros[vla]'")
    said = _without(name, "from alpamayo_ros.cli import main; print(main(['vla', 'count']))")
    assert f"the Alpamayo model needs {name}: pip install 'alpamayo_ros[vla]'" in said
    assert said.rstrip().startswith("2") or said.rstrip().endswith("2")
    assert "Traceback" not in said


def test_planning_without_the_model_loads_none_of_it() -> None:
    """The kinematic planner starts without torch, whether it is installed or not."""
    said = _without(
        "torch",
        "from alpamayo_ros.backends.registry import create_backend\n"
        "create_backend('kinematic').load()\n"
        "import alpamayo_ros.pipeline, alpamayo_ros.cli\n"
        "print('transformers' in sys.modules)",
    )
    assert said.split()[-1] == "False"

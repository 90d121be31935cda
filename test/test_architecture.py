"""By the sources themselves: ROS is imported in alpamayo_ros/ros/ alone, and nothing imports back
from there but the commands, when they are run."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest
from package_sources import trees

ROS = "alpamayo_ros.ros"
OWN_MESSAGES = ("alpamayo_ros.msg", "alpamayo_ros.srv", "alpamayo_ros.action")
ROS_MODULES = {
    "rclpy", "ament_index_python", "builtin_interfaces", "cv_bridge", "image_transport", "launch",
    "launch_ros", "message_filters", "rosbag2_py", "rosidl_runtime_py", "tf2_ros",
    "tf_transformations",
}  # fmt: skip


def imported(tree: ast.Module, package: str) -> Iterator[tuple[int, str, bool]]:
    """(line, module, whether when the file is loaded) of every import, wherever it stands.

    `package` is what relative imports start from.
    """
    for node, is_at_load in _nodes(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name, is_at_load) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            start = parts[: len(parts) - node.level + 1] if node.level else []
            module = ".".join([*start, *([node.module] if node.module else [])])
            # What is imported from a package may be a module of it.
            yield from ((node.lineno, f"{module}.{a.name}", is_at_load) for a in node.names)
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func) if node.args else ""
            if name in ("importlib.import_module", "import_module", "__import__"):
                yield node.lineno, ast.unparse(node.args[0]).strip("f'\""), is_at_load


def _nodes(tree: ast.Module) -> Iterator[tuple[ast.AST, bool]]:
    """Every node, and whether it runs when the file is loaded."""
    waiting: list[tuple[ast.AST, bool]] = [(tree, True)]
    while waiting:
        node, is_at_load = waiting.pop()
        yield node, is_at_load
        is_function = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        inside = is_at_load and not is_function
        waiting += [(child, inside) for child in ast.iter_child_nodes(node)]


def is_of_ros(module: str) -> bool:
    """Whether importing it needs an installed ROS; a name not known before it runs counts too,
    where it begins like one of the package's messages."""
    first = module.split(".")[0]
    own = module.startswith("alpamayo_ros.{") or any(
        module == name or module.startswith(f"{name}.") for name in OWN_MESSAGES
    )
    return own or first in ROS_MODULES or first.endswith("_msgs")


def offences(tree: ast.Module, module: str) -> list[str]:
    """What a module outside of alpamayo_ros/ros/ may not import."""
    found = []
    package = module.rpartition(".")[0]
    is_command = module.startswith("alpamayo_ros.commands.")
    for line, name, is_at_load in imported(tree, package):
        if is_of_ros(name):
            found.append(f"{module}:{line}: {name}")
        elif f"{name}.".startswith(f"{ROS}.") and (is_at_load or not is_command):
            found.append(f"{module}:{line}: {name}")
    return found


def test_the_package() -> None:
    """No module outside of alpamayo_ros/ros/ imports ROS, at load or later."""
    found, inside, outside = [], 0, 0
    for file, tree in trees().items():
        module = f"alpamayo_ros/{file.removesuffix('.py')}".replace("/", ".")
        if module.startswith(f"{ROS}."):
            inside += bool(offences(tree, module))
        else:
            outside += 1
            found += offences(tree, module)
    assert found == []
    assert inside > 10 and outside > 150  # the search sees what it looks for


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("alpamayo_ros.doctor.environment", "def ros():\n    from rclpy.utilities import x"),
        ("alpamayo_ros.feed", "import rclpy"),
        ("alpamayo_ros.feed", "from sensor_msgs.msg import Image"),
        ("alpamayo_ros.feed", "from alpamayo_ros.msg import PlannerStatus"),
        ("alpamayo_ros.feed", "from alpamayo_ros import msg"),
        ("alpamayo_ros.feed", "from alpamayo_ros import ros"),
        ("alpamayo_ros.feed", "from . import ros"),
        ("alpamayo_ros.doctor.live", "from ..ros.convert import make"),
        ("alpamayo_ros.doctor.live", "from .. import srv"),
        ("alpamayo_ros.feed", "import importlib\nimportlib.import_module('rclpy.node')"),
        ("alpamayo_ros.feed", "import importlib\nimportlib.import_module(f'alpamayo_ros.{kind}')"),
        ("alpamayo_ros.feed", "if TYPE_CHECKING:\n    from nav_msgs.msg import Path"),
        ("alpamayo_ros.commands.doctor", "from alpamayo_ros.ros import probe"),
        ("alpamayo_ros.commands.doctor", "def run():\n    import rclpy"),
    ],
)
def test_what_would_be_found(module: str, text: str) -> None:
    """Each way in is seen."""
    assert offences(ast.parse(text), module)


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("alpamayo_ros.commands.doctor", "def run():\n    from alpamayo_ros.ros import probe"),
        ("alpamayo_ros.feed", "from alpamayo_ros.messages import header"),
        ("alpamayo_ros.feed", "from alpamayo_ros import status_messages"),
        ("alpamayo_ros.feed", "importlib.util.find_spec('rclpy')"),
    ],
)
def test_what_is_harmless(module: str, text: str) -> None:
    """And is not."""
    assert not offences(ast.parse(text), module)

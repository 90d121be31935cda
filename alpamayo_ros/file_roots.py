"""Which files a parameter that is set at run time may name.

Whoever starts the node may name any file. A parameter set later can come from anybody in the ROS
domain: it may name files of the package, in the folders of what was named at the start, and in
those of parameter `file_roots`; and nobody may widen that while the node runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from alpamayo_ros.parameter_table import PARAMETERS
from alpamayo_ros.parameters import parsed_option
from alpamayo_ros.resources import is_path, resource

ROOTS = "file_roots"
OPTIONS = "model_options"
BAD_PATH = (ValueError, RuntimeError, OSError)  # a NUL, no such user, links in a circle
SHIPPED = ("models", "config")
SHIPPED_BY_NAME = ("model", "rig_views")
NAMING_FILES = tuple(parameter.name for parameter in PARAMETERS if parameter.names_files)


class FileRoots:
    """The folders below which a file may be named."""

    def __init__(self, start: Mapping[str, Any]) -> None:
        """`start`: the parameters' values at the node's start."""
        named = [
            _folder(path)
            for name in NAMING_FILES
            for path in _named(name, start.get(name), str(start.get("model", "")))
        ]
        # Files of a --symlink-install are links to where they lie in the source tree.
        shipped = [_real(path).parent for name in SHIPPED for path in resource(name).iterdir()]
        given = map(Path, _texts(start.get(ROOTS)))
        roots = []
        for root in (*map(resource, SHIPPED), *shipped, *named, *given):
            try:
                roots.append(_real(root))
            except BAD_PATH:
                continue  # refused at configure; the node is to live
        self.roots = tuple(dict.fromkeys(roots))

    def refusal(self, name: str, value: Any, model: str) -> str:
        """Why a parameter may not be set to this now; empty where it may.

        `model` is the value of parameter `model`: options name files from its folder on.
        """
        if name == ROOTS:
            return f"{ROOTS} is set when the node starts, and not while it runs"
        for path in _named(name, value, model):
            try:
                real = _real(path)
            except BAD_PATH as error:
                return f"{name} names {str(path)!r}, which is no path of {ROOTS}: {error}"
            if not any(real.is_relative_to(root) for root in self.roots):
                listing = ", ".join(map(str, self.roots))
                return (
                    f"{name} names {path}, which is not below {listing}: start the node with it, "
                    f"or with its folder in {ROOTS}"
                )
        return ""


def _named(name: str, value: Any, model: str) -> Iterable[Path]:
    """The paths in a parameter's value."""
    if name == OPTIONS:
        folder = Path(model).parent if is_path(model) else resource("models")
        for entry in _texts(value):
            try:
                _, option = parsed_option(entry)
            except ValueError:
                continue  # refused at configure, and nothing is opened
            for text in _leaves(option):
                path = Path(text)
                if len(path.parts) > 1 or ".." in path.parts or text.startswith("~"):
                    yield folder / path if not text.startswith("~") else path
    elif name in NAMING_FILES and isinstance(value, str) and value:
        if name not in SHIPPED_BY_NAME or is_path(value):
            yield Path(value)


def _folder(path: Path) -> Path:
    """A folder itself, or that of a file, which need not exist."""
    return path if path.is_dir() else path.parent


def _leaves(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _leaves(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _leaves(item)


def _texts(value: Any) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _real(path: Path) -> Path:
    """Without links and dots, as far as it exists."""
    return path.expanduser().resolve()

"""Copied into the environment's site-packages and called by a .pth when its Python starts.

The wheels of ROS 2 set LD_LIBRARY_PATH by running Python a second time. This adds what `source
setup.bash` does in a ROS workspace, so that nothing needs sourcing. It runs at every start of the
environment's Python: standard library only, and nothing that takes time.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import spec_from_file_location

# Set by ros_wheels_bootstrapper in the process that it starts, and inherited by its children.
WHEELS_GUARD = "_ROS_WHEELS_BOOTSTRAP_COMPLETE"


class SourceTreeFinder:
    """Finds alpamayo_ros in the source tree and, for what is generated (msg, srv), where installed.

    Without it `python -m pytest` or `python -c …` in the repository's root would find the source
    tree alone, which has no alpamayo_ros.msg; and a new file would need a new build.
    """

    def __init__(self, source: str, installed: str) -> None:
        self.folders = [source, installed]

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name != "alpamayo_ros":
            return None
        found = PathFinder.find_spec(name)
        if found is None or found.origin is None:
            return None
        if os.path.dirname(found.origin) not in self.folders:
            return None  # another copy, put on the path by someone who wants that one
        return spec_from_file_location(
            name,
            os.path.join(self.folders[0], "__init__.py"),
            submodule_search_locations=list(self.folders),
        )


def set_environment(environ: os._Environ[str] | dict[str, str], prefix: str) -> None:
    """Make `prefix` (the virtual environment) a sourced ROS prefix in `environ`."""
    prefixes = environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)
    if prefix not in prefixes:
        environ["AMENT_PREFIX_PATH"] = os.pathsep.join([prefix, *filter(None, prefixes)])
    environ.setdefault("ROS_DISTRO", "jazzy")
    environ.setdefault("ROS_VERSION", "2")
    environ.setdefault("ROS_PYTHON_VERSION", "3")
    # A process of another environment with these wheels may have started this one: its guard would
    # keep our libraries off the path.
    libraries = environ.get("LD_LIBRARY_PATH", "").split(os.pathsep)
    if os.path.join(prefix, "lib") not in libraries:
        environ.pop(WHEELS_GUARD, None)


def enter(source: str) -> None:
    """`source` is the alpamayo_ros folder of the repository that this environment was made for."""
    set_environment(os.environ, sys.prefix)
    installed = os.path.join(os.path.dirname(os.path.abspath(__file__)), "alpamayo_ros")
    if os.path.isdir(source):
        sys.meta_path.insert(0, SourceTreeFinder(source, installed))

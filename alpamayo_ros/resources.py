"""Where the package's own data files are: models/, config/, msg/, launch/."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from alpamayo_ros.errors import UserError


def _roots() -> list[Path]:
    """Candidates in order: an ament prefix, this Python's prefix, the source tree."""
    prefixes = [Path(p) for p in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if p]
    prefixes.append(Path(sys.prefix))
    roots = [prefix / "share" / "alpamayo_ros" for prefix in prefixes]
    # resolve() leads back to the source tree through a --symlink-install.
    roots.append(Path(__file__).resolve().parent.parent)
    return roots


def is_path(name: str) -> bool:
    """Whether a setting is the path of a YAML file, and not the name of a shipped one."""
    return "/" in name or name.endswith((".yaml", ".yml"))


def resource(*parts: str) -> Path:
    """The path of a data file or folder, e.g. `resource("models", "kinematic.yaml")`."""
    roots = _roots()
    for root in roots:
        path = root.joinpath(*parts)
        if path.exists():
            return path
    looked = ", ".join(str(root) for root in roots)
    raise UserError(
        f"{'/'.join(parts)} of alpamayo_ros was not found; looked under {looked}. "
        "Is the package installed (make setup, or colcon build and source install/setup.bash)?"
    )

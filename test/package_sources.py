"""The package's modules, read and parsed once for all tests of them."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

from alpamayo_ros import interface

PACKAGE = Path(interface.__file__).parent


@cache
def trees() -> dict[str, ast.Module]:
    """By path below the package, as in `ros/planner_node.py`; generated messages are not ours."""
    found = {
        path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.relative_to(PACKAGE).parts[0] not in ("msg", "srv")
    }
    assert len(found) > 150
    return found

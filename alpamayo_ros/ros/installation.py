"""What the doctor asks of an installed ROS; imported when asked, so that none may be installed."""

from __future__ import annotations

import importlib


def middleware() -> str:
    """As in RMW_IMPLEMENTATION. Raises whatever loading its libraries raises."""
    from rclpy.utilities import get_rmw_implementation_identifier

    return str(get_rmw_implementation_identifier())


def built_fields(kind: str) -> dict[str, set[str]]:
    """Fields of each of the package's built messages (`msg`) or services' requests (`srv`).

    Raises ImportError where they were never built.
    """
    built = vars(importlib.import_module(f"alpamayo_ros.{kind}"))
    requests = {name: getattr(made, "Request", made) for name, made in built.items()}
    return {
        name: set(made.get_fields_and_field_types())
        for name, made in requests.items()
        if hasattr(made, "get_fields_and_field_types")
    }

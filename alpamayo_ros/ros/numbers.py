"""Number parameters of small nodes: checked at start-up, `2` as good as `2.0`."""

from __future__ import annotations

from rcl_interfaces.msg import ParameterDescriptor
from rclpy.node import Node

from alpamayo_ros.errors import UserError


def number_parameter(
    node: Node, name: str, default: float, minimum: float, maximum: float
) -> float:
    """The value of a parameter. Raises UserError naming it, its value and its range."""
    # No floating_point_range: rclpy would refuse by it with an exception that names no remedy.
    descriptor = ParameterDescriptor(
        dynamic_typing=True, read_only=True, additional_constraints=f"{minimum:g} to {maximum:g}"
    )
    value = node.declare_parameter(name, default, descriptor).value
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not minimum <= value <= maximum:
        raise UserError(f"parameter {name} is {value!r}, wanted {minimum:g} to {maximum:g}")
    return float(value)

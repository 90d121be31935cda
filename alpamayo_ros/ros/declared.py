"""Declares the planner's parameters on a node, and survives bad values given at start-up.

rclpy raises out of the constructor when a launch file gives a string for a number, or 50 for 50.0;
a respawning node would then die over and over. Here the bad value is remembered, configure
refuses and names it, and setting the parameter puts it right.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from typing import Any

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter

from alpamayo_ros.file_roots import FileRoots
from alpamayo_ros.parameter_table import BY_NAME, PARAMETERS, Parameter, check_value


class DeclaredParameters:
    """The planner's parameters on one node."""

    def __init__(self, node: Node, overrides: Mapping[str, RosParameter]) -> None:
        self._node = node
        self._bad: dict[str, Any] = {}  # values given at start-up that cannot be used
        for parameter in PARAMETERS:
            self._declare(parameter, overrides.get(parameter.name))
        self._roots = FileRoots(self.values())
        node.add_on_set_parameters_callback(self._on_set)

    def values(self) -> dict[str, Any]:
        """Every parameter's value; bad start-up values too, so that checking names them all."""
        values = {name: plain(self._node.get_parameter(name).value) for name in BY_NAME}
        return {**values, **self._bad}

    def _declare(self, parameter: Parameter, override: Any) -> None:
        value: Any = parameter.default
        if override is not None:
            given = plain(override.value)
            if check_value(parameter, given) is None:
                value = float(given) if isinstance(parameter.default, float) else given
            else:
                self._bad[parameter.name] = given
        self._node.declare_parameter(
            parameter.name, value, _descriptor(parameter), ignore_override=True
        )

    def _on_set(self, changes: Sequence[RosParameter]) -> SetParametersResult:
        new = {change.name: plain(change.value) for change in changes if change.name in BY_NAME}
        problems = [check_value(BY_NAME[name], value) for name, value in new.items()]
        if not any(problems):
            if "model" in new:  # its options name files from its folder on
                new = {"model_options": self.values()["model_options"], **new}
            model = str(new.get("model", self.values()["model"]))
            problems = [self._roots.refusal(name, value, model) for name, value in new.items()]
        problem = next(filter(None, problems), None)
        if problem is not None:
            return SetParametersResult(successful=False, reason=problem)
        for change in changes:
            self._bad.pop(change.name, None)
        return SetParametersResult(successful=True)


def _descriptor(parameter: Parameter) -> ParameterDescriptor:
    descriptor = ParameterDescriptor(
        description=parameter.meaning,
        additional_constraints=", ".join(parameter.choices) or "takes effect at the next configure",
        # An empty list has no type of its own, and 50 should do for 50.0: check_value decides.
        dynamic_typing=True,
    )
    if parameter.minimum is None or parameter.maximum is None:
        return descriptor
    if isinstance(parameter.default, int):
        descriptor.integer_range = [
            IntegerRange(from_value=int(parameter.minimum), to_value=int(parameter.maximum))
        ]
    else:
        descriptor.floating_point_range = [
            FloatingPointRange(from_value=parameter.minimum, to_value=parameter.maximum)
        ]
    return descriptor


def plain(value: Any) -> Any:
    """ROS arrays as lists."""
    return list(value) if isinstance(value, (tuple, array)) else value

"""Builds rclpy messages for `alpamayo_ros.messages`, and reads the few that we take in."""

from __future__ import annotations

import functools
import importlib
from typing import Any

from rclpy.time import Time


@functools.cache
def message_class(msgtype: str) -> Any:
    """The class of "package/msg/Name". Raises ImportError where its package is not installed."""
    package, kind, name = msgtype.split("/")
    return getattr(importlib.import_module(f"{package}.{kind}"), name)


def make(msgtype: str, /, **fields: Any) -> Any:
    """A message from its type's name and fields; see `messages.Make`."""
    return message_class(msgtype)(**fields)


def to_time(stamp_ns: int) -> Any:
    """Integer nanoseconds to builtin_interfaces/Time."""
    return Time(nanoseconds=stamp_ns).to_msg()

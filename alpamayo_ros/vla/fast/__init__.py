"""The `fast` runtime: the numbers of `eager` with less work. runtime.py puts its parts together."""

from alpamayo_ros.types import N_FRAMES

FRAME_CAPACITY = 2 * 7 * N_FRAMES  # frames whose features are kept: two windows of every camera

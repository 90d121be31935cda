"""A picture in which every swap of channels or axes shows."""

from __future__ import annotations

import numpy as np

H, W = 24, 40
RED, GREEN, BLUE = (220, 30, 40), (20, 200, 60), (40, 50, 210)
# Where each colour is: top left red, top right green, bottom blue; no symmetry hides a swap.
SPOTS = {(4, 6): RED, (4, 34): GREEN, (20, 20): BLUE}


def scene(height: int = H, width: int = W) -> np.ndarray:
    rgb = np.empty((height, width, 3), np.uint8)
    rgb[: height // 2, : width // 2] = RED
    rgb[: height // 2, width // 2 :] = GREEN
    rgb[height // 2 :] = BLUE
    return rgb

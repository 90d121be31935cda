"""What the four cameras see of a running simulation."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from alpamayo_ros.types import IMAGE_HEIGHT, IMAGE_WIDTH
from alpamayo_ros.world.render import Renderer
from alpamayo_ros.world.rig import Rig, default_rig
from alpamayo_ros.world.scenario import Scenario
from alpamayo_ros.world.scene import Actor
from alpamayo_ros.world.scenes import scene_of
from alpamayo_ros.world.simulation import Simulation
from alpamayo_ros.world.vehicle import EgoState

_STREAM = 31
_HAZE, _HAZE_SHARE = 168.0, 0.30
_NOISE = 9.0  # of 255, of each pixel
_STREAKS_A_PIXEL = 9e-4


class WorldCameras:
    """A renderer of one scenario. The same state gives the same images."""

    def __init__(self, scenario: Scenario, rig: Rig | None = None) -> None:
        self.rig = rig or default_rig(IMAGE_WIDTH, IMAGE_HEIGHT)
        self._scenario = scenario
        self._renderer = Renderer(scene_of(scenario), self.rig)

    def images(self, simulation: Simulation) -> dict[str, NDArray[np.uint8]]:
        """{camera: (H, W, 3) RGB} of this instant."""
        return self.images_of(simulation.ego, simulation.actors(), simulation.time_ns)

    def images_of(
        self, ego: EgoState, actors: list[Actor], time_ns: int
    ) -> dict[str, NDArray[np.uint8]]:
        """The same of a copy of the state, for a thread beside the simulation's."""
        seen = self._renderer.render(ego, actors, time_ns * 1e-9)
        if self._scenario.weather != "rain":
            return seen
        rng = np.random.default_rng([self._scenario.seed, _STREAM, time_ns])
        return {name: rain(image, rng) for name, image in seen.items()}

    def close(self) -> None:
        """Free the renderer."""
        self._renderer.close()

    def __enter__(self) -> WorldCameras:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def rain(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Haze, streaks and a noisy sensor over (H, W, 3) RGB; another picture."""
    height, width = image.shape[:2]
    hazy = np.asarray(
        cv2.addWeighted(image, 1.0 - _HAZE_SHARE, image, 0.0, _HAZE * _HAZE_SHARE), np.uint8
    )
    # Noise of half the size, drawn once and shifted: drawing each pixel's takes 20 ms a camera.
    grain = rng.integers(0, 256, (64, width // 2), dtype=np.uint8)
    rows = -(-height // 128)
    large = cv2.resize(np.tile(grain, (rows, 1))[: height // 2], (width, height))
    noise = cv2.cvtColor(np.asarray(large, np.uint8), cv2.COLOR_GRAY2RGB)
    share = _NOISE / 64.0
    noisy = cv2.addWeighted(hazy, 1.0, noise, share, -128.0 * share)
    streaks = np.asarray(noisy, np.uint8)
    slant = float(rng.uniform(-0.25, 0.25))
    for _ in range(int(_STREAKS_A_PIXEL * height * width)):
        x, y = int(rng.integers(width)), int(rng.integers(height))
        length = int(rng.integers(6, 18))
        grey = int(rng.integers(185, 225))
        cv2.line(streaks, (x, y), (x + round(slant * length), y + length), (grey, grey, grey), 1)
    return streaks

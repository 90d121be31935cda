"""From a sample to a student's arrays, and from its answer to an action. numpy and OpenCV alone,
so that a vehicle with ONNX Runtime or TensorRT needs no PyTorch."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from alpamayo_ros import geometry
from alpamayo_ros.backends.kinematic import carried_on
from alpamayo_ros.student.config import StudentConfig
from alpamayo_ros.types import CAMERA_NAMES, IMAGE_HEIGHT, IMAGE_WIDTH, PlannerSample, Rows

Array = NDArray[np.float32]

COMMANDS = ("none", "left", "straight", "right")
N_COMMANDS = len(COMMANDS)


@dataclass(frozen=True)
class PolicyInput:
    """The policy's arrays of one instant, without the batch axis."""

    history: Array  # (16, 3) m, in the rig frame at t0
    history_yaw: Array  # (16,) rad
    speed: Array  # () m/s
    prior_action: Array  # (64, 2) normalised
    command: NDArray[np.int64]  # () index of COMMANDS
    camera_mask: Array  # (C,)


def policy_input(config: StudentConfig, sample: PlannerSample) -> PolicyInput:
    """All but the images of a sample."""
    prior = carried_on(sample.speed_mps, sample.acceleration_mps2, sample.yaw_rate_rps)
    present = {CAMERA_NAMES[index] for index in sample.camera_indices}
    command = command_of(sample.navigation) if config.takes_navigation else 0
    return PolicyInput(
        history=sample.history_xyz_in_rig_t0.astype(np.float32),
        history_yaw=geometry.yaw_of(sample.history_rot_in_rig_t0).astype(np.float32),
        speed=np.array(sample.speed_mps, np.float32),
        prior_action=normalise(config, prior),
        command=np.array(command, np.int64),
        camera_mask=np.array([name in present for name in config.cameras], np.float32),
    )


def command_of(text: str | None) -> int:
    """The index of COMMANDS that a navigation text names; 0 where it names none, or two."""
    words = (text or "").casefold().replace(",", " ").split()
    named = [index for index, name in enumerate(COMMANDS) if index and name in words]
    return named[0] if len(named) == 1 else 0


def camera_rows(config: StudentConfig, sample: PlannerSample) -> list[int | None]:
    """For every camera of the student its row in the sample's images; None where it is missing."""
    rows = {CAMERA_NAMES[index]: row for row, index in enumerate(sample.camera_indices)}
    return [rows.get(name) for name in config.cameras]


def reduced(config: StudentConfig, camera: int, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The pipeline's (320, 576, 3) of the student's camera number `camera`, cropped and
    area-averaged to the input size, still uint8.

    Rounding to uint8 is part of the definition: training stores images so. An image of the same
    proportions is taken too: a world may be rendered smaller for training.
    """
    return reduced_to(image, config.crop_rows[camera], config.input_size)


def reduced_to(
    image: NDArray[np.uint8], crop_rows: Rows, size: tuple[int, int]
) -> NDArray[np.uint8]:
    """`reduced` to (height, width) by rows of 320. Raises ValueError on other proportions."""
    rows, columns = image.shape[:2]
    if rows * IMAGE_WIDTH != columns * IMAGE_HEIGHT or rows % 20:
        raise ValueError(
            f"an image of {columns} x {rows}, wanted the proportions of the pipeline's "
            f"{IMAGE_WIDTH} x {IMAGE_HEIGHT}"
        )
    first, last = (row * rows // IMAGE_HEIGHT for row in crop_rows)
    small = cv2.resize(image[first:last], size[::-1], interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.uint8)


def pixels(config: StudentConfig, small: NDArray[np.uint8]) -> Array:
    """Reduced images (..., H, W, 3) uint8 -> the encoder's (..., 3, H, W), normalised."""
    mean = np.array(config.pixel_mean, np.float32) * 255.0
    std = np.array(config.pixel_std, np.float32) * 255.0
    normal = (small.astype(np.float32) - mean) / std
    return np.ascontiguousarray(np.moveaxis(normal, -1, -3))


def frame_images(config: StudentConfig, sample: PlannerSample, frame: int) -> Array:
    """The encoder's input (C, 3, H, W) of one frame, 0 (oldest) … 3; zeros where a camera is
    missing, which the camera mask hides."""
    images = np.zeros((len(config.cameras), 3, *config.input_size), np.float32)
    for place, row in enumerate(camera_rows(config, sample)):
        if row is not None:
            images[place] = pixels(config, reduced(config, place, sample.images[row, frame]))
    return images


def normalise(config: StudentConfig, action: NDArray[np.float64]) -> Array:
    """Accelerations m/s^2 and curvatures 1/m (..., 2) -> normalised."""
    return (action / np.array(config.action_scale)).astype(np.float32)


def denormalise(config: StudentConfig, action: NDArray[np.floating]) -> NDArray[np.float64]:
    """The inverse."""
    return np.asarray(action, np.float64) * np.array(config.action_scale)


def smoothed(config: StudentConfig, action: NDArray[np.float64]) -> NDArray[np.float64]:
    """Actions (64, 2) averaged over the waypoints beside each, fewer towards both ends.

    A query speaks for several waypoints; where two meet, wheels cannot follow the step.
    """
    if config.smooth == 1:
        return action
    count, reach = len(action), config.smooth // 2
    sums = np.concatenate((np.zeros((1, 2)), np.cumsum(action, axis=0)))
    index = np.arange(count)
    wide = np.minimum(reach, np.minimum(index, count - 1 - index))
    averages = (sums[index + wide + 1] - sums[index - wide]) / (2 * wide + 1)[:, None]
    return np.asarray(averages)

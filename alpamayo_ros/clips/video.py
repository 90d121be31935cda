"""Frames of a video with the stamps of a table beside it, one at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alpamayo_ros.clips.layout import ClipError
from alpamayo_ros.errors import UserError


def need_av() -> None:
    """Raises UserError where PyAV is missing."""
    try:
        import av  # noqa: F401
    except ImportError as error:
        raise UserError(
            "reading videos needs PyAV, which is not installed: pip install 'alpamayo_ros[convert]'"
        ) from error


def frames(
    path: Path, stamps_us: Sequence[int], label: str
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """(stamp in microseconds, (H, W, 3) RGB), the k-th frame with the k-th stamp.

    Raises ClipError where the video is damaged, or has more or fewer frames than stamps.
    """
    count = 0
    for count, frame in enumerate(_decoded(path, label), 1):
        if count <= len(stamps_us):
            yield int(stamps_us[count - 1]), frame.to_ndarray(format="rgb24")
    if count != len(stamps_us):
        raise ClipError(f"{label}: {count} frames, but {len(stamps_us)} stamps")


def timed_frames(path: Path, label: str) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """(stamp in microseconds, (H, W, 3) RGB) by the video's own clock. Raises ClipError."""
    for frame in _decoded(path, label):
        if frame.time is None:
            raise ClipError(f"{label}: its frames have no times, as in a bare stream")
        yield round(frame.time * 1e6), frame.to_ndarray(format="rgb24")


def _decoded(path: Path, label: str) -> Iterator[Any]:
    """PyAV's frames of the first video stream. Raises ClipError."""
    import av

    count = 0
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            for frame in container.decode(stream):
                yield frame
                count += 1
    except (av.FFmpegError, IndexError) as error:
        raise ClipError(f"{label}: damaged at frame {count}: {error}") from error


def frame_size(path: Path, label: str) -> tuple[int, int]:
    """(width, height) of a video. Raises ClipError."""
    import av

    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            return int(stream.width), int(stream.height)
    except (av.FFmpegError, IndexError) as error:
        raise ClipError(f"{label}: no video can be read: {error}") from error

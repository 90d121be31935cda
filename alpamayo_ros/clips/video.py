"""Frames of a video with the stamps of a table beside it, one at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

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
    import av

    count = 0
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            for frame in container.decode(stream):
                if count < len(stamps_us):
                    yield int(stamps_us[count]), frame.to_ndarray(format="rgb24")
                count += 1
    except (av.FFmpegError, IndexError) as error:
        raise ClipError(f"{label}: damaged at frame {count}: {error}") from error
    if count != len(stamps_us):
        raise ClipError(f"{label}: {count} frames, but {len(stamps_us)} stamps")

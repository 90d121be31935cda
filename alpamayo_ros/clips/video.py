"""Frames of a video with the stamps of a table beside it, one at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alpamayo_ros.clips.layout import ClipError
from alpamayo_ros.errors import UserError

# Where the display matrix (a, b; c, d) takes x (right) and y (down) -> quarter turns to the left.
_QUARTER_TURNS: dict[tuple[int, ...], int] = {
    (1, 0, 0, 1): 0,
    (0, -1, 1, 0): 1,
    (-1, 0, 0, -1): 2,
    (0, 1, -1, 0): 3,
}


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
    """(stamp in microseconds, (H, W, 3) RGB as shown) by the video's clock. Raises ClipError."""
    for frame in _decoded(path, label):
        if frame.time is None:
            raise ClipError(f"{label}: its frames have no times, as in a bare stream")
        turns = _quarter_turns(frame, label)
        rgb = frame.to_ndarray(format="rgb24")
        # Contiguous: the messages take the pixels as they lie in memory.
        yield round(frame.time * 1e6), np.ascontiguousarray(np.rot90(rgb, turns)) if turns else rgb


def _quarter_turns(frame: Any, label: str) -> int:
    """To the left, as np.rot90 counts them: phones record lying, and say how to show it."""
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return 0
    a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5]
    shown = tuple(int(sign) for sign in np.sign([a, b, c, d]))
    if shown not in _QUARTER_TURNS:
        raise ClipError(
            f"{label} is to be shown mirrored, or turned by no quarter turn; write it as it is "
            f"shown: ffmpeg -i {label} -crf 16 upright.mp4"
        )
    return _QUARTER_TURNS[shown]


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
    """(width, height) of a video as it is shown. Raises ClipError."""
    for _, rgb in timed_frames(path, label):
        return rgb.shape[1], rgb.shape[0]
    raise ClipError(f"{label}: no video can be read: it has no frames")


def video_span_s(path: Path, label: str) -> tuple[float, float] | None:
    """Times of a video's beginning and end; None where its header has none. Raises ClipError."""
    import av

    try:
        with av.open(str(path)) as container:
            if container.duration is None:
                return None
            start = container.start_time or 0
            return start / av.time_base, (start + container.duration) / av.time_base
    except av.FFmpegError as error:
        raise ClipError(f"{label}: no video can be read: {error}") from error

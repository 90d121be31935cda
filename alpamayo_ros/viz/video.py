"""Pictures to an mp4 that plays at the drive's own speed."""

from __future__ import annotations

import tempfile
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alpamayo_ros.errors import UserError

_TICKS_A_SECOND = 10_000  # of presentation times: stamps of 30 Hz cameras to 0.1 ms


def need_av() -> None:
    """Raises UserError where PyAV is missing."""
    try:
        import av  # noqa: F401
    except ImportError as error:
        raise UserError(
            "writing videos needs PyAV, which is not installed: pip install 'alpamayo_ros[viz]'"
        ) from error


class VideoWriter:
    """H.264, a picture at a time; nothing is left under `path` unless all went well."""

    def __init__(self, path: Path, width: int, height: int) -> None:
        self._path, self._size = path, (width, height)
        self._container: Any = None
        self._last_tick = -1

    def __enter__(self) -> VideoWriter:
        need_av()
        import av

        try:
            self._path.absolute().parent.mkdir(parents=True, exist_ok=True)
            self._folder = tempfile.TemporaryDirectory(
                prefix=f".{self._path.name}.", dir=self._path.absolute().parent
            )
            self._part = Path(self._folder.name) / "video.mp4"
            self._container = av.open(str(self._part), "w", options={"movflags": "+faststart"})
        except OSError as error:
            raise UserError(f"cannot write {self._path}: {error.strerror or error}") from error
        stream = self._container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = *self._size, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, _TICKS_A_SECOND)
        stream.options = {"preset": "superfast", "crf": "24"}
        self._stream = stream
        return self

    def add(self, rgb: NDArray[np.uint8], time_s: float) -> None:
        """One (H, W, 3) picture, to be shown from `time_s` on; times have to rise."""
        import av

        tick = round(time_s * _TICKS_A_SECOND)
        if tick <= self._last_tick:
            raise ValueError(f"pictures at {self._last_tick} and then {tick} ticks")
        self._last_tick = tick
        frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
        frame.pts, frame.time_base = tick, Fraction(1, _TICKS_A_SECOND)
        self._container.mux(self._stream.encode(frame))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._container.mux(self._stream.encode())
            self._container.close()
            if kind is None:
                self._part.replace(self._path)
        except OSError as failure:
            raise UserError(f"cannot write {self._path}: {failure.strerror}") from failure
        finally:
            self._folder.cleanup()

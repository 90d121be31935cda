"""Camera messages to RGB pixels, and pixels to the model's size. OpenCV only, no ROS.

Every function takes message data as bytes, memoryview, array.array or numpy without copying it,
returns (H, W, 3) uint8 RGB and raises `ImageError` with the numbers that are wrong.
OpenCV's thread count is process-global and therefore left to the caller.
"""

from __future__ import annotations

import re
import sys
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from alpamayo_ros.types import IMAGE_HEIGHT, IMAGE_WIDTH, ImageError, Resize

Rgb = NDArray[np.uint8]
FIT_POLICIES = ("crop", "letterbox", "stretch")
ASPECT_TOLERANCE = 0.02  # 16:9 is 1.2 % off the model's 576:320, and the reference resizes it whole
MAX_PIXELS = 100_000_000  # a header that claims more is damage, not a camera

# ROS names a Bayer pattern by its first two pixels of row 0 and row 1, OpenCV by the second row's
# second and third: bayer_rggb is OpenCV's "BG".
_BAYER = {
    "rggb": cv2.COLOR_BayerBG2RGB,
    "bggr": cv2.COLOR_BayerRG2RGB,
    "gbrg": cv2.COLOR_BayerGR2RGB,
    "grbg": cv2.COLOR_BayerGB2RGB,
}
_COLOUR: dict[str, tuple[int, int | None]] = {  # name -> channels, conversion
    "mono": (1, cv2.COLOR_GRAY2RGB),
    "rgb": (3, None),
    "bgr": (3, cv2.COLOR_BGR2RGB),
    "rgba": (4, cv2.COLOR_RGBA2RGB),
    "bgra": (4, cv2.COLOR_BGRA2RGB),
}
_GENERIC = {"1": "mono", "3": "bgr", "4": "bgra"}  # cv_bridge's reading of 8UC1, 8UC3, 8UC4
_YUV422 = {
    "yuv422": cv2.COLOR_YUV2RGB_UYVY,
    "uyvy": cv2.COLOR_YUV2RGB_UYVY,
    "yuv422_yuy2": cv2.COLOR_YUV2RGB_YUYV,
    "yuyv": cv2.COLOR_YUV2RGB_YUYV,
}
_NV = {"nv12": cv2.COLOR_YUV2RGB_NV12, "nv21": cv2.COLOR_YUV2RGB_NV21}
_ENCODING = re.compile(
    r"(?:(?P<colour>rgba?|bgra?|mono)|bayer_(?P<bayer>rggb|bggr|gbrg|grbg))(?P<bits>8|16)"
    r"|(?P<generic_bits>8|16)UC(?P<channels>[134])"
)
# BT.601 with video range, as OpenCV's own YUV 4:2:0 conversions use.
_YUV444_TO_RGB = np.array(
    [
        [1.164, 0.0, 1.596, -1.164 * 16 - 1.596 * 128],
        [1.164, -0.391, -0.813, -1.164 * 16 + (0.391 + 0.813) * 128],
        [1.164, 2.018, 0.0, -1.164 * 16 - 2.018 * 128],
    ]
)
_FULL_SCALE_16_TO_8 = 255.0 / 65535.0

_REDUCED = {
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_EOI_SEARCH = 65536  # bytes of padding that a camera may put after the end of a JPEG


def as_bytes(data: Any) -> NDArray[np.uint8]:
    """A message's data as (n,) uint8 without a copy."""
    if isinstance(data, np.ndarray):
        return np.ascontiguousarray(data).reshape(-1).view(np.uint8)
    return np.frombuffer(data, np.uint8)


# --- compressed ---


def check_compressed(data: Any, format: str) -> tuple[int, int]:
    """(height, width) from the header of a complete JPEG or PNG, without decoding it.

    OpenCV decodes a JPEG that was cut off to a picture whose rest is grey and says nothing, so
    the end marker is looked for here. Damage in the middle of a JPEG is not seen.
    """
    raw = as_bytes(data).data
    if "compressedDepth" in format:
        raise ImageError(f"format {format!r} is a depth image, not a camera's")
    if raw[:2] == b"\xff\xd8":
        height, width = _check_jpeg(raw)
    elif raw[:8] == _PNG_SIGNATURE:
        height, width = _check_png(raw)
    else:
        start = bytes(raw[:8]).hex(" ") or "nothing"
        raise ImageError(
            f"{len(raw)} bytes of format {format!r} are neither JPEG nor PNG: they start {start}"
        )
    if not 0 < height * width <= MAX_PIXELS:
        raise ImageError(f"a header that says {width}x{height} pixels (limit {MAX_PIXELS})")
    return height, width


def _check_jpeg(raw: memoryview) -> tuple[int, int]:
    """Walk the segments up to the scan, then look for the end-of-image marker behind it."""
    size, at, total = (0, 0), 2, len(raw)
    while at + 4 <= total:
        if raw[at] != 0xFF:
            raise ImageError(f"JPEG of {total} bytes has no marker at byte {at}")
        marker = raw[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        length = raw[at + 2] << 8 | raw[at + 3]
        if length < 2:
            raise ImageError(f"JPEG segment {marker:#04x} at byte {at} claims {length} bytes")
        # SOF0..SOF15 without DHT (C4), JPG (C8) and DAC (CC)
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC) and at + 9 <= total:
            size = (raw[at + 5] << 8 | raw[at + 6], raw[at + 7] << 8 | raw[at + 8])
        at += 2 + length
        if marker == 0xDA:
            # Inside a scan 0xFF is always followed by 0 or a restart marker: FFD9 is the end.
            if bytes(raw[max(at, total - _EOI_SEARCH) :]).rfind(b"\xff\xd9") < 0:
                raise ImageError(f"JPEG of {total} bytes is cut off: it has no end marker (FFD9)")
            return size
    raise ImageError(f"JPEG of {total} bytes is cut off inside its header")


def _check_png(raw: memoryview) -> tuple[int, int]:
    if len(raw) < 33 or raw[12:16] != b"IHDR":
        raise ImageError(f"PNG of {len(raw)} bytes is cut off inside its header")
    if bytes(raw[-_EOI_SEARCH:]).rfind(b"IEND\xaeB\x60\x82") < 0:
        raise ImageError(f"PNG of {len(raw)} bytes is cut off: it has no IEND chunk")
    return int.from_bytes(raw[20:24], "big"), int.from_bytes(raw[16:20], "big")


def decode_reduced(data: Any, format: str, width: int, height: int) -> Rgb:
    """RGB of a CompressedImage for a picture of `width` x `height`: not smaller, but cheaper.

    A JPEG is decoded at a half, a quarter or an eighth of its size where that is enough.
    """
    rows, columns = check_compressed(data, format)
    shares = (f for f in (8, 4, 2) if columns // f >= width and rows // f >= height)
    share = next(shares, 1)
    if share == 1 or "bayer" in format:
        return decode_compressed(data, format)
    image = cv2.imdecode(as_bytes(data), _REDUCED[share])
    if image is None:
        raise ImageError(f"{columns}x{rows} {format!r} of {len(as_bytes(data))} bytes is corrupt")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)  # type: ignore[return-value]


def decode_compressed(data: Any, format: str) -> Rgb:
    """RGB of a `sensor_msgs/CompressedImage`: JPEG or PNG, told by their first bytes.

    `format` may be what image_transport writes ("rgb8; jpeg compressed bgr8"): what is inside the
    file is standard all the same, except for a Bayer mosaic stored as grey. 16-bit PNG is scaled
    from its full range to 8 bits.
    """
    height, width = check_compressed(data, format)
    mosaic = _ENCODING.fullmatch(format.split(";")[0].strip())
    try:
        if mosaic and mosaic["bayer"] and "compressed bgr8" not in format:
            image = cv2.imdecode(as_bytes(data), cv2.IMREAD_GRAYSCALE)
            code: int | None = _BAYER[mosaic["bayer"]]
        elif hasattr(cv2, "IMREAD_COLOR_RGB"):  # OpenCV 4.11: no second pass over the pixels
            image, code = cv2.imdecode(as_bytes(data), cv2.IMREAD_COLOR_RGB), None
        else:
            image, code = cv2.imdecode(as_bytes(data), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB
        if image is not None and code is not None:
            image = cv2.cvtColor(image, code)
    except cv2.error as error:
        raise ImageError(f"{width}x{height} {format!r} does not decode: {error.err}") from error
    if image is None:
        raise ImageError(f"{width}x{height} {format!r} of {len(as_bytes(data))} bytes is corrupt")
    return image  # type: ignore[return-value]


# --- raw ---


def decode_raw(
    data: Any, encoding: str, height: int, width: int, step: int, is_bigendian: bool = False
) -> Rgb:
    """RGB of a `sensor_msgs/Image`; 16 bits are scaled from full range to 8.

    `step` is a row's length in bytes, padding included (0: none). rgb8 without padding is a view
    of `data`.
    """
    raw = as_bytes(data)
    if not 0 < height * width <= MAX_PIXELS or min(height, width) <= 0:
        raise ImageError(f"{encoding} image of {width}x{height} pixels (limit {MAX_PIXELS})")
    if encoding in _YUV422:
        _even(encoding, height, width, rows=False)
        pixels = _rows(raw, encoding, height, width, 2, step, np.dtype(np.uint8))
        return cv2.cvtColor(pixels, _YUV422[encoding])  # type: ignore[return-value]
    if encoding in _NV or encoding == "nv24":
        return _decode_planar(raw, encoding, height, width, step)
    match = _ENCODING.fullmatch(encoding)
    if match is None:
        raise ImageError(
            f"encoding {encoding!r} is not a colour or grey image of 8 or 16 bits; supported: "
            "rgb, bgr, rgba, bgra, mono, bayer_* with 8 or 16, 8UC and 16UC with 1, 3 or 4, "
            f"{', '.join((*_YUV422, *_NV))}, nv24"
        )
    wide = (match["bits"] or match["generic_bits"]) == "16"
    channels, code = (
        (1, _BAYER[match["bayer"]])
        if match["bayer"]
        else _COLOUR[match["colour"] or _GENERIC[match["channels"]]]
    )
    dtype = np.dtype(np.uint16 if wide else np.uint8)
    if is_bigendian != (sys.byteorder == "big"):
        dtype = dtype.newbyteorder()
    pixels = _rows(raw, encoding, height, width, channels, step, dtype)
    if wide:
        native = np.ascontiguousarray(pixels, np.uint16)
        pixels = cv2.convertScaleAbs(native, alpha=_FULL_SCALE_16_TO_8)
    if code is None:
        return np.ascontiguousarray(pixels)
    return cv2.cvtColor(pixels, code)  # type: ignore[return-value]


def _rows(
    raw: NDArray[np.uint8],
    encoding: str,
    rows: int,
    width: int,
    channels: int,
    step: int,
    dtype: np.dtype[Any],
) -> NDArray[Any]:
    """(rows, width[, channels]) view of rows that lie `step` bytes apart."""
    row_bytes = width * channels * dtype.itemsize
    step = step or row_bytes
    if step < row_bytes:
        raise ImageError(f"{encoding} {width} wide needs {row_bytes} bytes a row, step is {step}")
    needed = step * (rows - 1) + row_bytes
    if len(raw) < needed:
        raise ImageError(
            f"{encoding} {width}x{rows} with step {step} needs {needed} bytes, has {len(raw)}"
        )
    shape = (rows, width) if channels == 1 else (rows, width, channels)
    strides = (step, channels * dtype.itemsize, dtype.itemsize)[: len(shape)]
    return np.ndarray(shape, dtype, buffer=raw.data, strides=strides)


def _decode_planar(
    raw: NDArray[np.uint8], encoding: str, height: int, width: int, step: int
) -> Rgb:
    """Y plane, then one plane of interleaved chroma: half size (nv12, nv21) or full (nv24)."""
    full = encoding == "nv24"
    _even(encoding, height, width, rows=not full)
    chroma_rows = 2 * height if full else height // 2
    # Drivers disagree on the step of planar images (sensor_msgs counts two channels); data of
    # exactly the unpadded size settles it.
    if len(raw) == (height + chroma_rows) * width:
        step = width
    planes = _rows(raw, encoding, height + chroma_rows, width, 1, step, np.dtype(np.uint8))
    step = step or width
    luma, offset = planes[:height], step * height
    if full:
        chroma = np.ndarray((height, width, 2), np.uint8, raw.data, offset, (2 * step, 2, 1))
        yuv = cv2.merge([luma, *cv2.split(chroma)])
        return cv2.transform(yuv, _YUV444_TO_RGB)  # type: ignore[return-value]
    chroma = np.ndarray((height // 2, width // 2, 2), np.uint8, raw.data, offset, (step, 2, 1))
    return cv2.cvtColorTwoPlane(luma, chroma, _NV[encoding])  # type: ignore[return-value]


def _even(encoding: str, height: int, width: int, *, rows: bool) -> None:
    if width % 2 or (rows and height % 2):
        raise ImageError(f"{encoding} shares chroma between pixels: {width}x{height} is odd")


# --- the model's size ---


def to_model_size(rgb: Rgb, policy: str = "crop", resize: Resize | None = None) -> Rgb:
    """(H, W, 3) to the model's (320, 576, 3), by the filter `resize` or else by ours.

    An aspect ratio within 2 % of 576:320 is resized whole, as the reference does; any other is
    cut about the centre ("crop"), set between black bars ("letterbox") or distorted ("stretch").
    """
    if policy not in FIT_POLICIES:
        raise ValueError(f"resize policy {policy!r} is none of {', '.join(FIT_POLICIES)}")
    height, width = rgb.shape[:2]
    scale_y, scale_x = IMAGE_HEIGHT / height, IMAGE_WIDTH / width
    if policy == "stretch" or abs(scale_y / scale_x - 1.0) <= ASPECT_TOLERANCE:
        return _resize(rgb, IMAGE_WIDTH, IMAGE_HEIGHT, resize)
    if policy == "crop":
        scale = max(scale_y, scale_x)
        rows, columns = round(IMAGE_HEIGHT / scale), round(IMAGE_WIDTH / scale)
        top, left = (height - rows) // 2, (width - columns) // 2
        cut = rgb[top : top + rows, left : left + columns]
        return _resize(cut, IMAGE_WIDTH, IMAGE_HEIGHT, resize)
    scale = min(scale_y, scale_x)
    rows, columns = max(1, round(height * scale)), max(1, round(width * scale))
    top, left = (IMAGE_HEIGHT - rows) // 2, (IMAGE_WIDTH - columns) // 2
    framed = np.zeros((IMAGE_HEIGHT, IMAGE_WIDTH, 3), np.uint8)
    framed[top : top + rows, left : left + columns] = _resize(rgb, columns, rows, resize)
    return framed


def _resize(rgb: Rgb, width: int, height: int, resize: Resize | None) -> Rgb:
    """By `resize`, else area averaging to shrink (it does not alias), bicubic to enlarge."""
    if rgb.shape[:2] == (height, width):
        return rgb
    if resize is not None:
        resized = resize(np.ascontiguousarray(rgb), width, height)
        if resized.shape != (height, width, 3) or resized.dtype != np.uint8:
            raise ImageError(
                f"the model's filter gave {resized.dtype} {resized.shape}, wanted uint8 "
                f"{(height, width, 3)}"
            )
        return resized
    # Averaging 2 x 2 is 10 times as fast as averaging 3.375 x 3.375: halve first, as long as it
    # leaves enough. Against the reference's filter at 1080p the mean error goes from 0.36 to 0.49
    # grey levels (test_images.py).
    while _halves(rgb, width, height):
        half = (rgb.shape[1] // 2, rgb.shape[0] // 2)
        rgb = cv2.resize(rgb, half, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    shrinks = width <= rgb.shape[1] and height <= rgb.shape[0]
    mode = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return cv2.resize(rgb, (width, height), interpolation=mode)  # type: ignore[return-value]


def _halves(rgb: Rgb, width: int, height: int) -> bool:
    """Whether both sides are even and at least twice what is wanted."""
    rows, columns = rgb.shape[:2]
    return rows >= 2 * height and columns >= 2 * width and rows % 2 == 0 and columns % 2 == 0

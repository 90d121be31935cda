"""Pixels: every encoding to the same RGB, padding honoured, damage refused, layout (H, W, 3)."""

from __future__ import annotations

import array
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from scene import SPOTS, H, W, scene

from alpamayo_ros.images import (
    check_compressed,
    decode_compressed,
    decode_raw,
)
from alpamayo_ros.types import ImageError

GOLDEN = Path(__file__).resolve().parents[2] / "shared" / "golden" / "parts_preprocess.npz"


def mosaic(pattern: str) -> np.ndarray:
    """The scene as a sensor with this pattern sees it."""
    rgb, out = scene(), np.empty((H, W), np.uint8)
    for k, letter in enumerate(pattern):
        row, column = divmod(k, 2)
        out[row::2, column::2] = rgb[row::2, column::2, "rgb".index(letter)]
    return out


def yuv444() -> np.ndarray:
    """(H, W, 3) Y, U, V of BT.601 video range."""
    matrix = np.array([[65.481, 128.553, 24.966], [-37.797, -74.203, 112], [112, -93.786, -18.214]])
    yuv = scene() / 255.0 @ matrix.T + np.array([16, 128, 128])
    return np.round(yuv).astype(np.uint8)


def yuv422(order: str) -> np.ndarray:
    """(H, W, 2) packed, e.g. "uyvy"."""
    yuv = yuv444()
    chroma_first = order[0] == "u"
    out = np.empty((H, W, 2), np.uint8)
    out[..., 1 if chroma_first else 0] = yuv[..., 0]
    chroma = out[..., 0 if chroma_first else 1]
    chroma[:, 0::2], chroma[:, 1::2] = yuv[:, 0::2, 1], yuv[:, 0::2, 2]
    return out


def nv(order: str, full: bool = False) -> np.ndarray:
    """Planes below each other, (rows, W)."""
    yuv = yuv444()
    chroma = yuv[..., 1:] if full else yuv[0::2, 0::2, 1:]
    if order == "vu":
        chroma = chroma[..., ::-1]
    return np.concatenate([yuv[..., 0], chroma.reshape(-1, W)])


def alpha(rgb: np.ndarray) -> np.ndarray:
    return np.dstack([rgb, np.full(rgb.shape[:2], 255, np.uint8)])


ENCODINGS: dict[str, Callable[[], np.ndarray]] = {
    "rgb8": scene,
    "bgr8": lambda: scene()[..., ::-1],
    "rgba8": lambda: alpha(scene()),
    "bgra8": lambda: alpha(scene()[..., ::-1]),
    "8UC3": lambda: scene()[..., ::-1],
    "8UC4": lambda: alpha(scene()[..., ::-1]),
    "rgb16": lambda: scene().astype(np.uint16) * 257,
    "bgr16": lambda: scene()[..., ::-1].astype(np.uint16) * 257,
    "bgra16": lambda: alpha(scene()[..., ::-1]).astype(np.uint16) * 257,
    "16UC3": lambda: scene()[..., ::-1].astype(np.uint16) * 257,
    "uyvy": lambda: yuv422("uyvy"),
    "yuv422": lambda: yuv422("uyvy"),
    "yuyv": lambda: yuv422("yuyv"),
    "yuv422_yuy2": lambda: yuv422("yuyv"),
    "nv12": lambda: nv("uv"),
    "nv21": lambda: nv("vu"),
    "nv24": lambda: nv("uv", full=True),
    **{f"bayer_{p}8": (lambda p=p: mosaic(p)) for p in ("rggb", "bggr", "gbrg", "grbg")},
    **{
        f"bayer_{p}16": (lambda p=p: mosaic(p).astype(np.uint16) * 257)
        for p in ("rggb", "bggr", "gbrg", "grbg")
    },
}


def padded(pixels: np.ndarray, padding: int) -> tuple[bytes, int]:
    """Rows of bytes with `padding` bytes of garbage after each, and the step."""
    rows = np.ascontiguousarray(pixels).reshape(len(pixels), -1).view(np.uint8)
    if padding:
        rows = np.hstack([rows, np.full((len(rows), padding), 0x5A, np.uint8)])
    return rows.tobytes(), rows.shape[1]


def assert_is_scene(rgb: np.ndarray, tolerance: int = 4) -> None:
    """Bug 14 of PEERS.md: a layout or channel order swapped once in production."""
    assert rgb.shape == (H, W, 3) and rgb.dtype == np.uint8
    for (row, column), colour in SPOTS.items():
        difference = np.abs(rgb[row, column].astype(int) - colour).max()
        assert difference <= tolerance, f"{(row, column)}: {rgb[row, column]} is not {colour}"


@pytest.mark.parametrize("padding", [0, 8])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_encoding_gives_the_scene(encoding: str, padding: int) -> None:
    pixels = ENCODINGS[encoding]()
    # The chroma rows of nv24 are two steps long: pad the plane's own rows.
    if encoding == "nv24":
        pixels = pixels.reshape(-1, W)
    data, step = padded(pixels, padding)
    if encoding == "nv24" and padding:
        chroma = np.hstack([pixels[H:].reshape(H, 2 * W), np.zeros((H, 2 * padding), np.uint8)])
        data = data[: H * step] + chroma.tobytes()
    assert_is_scene(decode_raw(data, encoding, H, W, step))


@pytest.mark.parametrize("encoding", ["mono8", "8UC1", "mono16", "16UC1"])
@pytest.mark.parametrize("big", [False, True])
def test_grey(encoding: str, big: bool) -> None:
    """16 bits scale from full range; big-endian data is swapped."""
    grey = np.arange(H * W, dtype=np.uint32).reshape(H, W) % 256
    if "16" in encoding:
        data, step = padded((grey * 257).astype(">u2" if big else "<u2"), 6)
    else:
        data, step = padded(grey.astype(np.uint8), 6)
    rgb = decode_raw(data, encoding, H, W, step, big)
    np.testing.assert_array_equal(rgb, np.repeat(grey[..., None], 3, axis=2))


def test_data_types_and_copies() -> None:
    """bytes, memoryview, array.array and numpy all do; rgb8 without padding is not copied."""
    pixels = scene()
    for data in (
        pixels.tobytes(),
        memoryview(pixels.tobytes()),
        array.array("B", pixels.tobytes()),
        pixels.reshape(-1),
    ):
        assert_is_scene(decode_raw(data, "rgb8", H, W, 3 * W), 0)
    assert np.shares_memory(decode_raw(pixels.reshape(-1), "rgb8", H, W, 3 * W), pixels)


def test_planar_with_a_step_of_two_channels() -> None:
    """sensor_msgs counts two channels for nv21; the data's size says otherwise."""
    assert_is_scene(decode_raw(nv("vu").tobytes(), "nv21", H, W, 2 * W))


@pytest.mark.parametrize(
    "encoding, height, width, step, message",
    [
        ("rgb8", H, W, 3 * W - 1, "needs 120 bytes a row, step is 119"),
        ("rgb8", H + 1, W, 3 * W, "needs 3000 bytes, has 2880"),
        ("mono16", 2 * H, W, 0, "needs 3840 bytes, has 2880"),
        ("32FC1", H, W, 0, "32FC1.*supported"),
        ("8UC2", H, W, 0, "supported"),
        ("nv12", H, W + 1, 0, "odd"),
        ("uyvy", 1, 3, 0, "odd"),
        ("rgb8", 0, W, 0, "40x0"),
        ("rgb8", 100_000, 100_000, 0, "limit"),
        ("nv12", 2 * H, 2 * W, 0, "needs"),
    ],
)
def test_raw_that_cannot_be(
    encoding: str, height: int, width: int, step: int, message: str
) -> None:
    with pytest.raises(ImageError, match=message):
        decode_raw(scene().tobytes(), encoding, height, width, step)


def encoded(suffix: str, image: Any = None) -> bytes:
    image = scene()[..., ::-1] if image is None else image
    done, data = cv2.imencode(suffix, image, [cv2.IMWRITE_JPEG_QUALITY, 95])
    assert done
    return bytes(data)


@pytest.mark.parametrize(
    "suffix, format",
    [
        (".jpg", "jpeg"),
        (".jpg", "rgb8; jpeg compressed bgr8"),
        (".jpg", ""),
        (".png", "png"),
        (".png", "bgr8; png compressed bgr8"),
        (".png", "jpeg"),
    ],
)
def test_compressed(suffix: str, format: str) -> None:
    """The first bytes decide, whatever the driver writes as the format."""
    data = encoded(suffix)
    assert check_compressed(data, format) == (H, W)
    assert_is_scene(decode_compressed(data, format), 12)
    assert_is_scene(decode_compressed(array.array("B", data), format), 12)


def test_grey_alpha_16_bit_and_mosaic() -> None:
    grey = np.full((H, W), 77, np.uint8)
    assert (decode_compressed(encoded(".png", grey), "png") == 77).all()
    assert (decode_compressed(encoded(".jpg", grey), "jpeg") == 77).all()
    deep = grey.astype(np.uint16) * 257
    assert (decode_compressed(encoded(".png", deep), "mono16; png compressed mono16") == 77).all()
    assert_is_scene(decode_compressed(encoded(".png", alpha(scene()[..., ::-1])), "png"))
    data = encoded(".png", mosaic("grbg"))
    assert_is_scene(decode_compressed(data, "bayer_grbg8; png compressed grbg8"))


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.6, 0.95])
def test_cut_off_is_refused(suffix: str, share: float) -> None:
    """OpenCV gives a half-grey picture for a cut-off JPEG, and no error."""
    rng = np.random.default_rng(1)
    data = encoded(suffix, rng.integers(0, 256, (64, 96, 3), np.uint8))
    cut = data[: int(len(data) * share)]
    for function in (check_compressed, decode_compressed):
        with pytest.raises(ImageError, match="cut off|neither"):
            function(cut, "jpeg")


def test_padding_after_the_end_is_no_damage() -> None:
    """USB cameras fill their buffers with zeros."""
    assert check_compressed(encoded(".jpg") + bytes(1000), "jpeg") == (H, W)
    assert_is_scene(decode_compressed(encoded(".png") + bytes(1000), "png"))


def test_a_thumbnail_s_end_is_not_the_image_s() -> None:
    """An EXIF thumbnail has an end marker of its own, before the scan."""
    data = encoded(".jpg")
    exif = b"\xff\xe1\x00\x0aExif\xff\xd9\x00\x00"
    whole = data[:2] + exif + data[2:]
    assert check_compressed(whole, "jpeg") == (H, W)
    with pytest.raises(ImageError, match="no end marker"):
        check_compressed(whole[:-2], "jpeg")


def test_other_damage() -> None:
    with pytest.raises(ImageError, match="neither JPEG nor PNG: they start 00 00"):
        decode_compressed(bytes(100), "jpeg")
    with pytest.raises(ImageError, match="0 bytes .* nothing"):
        decode_compressed(b"", "jpeg")
    with pytest.raises(ImageError, match="depth"):
        check_compressed(b"", "16UC1; compressedDepth png")
    png = bytearray(encoded(".png"))
    png[16:24] = (60_000).to_bytes(4, "big") * 2  # a header that asks for 10 GB
    with pytest.raises(ImageError, match="60000x60000"):
        decode_compressed(bytes(png), "png")


@pytest.mark.parametrize("seed", range(200))
def test_any_bytes_give_an_image_or_an_image_error(seed: int) -> None:
    rng = np.random.default_rng(seed)
    data = bytearray(encoded(".jpg" if seed % 2 else ".png"))
    for at in rng.integers(0, len(data), 1 + seed % 30):
        data[at] = rng.integers(0, 256)
    with contextlib.suppress(ImageError):
        assert decode_compressed(bytes(data), "jpeg").ndim == 3

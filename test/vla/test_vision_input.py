"""Images to patches: the reference's pixels, and what a mistaken image would give."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from vla.qwen_vocabulary import GOLDEN, needs_golden

from alpamayo_ros.errors import ModelError
from alpamayo_ros.vla.vision_input import (
    VisionConfig,
    patchify,
    resize,
    resize_in_float,
    smart_resize,
    vision_input,
)

ANY_SIZE = VisionConfig(min_pixels=32 * 32, max_pixels=196_608)


def golden() -> Any:
    return np.load(GOLDEN / "parts_preprocess.npz")


@lru_cache(maxsize=1)
def full_hd() -> NDArray[np.uint8]:
    """The golden arrays' source, (1080, 1920, 3)."""
    rng = np.random.default_rng(501)
    yy, xx = np.mgrid[0:1080, 0:1920]
    waves = [127 + 120 * np.sin(xx / 97 + c) * np.cos(yy / 61 - c) for c in range(3)]
    image = np.clip(np.round(np.stack(waves)), 0, 255).astype(np.uint8)
    image[:, 300:500, 600:900] = rng.integers(0, 256, (3, 200, 300), np.uint8)
    image[:, 700:720] = 255
    image[:, :, 1000:1004] = 0
    assert hashlib.sha256(image.tobytes()).hexdigest() == str(golden()["input_sha256"])
    return np.ascontiguousarray(image.transpose(1, 2, 0))


@needs_golden
def test_the_reference_s_sizes() -> None:
    arrays = golden()
    ours = [smart_resize(*size) for size in arrays["sizes_in"].tolist()]
    np.testing.assert_array_equal(ours, arrays["sizes_out"])


@needs_golden
def test_the_reference_s_pixels() -> None:
    """Resized uint8 exact, patches exact to float32's last bit."""
    arrays = golden()
    resized = resize(torch.from_numpy(full_hd())[None], 320, 576)
    np.testing.assert_array_equal(resized[0].permute(2, 0, 1), arrays["resized_uint8"])
    found = vision_input(full_hd())
    compare(found.pixel_values)
    np.testing.assert_array_equal(found.image_grid_thw, arrays["grid"])
    assert found.pixel_values.dtype == torch.float32 and found.image_grid_thw.dtype == torch.int64


def compare(pixel_values: torch.Tensor) -> None:
    """With the golden rows: 1e-6, the last bit of a float32 near 1; and the whole's mean and
    deviation (of float32 sums: 1e-5)."""
    arrays = golden()
    assert pixel_values.shape == (720, 1536)
    np.testing.assert_allclose(pixel_values[:8], arrays["pixel_values_first_rows"], atol=1e-6)
    rows = arrays["pixel_values_rows_100_104"]
    np.testing.assert_allclose(pixel_values[100:104], rows, atol=1e-6)
    moments = float(pixel_values.double().mean()), float(pixel_values.double().std())
    np.testing.assert_allclose(moments, arrays["pixel_values_mean_std"], atol=1e-5)


@needs_golden
@pytest.mark.parametrize("fault", ("BGR", "mirrored", "turned", "CHW read as HWC", "plain order"))
def test_a_mistaken_image_is_seen(fault: str) -> None:
    """None passes the comparison above; channels first are refused outright."""
    image = resize(torch.from_numpy(full_hd())[None], 320, 576)
    if fault == "BGR":
        wrong = patchify(image.flip(-1))
    elif fault == "mirrored":
        wrong = patchify(image.flip(2))
    elif fault == "turned":
        wrong = patchify(image.transpose(1, 2).contiguous())
    elif fault == "CHW read as HWC":
        wrong = patchify(image.permute(0, 3, 1, 2).reshape(1, 320, 576, 3))
    else:  # patches row by row, where the encoder wants them in twos by two
        wrong = patchify(image, VisionConfig(patch=16, merge=1))
    with pytest.raises(AssertionError):
        compare(wrong)


def test_channels_first_are_refused() -> None:
    """The release's own layout, and others that are none of ours."""
    with pytest.raises(ModelError, match=r"uint8 of shape \(4, 4, 3, 320, 576\), wanted uint8 RGB"):
        vision_input(np.zeros((4, 4, 3, 320, 576), np.uint8))
    with pytest.raises(ModelError, match="float32 of shape"):
        vision_input(np.zeros((320, 576, 3), np.float32))
    with pytest.raises(ModelError, match="empty"):
        vision_input(np.zeros((0, 4, 320, 576, 3), np.uint8))
    with pytest.raises(ModelError, match="576x321 pixels do not divide"):
        patchify(torch.zeros((1, 321, 576, 3), dtype=torch.uint8))
    with pytest.raises(ModelError, match="3000x10 pixels"):
        smart_resize(10, 3000)


@needs_golden
def test_without_a_kernel_for_uint8() -> None:
    """What another device computes: a grey level off in 1 of 50 values at most, two hardly ever."""
    planes = torch.from_numpy(full_hd()).permute(2, 0, 1)[None]
    wanted = torch.from_numpy(golden()["resized_uint8"])[None].int()
    off = (resize_in_float(planes, 320, 576).int() - wanted).abs()
    assert int(off.max()) <= 2 and float((off > 0).float().mean()) < 0.02
    assert int((off > 1).sum()) < 30  # of 552,960


def test_every_pixel_has_its_place() -> None:
    """Walked along one by one: patch, colour, frame, row, column."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (64, 96, 3), np.uint8)
    found = vision_input(image, ANY_SIZE).pixel_values.reshape(4, 6, 3, 2, 16, 16)
    rows = iter(found.reshape(24, 3, 2, 16, 16))
    for block_y, block_x, y, x in np.ndindex(2, 3, 2, 2):
        top, left = 32 * block_y + 16 * y, 32 * block_x + 16 * x
        pixels = image[top : top + 16, left : left + 16].transpose(2, 0, 1).astype(np.float32)
        patch = next(rows)
        for frame in range(2):
            np.testing.assert_array_equal(patch[:, frame], (pixels - 127.5) / 127.5)


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 3), st.integers(1, 4), st.sampled_from(((32, 64), (50, 70), (96, 32))))
def test_a_sample_is_its_frames(cameras: int, frames: int, size: tuple[int, int]) -> None:
    """(C, F, H, W, 3) at once gives what each frame gives alone, camera by camera."""
    rng = np.random.default_rng(cameras * 10 + frames)
    images = rng.integers(0, 256, (cameras, frames, *size, 3), np.uint8)
    images.flags.writeable = False  # as a PlannerSample's are
    together = vision_input(images, ANY_SIZE)
    alone = [vision_input(images[c, f], ANY_SIZE) for c in range(cameras) for f in range(frames)]
    np.testing.assert_array_equal(
        together.pixel_values, torch.cat([one.pixel_values for one in alone])
    )
    grids = torch.cat([one.image_grid_thw for one in alone])
    np.testing.assert_array_equal(together.image_grid_thw, grids)
    assert len(together.pixel_values) == int(grids.prod(dim=1).sum())


@given(st.integers(20, 4000), st.integers(20, 4000))
def test_sizes_are_within_their_limits(height: int, width: int) -> None:
    """Multiples of 32; never above the maximum (aspect ratios aside that 32 rows cannot hold)."""
    rows, columns = smart_resize(height, width)
    assert rows % 32 == columns % 32 == 0 and min(rows, columns) >= 32
    if max(height, width) < 20 * min(height, width):
        assert 163_840 * 0.8 <= rows * columns <= 196_608 or rows * columns >= 163_840
    if rows > 32 and columns > 32:
        # What rounding leaves too small is enlarged, by up to a whole 32 in each direction.
        rounded = 32 * round(height / 32) * 32 * round(width / 32)
        assert rows * columns <= 196_608 or min(rounded, height * width) < 163_840


def test_what_fits_is_left_alone() -> None:
    """A frame of the model's size is not touched: the node has resized it."""
    frames = torch.arange(320 * 576 * 3).to(torch.uint8).reshape(1, 320, 576, 3)
    assert resize(frames, 320, 576) is frames

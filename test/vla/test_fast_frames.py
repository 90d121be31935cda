"""Frames through `fast`: equal to the encoder, and reused bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from vla import small_model as small

from alpamayo_ros.vla import generation
from alpamayo_ros.vla.fast.frame_cache import FrameCache
from alpamayo_ros.vla.fast.runtime import FastRuntime
from alpamayo_ros.vla.fast.vision import FastVision
from alpamayo_ros.vla.generation import ImageFeatures
from alpamayo_ros.vla.vision_input import vision_input

CAMERAS = (1, 6)
STEP_NS = 100_000_000


def frame(camera: int, stamp_ns: int) -> NDArray[np.uint8]:
    """A picture that its camera and stamp alone decide, at a quarter of the model's size."""
    rng = np.random.default_rng((camera, stamp_ns // STEP_NS))
    return rng.integers(0, 256, (320, 576, 3), np.uint8)


def window(stamps: list[list[int]]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images (2, 4, H, W, 3) and stamps (2, 4) of a window, in steps of 100 ms."""
    images = [[frame(c, s * STEP_NS) for s in row] for c, row in zip(CAMERAS, stamps)]
    return np.array(images), np.array(stamps, np.int64) * STEP_NS


def same(ours: ImageFeatures, theirs: ImageFeatures) -> bool:
    pairs = [(ours.embeddings, theirs.embeddings), *zip(ours.deepstack, theirs.deepstack)]
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("group", [1, 4])
def test_reuse_is_bit_identical(group: int) -> None:
    """Over a moving window, drops, a gap, a frame twice and a reset: as if nothing were kept."""
    runtime, fresh = (FastRuntime(small.model("1.5"), group) for _ in range(2))
    ticks = [
        [[1, 2, 3, 4], [1, 2, 3, 4]],
        [[2, 3, 4, 5], [2, 3, 4, 5]],
        [[3, 4, 5, 6], [2, 3, 4, 6]],  # a camera drops a frame
        [[5, 6, 6, 8], [4, 6, 7, 8]],  # a frame fills two places
        [[30, 31, 32, 33], [30, 31, 32, 33]],  # a gap
        [[1, 2, 3, 4], [1, 2, 3, 4]],  # another run
        [[2, 3, 4, 5], [2, 3, 4, 5]],
    ]
    encoded = []
    for stamps in ticks:
        before = runtime.frames.misses
        ours = runtime.see(*window(stamps), CAMERAS)
        encoded.append(runtime.frames.misses - before)
        fresh.frames.clear()
        assert same(ours, fresh.see(*window(stamps), CAMERAS))
    assert encoded == [8, 2, 2, 3, 8, 8, 2]


def test_frames_do_not_depend_on_their_neighbours() -> None:
    """Each alone, together, in another order: the same bits."""
    vision = FastVision(small.model("r1"), 4)
    frames = torch.from_numpy(np.stack([frame(1, s * STEP_NS) for s in range(6)]))
    with torch.inference_mode():
        together = vision.encode_frames(frames)
        backwards = vision.encode_frames(frames.flip(0))[::-1]
        for i in range(6):
            alone = vision.encode_frames(frames[i : i + 1])[0]
            assert same(alone, together[i])
            assert same(alone, backwards[i])


@pytest.mark.parametrize("group", [1, 4])
@pytest.mark.parametrize("size", [(320, 576), (240, 320)])
def test_equal_to_the_encoder(group: int, size: tuple[int, int]) -> None:
    model = small.model("1.5")
    frames = np.random.default_rng(0).integers(0, 256, (3, *size, 3), np.uint8)
    pictures = vision_input(frames)
    vision = FastVision(model, group)
    with torch.inference_mode():
        eager = generation.see(model, pictures.pixel_values, pictures.image_grid_thw)
        found = vision.encode_frames(torch.from_numpy(frames))
        patches = vision.encode_pixel_values(pictures.pixel_values, pictures.image_grid_thw)
    ours = torch.cat([one.embeddings for one in found])
    torch.testing.assert_close(ours, eager.embeddings, rtol=0, atol=1e-4)
    torch.testing.assert_close(patches.embeddings, eager.embeddings, rtol=0, atol=1e-4)
    for i, layer in enumerate(eager.deepstack):
        torch.testing.assert_close(patches.deepstack[i], layer, rtol=0, atol=1e-4)


def test_patches_of_moving_halves() -> None:
    """Patches whose temporal halves differ come from no frame, and are not folded."""
    model = small.model("r1")
    patches, grid = small.pictures(3)
    with torch.inference_mode():
        eager = generation.see(model, patches, grid)
        ours = FastVision(model).encode_pixel_values(patches, grid)
    torch.testing.assert_close(ours.embeddings, eager.embeddings, rtol=0, atol=1e-4)


def test_the_cache_is_bounded_and_knows_pixels() -> None:
    """The oldest go first; a stamp that comes again with other pixels is encoded again."""
    cache = FrameCache(capacity=6)
    calls: list[int] = []

    def encode(frames: NDArray[np.uint8]) -> list[ImageFeatures]:
        calls.append(len(frames))
        return [
            ImageFeatures(torch.tensor([[float(one.sum())]], dtype=torch.float64), [])
            for one in frames
        ]

    for start in range(5):
        images, stamps = window([[start + i for i in range(4)]] * 2)
        cache.features(images[:1], stamps[:1], CAMERAS[:1], encode)
    assert len(cache) == 6
    assert calls == [4, 1, 1, 1, 1]
    cache.features(images[:1], stamps[:1], CAMERAS[:1], encode)
    changed = images[:1].copy()
    changed[0, 2] = 255 - changed[0, 2]
    made = cache.features(changed, stamps[:1], CAMERAS[:1], encode)
    assert calls == [4, 1, 1, 1, 1, 1]
    assert made[2].embeddings.item() == float(changed[0, 2].sum())
    cache.features(changed[:, :, ::2], stamps[:1], CAMERAS[:1], encode)  # another size
    assert calls[-1] == 4

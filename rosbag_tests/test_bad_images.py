"""Images that do not decode, or are not what they claim: they cost frames, never the process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from drive import Drive, camera_topics, jpeg, raw_image
from harness import START_S, Bench


def _truncated(image: Any) -> Any:
    image.data = image.data[: len(image.data) // 2]
    return image


def _garbage(image: Any) -> Any:
    image.data = b"\xff\xd8" + bytes(range(256)) * 4
    return image


def _empty(image: Any) -> Any:
    image.data = b""
    return image


def _unknown_encoding(image: Any) -> Any:
    image.encoding = "smell8"
    return image


def _too_tall(image: Any) -> Any:
    image.height = 1000
    return image


def _damage_for_a_while(bench: Bench, drive: Drive, damage: Callable[[Any], Any]) -> None:
    """Until a rejection names cross_left; then until plans have come again."""
    since = len(bench.statuses)
    drive.mutate = lambda camera, image: damage(image) if camera == "cross_left" else image
    bench.wait(
        lambda: [s for s in bench.statuses[since:] if s.source == "cross_left"],
        5.0,
        "rejection that names cross_left",
    )
    drive.mutate = lambda camera, image: image
    bench.wait_plans(3)


@pytest.mark.parametrize(
    ("raw", "damages"),
    [(False, (_truncated, _garbage, _empty)), (True, (_truncated, _unknown_encoding, _too_tall))],
    ids=["compressed", "raw"],
)
def test_damaged_images(bench: Bench, raw: bool, damages: tuple[Callable[[Any], Any], ...]) -> None:
    """A camera whose images are damaged: rejections name it and say why; then plans come again."""
    planner = bench.start_planner(autostart=True, camera_topics=camera_topics(raw))
    drive = Drive(bench.node, raw=raw)
    bench.wait(lambda: drive.connected, START_S, "subscriptions")
    drive.start()
    bench.wait_plans(2)
    for damage in damages:
        _damage_for_a_while(bench, drive, damage)
    assert planner.alive
    source = next(s for s in bench.statuses[-1].sources if s.name == "cross_left")
    assert source.last_error or any(s.reason == "image_unreadable" for s in bench.statuses)


def test_every_camera_damaged(bench: Bench) -> None:
    """All four cameras send garbage from the start: a stop, a reason, and recovery."""
    planner = bench.start_planner(autostart=True)
    drive = Drive(bench.node)
    drive.mutate = lambda camera, image: _garbage(image)
    bench.wait(lambda: drive.connected, START_S, "subscriptions")
    drive.start()
    bench.wait(lambda: [s for s in bench.statuses if s.reason], 5.0, "rejection")
    assert not bench.planned
    drive.mutate = lambda camera, image: image
    bench.wait_plans(2)
    assert planner.alive


@pytest.mark.parametrize("raw", [False, True], ids=["compressed", "raw"])
def test_cameras_of_different_sizes(bench: Bench, raw: bool) -> None:
    """Each camera of another size, one changing from frame to frame: planned from all the same."""
    sizes = {"front_wide": (120, 160), "front_tele": (48, 300), "cross_left": (300, 48)}
    bench.start_planner(autostart=True, camera_topics=camera_topics(raw))
    drive = Drive(bench.node, raw=raw)
    count = 0

    def resized(camera: str, image: Any) -> Any:
        nonlocal count
        count += 1
        height, width = sizes.get(camera, (80 + 16 * (count % 3), 144))
        if not raw:
            image.data = jpeg(height, width, count % 5)
            return image
        other = raw_image(height, width, count % 5)
        return other

    drive.mutate = resized
    bench.wait(lambda: drive.connected, START_S, "subscriptions")
    drive.start()
    bench.wait_plans(5)
    assert not [s.reason for s in bench.statuses if s.reason == "image_unreadable"]

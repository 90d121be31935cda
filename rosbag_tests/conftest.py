"""Fixtures of the process tests: a bench, a generated recording, recordings of others."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parent))  # harness and drive, by their names

from harness import Bench

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
GENERATED_SECONDS = 7.0


@pytest.fixture
def bench() -> Iterator[Bench]:
    """Processes in a ROS domain of their own."""
    with Bench() as bench:
        yield bench


@pytest.fixture(scope="session")
def generated_bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A rendered drive of 7 s: four cameras at 10 Hz, odometry at 50 Hz."""
    from alpamayo_ros.world.record import RecordOptions, record

    path = tmp_path_factory.mktemp("bags") / "drive"
    record(path, RecordOptions(seconds=GENERATED_SECONDS, seed=3))
    return path


@pytest.fixture(scope="session")
def kitti06() -> Path:
    """A real drive: KITTI odometry 06, if it is on this machine."""
    path = SHARED_DATA / "kitti06"
    if not path.exists():
        pytest.skip("needs the KITTI recording in ../shared/data/kitti06")
    return path


@pytest.fixture
def manifest(tmp_path: Path) -> Callable[..., str]:
    """Writes the manifest of a backend of planner_with_test_backends.py, and gives its path."""

    def write(
        takes_navigation: bool = False,
        maximum: int = 7,
        takes_questions: bool = False,
        note: str = "",
        **options: Any,
    ) -> str:
        path = tmp_path / "model.yaml"
        content = {
            "name": "test_model",
            "backend": "test",
            "licence": "Apache-2.0",
            "cameras": {"minimum": 1, "maximum": maximum},
            "takes_navigation": takes_navigation,
            "takes_questions": takes_questions,
            "note": note,
            "options": options,
        }
        path.write_text(yaml.safe_dump(content))
        return str(path)

    return write

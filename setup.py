"""For `pip install` without ROS: everything but the messages. In a workspace colcon uses CMake."""

from pathlib import Path

from setuptools import setup


def shared(folder: str) -> list[tuple[str, list[str]]]:
    """`folder` and all below it, as data files under share/alpamayo_ros."""
    targets: dict[str, list[str]] = {}
    for file in sorted(Path(folder).rglob("*")):
        if file.is_file() and file.suffix != ".pyc" and "plain_ros" not in file.parts:
            targets.setdefault(f"share/alpamayo_ros/{file.parent}", []).append(str(file))
    return sorted(targets.items())


SHARED = ("config", "launch", "models", "msg", "srv")

setup(
    data_files=[
        *(entry for folder in SHARED for entry in shared(folder)),
        ("share/alpamayo_ros", ["package.xml"]),
    ],
)

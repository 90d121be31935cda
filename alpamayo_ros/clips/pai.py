"""A clip of the PhysicalAI-AV dataset."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alpamayo_ros import geometry
from alpamayo_ros.cameras.ftheta import FTheta
from alpamayo_ros.clips.bag import ClipOptions
from alpamayo_ros.clips.clip import Clip, ClipCamera, Frames, FThetaLens, Lidar
from alpamayo_ros.clips.layout import ClipError, Dataset, read_parquet
from alpamayo_ros.clips.motion import Motion, motion_of
from alpamayo_ros.clips.video import frames, need_av
from alpamayo_ros.errors import UserError
from alpamayo_ros.types import Pose3

LIDAR = "lidar_top_360fov"
_POWERS = 5  # coefficients of the lens polynomials


def pai_clip(dataset: Dataset, clip: str, options: ClipOptions) -> Clip:
    """One clip, its videos not yet opened. Raises ClipError, UserError."""
    need_av()
    if dataset.presence.lacks(clip, "egomotion"):
        raise ClipError(f"{clip} has no egomotion, says {dataset.presence.path}")
    asked, lacking = _asked_cameras(dataset, clip, options.cameras)
    without_lidar = options.lidar and dataset.presence.lacks(clip, LIDAR)
    placed = _by_sensor(dataset.chunk_table(clip, "sensor_extrinsics"))
    cameras = _cameras(dataset, clip, asked, placed)
    lidar = _lidar(dataset, clip, placed) if options.lidar and not without_lidar else None
    notes = tuple(
        f"{clip} has no {name}, says {dataset.presence.path}: converted without it"
        for name in (*lacking, *([LIDAR] if without_lidar else []))
    )
    return Clip(clip, _motion(dataset, clip), cameras, lidar, notes)


def _motion(dataset: Dataset, clip: str) -> Motion:
    with dataset.member(clip, "egomotion", "egomotion") as path:
        table = read_parquet(path)

    def columns(*names: str) -> NDArray[np.float64]:
        return np.stack([np.asarray(table[name], dtype=np.float64) for name in names], axis=1)

    try:
        return motion_of(
            table["timestamp"],
            columns("x", "y", "z"),
            columns("qx", "qy", "qz", "qw"),
            columns("vx", "vy", "vz"),
        )
    except (KeyError, ValueError, TypeError) as error:
        raise ClipError(f"{clip}: egomotion: {error}") from error


def _asked_cameras(
    dataset: Dataset, clip: str, named: tuple[str, ...]
) -> tuple[list[str], list[str]]:
    """The cameras to convert, and those that the clip never had. Raises ClipError."""
    features = dataset.camera_features()
    names = named or tuple(dataset.cameras(clip))
    lacking = [n for n in names if dataset.presence.lacks(clip, features.get(n, ""))]
    if names and len(lacking) == len(names):
        raise ClipError(f"{clip} has no {' or '.join(names)}, says {dataset.presence.path}")
    return [name for name in names if name not in lacking], lacking


def _cameras(
    dataset: Dataset, clip: str, wanted: Sequence[str], placed: Mapping[str, dict[str, Any]]
) -> tuple[ClipCamera, ...]:
    here = dataset.cameras(clip)
    missing = [name for name in wanted if name not in here]
    if missing or not here:
        raise ClipError(
            f"{clip}: no video of {', '.join(missing) or 'any camera'} under {dataset.root}; "
            f"there is {', '.join(here) or 'none'}"
        )
    lenses = _by_sensor(dataset.chunk_table(clip, "camera_intrinsics"))
    cameras = []
    for name in wanted:
        feature = here[name]
        try:
            lens = lenses[feature]
            recorded = FTheta(
                int(lens["width"]), int(lens["height"]), float(lens["cx"]), float(lens["cy"]),
                tuple(float(lens[f"fw_poly_{k}"]) for k in range(_POWERS)),
                tuple(float(lens[f"bw_poly_{k}"]) for k in range(_POWERS)),
            )  # fmt: skip
            pose = _pose(placed[feature])
        except (KeyError, TypeError, ValueError) as error:
            raise ClipError(f"{clip}: calibration of {feature}: {error}") from error
        stream = _frames(dataset, clip, feature)
        cameras.append(ClipCamera(name, FThetaLens(recorded), pose, stream))
    return tuple(cameras)


def _frames(dataset: Dataset, clip: str, feature: str) -> Frames:
    """One camera's frames, decoded as they are asked for."""

    def stream() -> Iterator[tuple[int, NDArray[np.uint8]]]:
        with dataset.member(clip, feature, "frame_timestamps") as path:
            stamps = read_parquet(path).get("timestamp")
        if not stamps or any(b <= a for a, b in zip(stamps, stamps[1:])):
            raise ClipError(f"{clip}: {feature} has no stamps, or they do not rise")
        with dataset.member(clip, feature, "video") as video:
            yield from frames(video, stamps, f"{clip}: {feature}")

    return stream


def _lidar(dataset: Dataset, clip: str, placed: Mapping[str, dict[str, Any]]) -> Lidar:
    """The lidar on the roof. Raises ClipError where the download has none."""
    try:
        pose = _pose(placed[LIDAR])
    except (KeyError, TypeError, ValueError) as error:
        raise ClipError(f"{clip}: mounting of {LIDAR}: {error}") from error
    members = dataset.features[LIDAR].members if LIDAR in dataset.features else {}
    if len(members) != 1:
        raise ClipError(f"{clip}: {dataset.root / 'features.csv'} names no file of {LIDAR}")
    (member,) = members

    def clouds() -> Iterator[tuple[int, NDArray[np.float32]]]:
        with dataset.member(clip, LIDAR, member) as path:
            yield from draco_clouds(path, f"{clip}: {LIDAR}")

    return Lidar(LIDAR, pose, clouds)


def draco_clouds(path: Path, label: str) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """(stamp in us, (n, 4) x y z and intensity 0 ... 1), a row of the file at a time."""
    try:
        import DracoPy
    except ImportError as error:
        raise UserError(
            "point clouds of the dataset need DracoPy, which is not installed: "
            "pip install 'alpamayo_ros[lidar]'"
        ) from error
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
        names = set(file.schema_arrow.names)
        stamp = next((n for n in ("reference_timestamp", "spin_end_timestamp") if n in names), "")
        if not stamp or "draco_encoded_pointcloud" not in names:
            raise ClipError(f"{label}: no clouds or no stamps among columns {', '.join(names)}")
        columns = [stamp, "draco_encoded_pointcloud"]
        for batch in file.iter_batches(batch_size=1, columns=columns):
            for row in batch.to_pylist():
                cloud = DracoPy.decode(row["draco_encoded_pointcloud"])
                points = np.zeros((len(cloud.points), 4), np.float32)
                points[:, :3] = cloud.points
                for attribute in cloud.attributes:
                    if attribute.get("name") == "intensity":
                        points[:, 3] = np.ravel(attribute["data"]).astype(np.float32) / 255.0
                yield int(row[stamp]), points
    except (OSError, ValueError, pyarrow.ArrowException, DracoPy.FileTypeException) as error:
        raise ClipError(f"{label}: damaged: {error}") from error


def _pose(row: Mapping[str, Any]) -> Pose3:
    return geometry.pose_from_quaternion(
        [float(row[axis]) for axis in "xyz"], [float(row[f"q{axis}"]) for axis in "xyzw"]
    )


def _by_sensor(table: Mapping[str, list[Any]]) -> dict[str, dict[str, Any]]:
    """Sensor -> its row; the second level of the index names it."""
    for name in ("camera_name", "sensor_name", "__index_level_1__"):
        if name in table:
            return {
                str(sensor): {column: values[k] for column, values in table.items()}
                for k, sensor in enumerate(table[name])
            }
    raise ClipError(f"no column of sensor names among {', '.join(table)}")

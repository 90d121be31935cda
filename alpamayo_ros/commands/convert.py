"""Recordings of other kinds to rosbag2, and one instant of a bag to the arrays a model takes.

examples:
  alpamayo convert pai CLIP --root PhysicalAI-Autonomous-Vehicles --out drive
  alpamayo convert pai CLIP1 CLIP2 --root PhysicalAI-Autonomous-Vehicles --out drives --width 960
  alpamayo convert comma Chunk_1/*/* --out drives
  alpamayo convert kitti 06 --root kitti/dataset --out drive
  alpamayo convert video drive.mp4 --poses poses.csv --fov 100 --out drive
  alpamayo convert sample drive --at 5 --out sample.npz
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alpamayo_ros.commands.common import Progress, add_json_argument, write_json
from alpamayo_ros.commands.replay import add_planner_arguments, make_folder, planner_settings
from alpamayo_ros.errors import BagError, UserError

if TYPE_CHECKING:
    from alpamayo_ros.clips.bag import ClipOptions
    from alpamayo_ros.clips.clip import Clip

_SEVERAL = """One becomes the bag --out, several become bags in the folder --out. A finished bag
that is there is kept, so that a command goes on after a kill; a damaged clip is named and left out.
"""
_PAI = f"""PhysicalAI-AV clips to rosbag2 (mcap): cameras, CameraInfo, odometry, transforms, lidar.

CameraInfo has the equidistant model nearest to the clip's f-theta lens, which is carried as JSON
on /camera/<name>/f_theta. {_SEVERAL}
example: alpamayo convert pai CLIP --root PhysicalAI-Autonomous-Vehicles --out drive
"""
_COMMA = f"""Segments of comma2k19 to rosbag2: video.hevc as front_wide, /odom from global_pose.

How the camera is turned on the vehicle comes from the mean direction of travel; where it sits is
nominal (--mount). {_SEVERAL}
example: alpamayo convert comma 'b0c9d2329ad1606b|2018-07-27--06-03-57/3' --out drive
"""
_KITTI = f"""KITTI to rosbag2: sequences of the odometry benchmark (06), or synchronised raw drives
(2011_09_26_drive_0001_sync), with --lidar the Velodyne. The left camera is front_wide.

{_SEVERAL}
example: alpamayo convert kitti 06 --root kitti/dataset --out drive
"""
_VIDEO = """A video and a table of poses to rosbag2.

The table (.csv or .parquet) has `timestamp` in microseconds or `t_s` in seconds, on the video's
clock; x, y, z in metres; qx, qy, qz, qw or yaw_rad. The camera is calibrated by --fov (no
distortion) or by a YAML of camera_calibration. A phone's video is turned as a player shows it, and
calibrated so.

example: alpamayo convert video drive.mp4 --poses poses.csv --fov 100 --out drive
"""
_SAMPLE = """What a model is given at one instant of a bag, as an .npz of numpy arrays.

example: alpamayo convert sample drive --at 5 --out sample.npz
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One subcommand a kind of recording."""
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND")

    def kind(name: str, text: str, description: str, run_kind: Any) -> argparse.ArgumentParser:
        child: argparse.ArgumentParser = kinds.add_parser(
            name, help=text, description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )  # fmt: skip
        child.set_defaults(run_kind=run_kind)
        return child

    pai = kind("pai", "PhysicalAI-AV clips to bags", _PAI, _pai)
    pai.add_argument("items", nargs="+", metavar="CLIP", help="a clip's id")
    pai.add_argument("--cameras", default="", metavar="LIST", help="such as front_wide,front_tele")
    comma = kind("comma", "segments of comma2k19 to bags", _COMMA, _comma)
    comma.add_argument("items", nargs="+", metavar="SEGMENT", help="a segment's folder")
    comma.add_argument("--mount", metavar="X,Y,Z", help="the camera in the rig frame, m")
    kitti = kind("kitti", "KITTI odometry or raw to bags", _KITTI, _kitti)
    kitti.add_argument("items", nargs="+", metavar="NAME", help="a sequence or a raw drive")
    video = kind("video", "an mp4 and a pose table to a bag", _VIDEO, _video)
    video.add_argument("items", nargs=1, metavar="VIDEO", help="what FFmpeg reads")
    video.add_argument("--poses", type=Path, required=True, metavar="TABLE", help="poses over time")
    video.add_argument("--poses-of", choices=("rig", "camera"), default="rig",
                       help="whose they are, x ahead, y left, z up (default rig)")  # fmt: skip
    video.add_argument("--camera", default="front_wide", metavar="NAME",
                       help="the model's name of it (default front_wide)")  # fmt: skip
    lens = video.add_mutually_exclusive_group(required=True)
    lens.add_argument("--fov", type=float, metavar="DEG", help="horizontal field of view")
    lens.add_argument("--calibration", type=Path, metavar="YAML", help="of camera_calibration")
    video.add_argument("--mount", metavar="X,Y,Z", help="the camera in the rig frame, m")
    video.add_argument("--turn", default="0,0,0", metavar="YAW,PITCH,ROLL",
                       help="of the camera, degrees: left, up, right (default 0,0,0)")  # fmt: skip
    for child in (pai, comma, kitti, video):
        child.add_argument("--out", type=Path, required=True, metavar="PATH", help="bag, or folder")
        child.add_argument("--images", choices=("jpeg", "raw"), default="jpeg", help="(jpeg)")
        child.add_argument("--width", type=int, default=0, metavar="PX", help="of the images")
        child.add_argument("--overwrite", action="store_true", help="replace bags that are there")
        add_json_argument(child)
    for child in (pai, kitti):
        child.add_argument("--root", type=Path, default=Path(), metavar="DIR",
                           help="of the download (default: here)")  # fmt: skip
        child.add_argument("--lidar", action="store_true", help="point clouds too")
    sample = kind("sample", "a model's input at one instant", _SAMPLE, _sample)
    sample.add_argument("bag", type=Path, help="a rosbag2 folder, an .mcap or a .db3 file")
    sample.add_argument("--at", type=float, required=True, metavar="S", help="since its start")
    sample.add_argument("--out", type=Path, required=True, metavar="NPZ", help="a new .npz")
    add_planner_arguments(sample)


def run(args: argparse.Namespace) -> int:
    """Do what the subcommand says."""
    return int(args.run_kind(args))


def _pai(args: argparse.Namespace) -> int:
    from alpamayo_ros.clips.layout import Dataset
    from alpamayo_ros.clips.pai import pai_clip
    from alpamayo_ros.types import CAMERA_NAMES

    names = tuple(name for name in args.cameras.split(",") if name)
    if unknown := [name for name in names if name not in CAMERA_NAMES]:
        raise UserError(f"no camera {', '.join(unknown)}; there are {', '.join(CAMERA_NAMES)}")
    options = _options(args, names)
    dataset = Dataset(args.root)
    return _convert(args, options, lambda clip: pai_clip(dataset, clip, options))


def _comma(args: argparse.Namespace) -> int:
    from alpamayo_ros.clips.comma import MOUNT_M, comma_clip

    mount = _three("--mount", args.mount) if args.mount else MOUNT_M
    return _convert(args, _options(args), lambda item: comma_clip(Path(item), mount))


def _kitti(args: argparse.Namespace) -> int:
    from alpamayo_ros.clips.kitti import kitti_clip

    options = _options(args)
    return _convert(args, options, lambda item: kitti_clip(args.root, item, options))


def _video(args: argparse.Namespace) -> int:
    from alpamayo_ros.clips.table import VideoOptions, video_clip
    from alpamayo_ros.types import CAMERA_NAMES

    if args.camera not in CAMERA_NAMES:
        raise UserError(f"no camera {args.camera}; there are {', '.join(CAMERA_NAMES)}")
    if args.fov is not None and not 1.0 <= args.fov <= 170.0:
        raise UserError(f"--fov is {args.fov:g}, wanted 1 to 170 degrees")
    default = VideoOptions()
    chosen = VideoOptions(
        args.camera, args.fov or 0.0, args.calibration,
        _three("--mount", args.mount) if args.mount else default.mount_m,
        _three("--turn", args.turn), args.poses_of == "camera",
    )  # fmt: skip
    return _convert(args, _options(args), lambda item: video_clip(Path(item), args.poses, chosen))


def _three(name: str, text: str) -> tuple[float, float, float]:
    try:
        x, y, z = (float(part) for part in text.split(","))
    except ValueError as error:
        raise UserError(f"{name} {text!r}: wanted three numbers such as 1.7,0,1.4") from error
    return x, y, z


def _options(args: argparse.Namespace, cameras: tuple[str, ...] = ()) -> ClipOptions:
    from alpamayo_ros.clips.bag import ClipOptions

    if args.width and not 64 <= args.width <= 7680:
        raise UserError(f"--width is {args.width}, wanted 64 to 7680")
    return ClipOptions(args.images, cameras, args.width, getattr(args, "lidar", False))


def _convert(args: argparse.Namespace, options: ClipOptions, clip_of: Callable[[str], Clip]) -> int:
    """Every item to its bag; exit code 1 where one was left out."""
    from alpamayo_ros.clips.bag import write_clip
    from alpamayo_ros.clips.layout import ClipError

    paths = _paths(args.out, list(dict.fromkeys(args.items)))
    # All of them first: a folder in the way is not to stop the run half way through a night.
    kept = {item for item, path in paths.items() if not args.overwrite and _is_bag(path)}
    done: list[dict[str, Any]] = []
    skipped: dict[str, str] = {}
    for item, path in paths.items():
        if item in kept:
            done.append({"clip": item, "bag": str(path), "kept": True})
            _say(args, f"{path} is there and kept (--overwrite replaces it)")
            continue
        progress = Progress(item, 1.0)
        try:
            result = write_clip(
                clip_of(item), path, options, progress.update, overwrite=args.overwrite
            )
        except ClipError as error:
            skipped[item] = str(error)
        finally:
            progress.close()  # before anything is said, which would stand behind its line
        if item in skipped:
            print(f"alpamayo convert: left out: {_named(item, skipped[item])}", file=sys.stderr)
            continue
        done.append(result)
        for note in result["notes"]:
            print(f"alpamayo convert: {note}", file=sys.stderr)
        _say(args, _summary(result))
    write_json(args.json, {"converted": done, "skipped": skipped})
    return 1 if skipped else 0


def _paths(out: Path, items: list[str]) -> dict[str, Path]:
    """Where the bag of each item goes. Raises UserError where two would go to one place."""
    if len(items) == 1:
        return {items[0]: out}
    make_folder(out)
    item_of: dict[Path, str] = {}
    for item in items:
        other = item_of.setdefault(out / _label(item), item)
        if Path(other) != Path(item):
            raise UserError(
                f"{other} and {item} would both become {out / _label(item)}; convert them one by "
                "one, each with its own --out"
            )
    return {item: path for path, item in item_of.items()}


def _is_bag(path: Path) -> bool:
    """Whether a finished bag is there. Raises UserError for what the writer would not replace."""
    from alpamayo_ros.bags.reader import BagReader
    from alpamayo_ros.bags.writer import is_free

    if is_free(path):
        return False
    try:
        with BagReader(path) as bag:
            reason = "; ".join(bag.warnings)
    except BagError as error:
        reason = str(error)
    if reason:
        raise UserError(f"{path} is there and is no finished bag ({reason}); remove it, or name "
                        "another --out")  # fmt: skip
    return True


def _summary(result: dict[str, Any]) -> str:
    """What one bag holds."""
    frames, early = result["frames"], result["before_zero"]
    clouds = f", {result['clouds']} point clouds" if result["clouds"] else ""
    left_out = f"; {early} messages before time 0 left out" if early else ""
    return (
        f"{result['bag']}: {sum(frames.values())} frames of {len(frames)} cameras, "
        f"{result['poses']} poses{clouds}{left_out}"
    )


def _named(item: str, reason: str) -> str:
    """A reason that says which clip it is about."""
    return reason if reason.startswith(item) else f"{item}: {reason}"


def _label(item: str) -> str:
    """A bag's name from a clip's: of a path its last two parts, since segments are numbered."""
    return "_".join(Path(item).parts[-2:]).replace("|", "_")


def _say(args: argparse.Namespace, text: str) -> None:
    if str(args.json) != "-":
        print(text)


def _sample(args: argparse.Namespace) -> int:
    import numpy as np

    from alpamayo_ros.backends.registry import create_for
    from alpamayo_ros.bags.instants import sample_at

    if args.out.suffix != ".npz":
        raise UserError(f"--out {args.out} does not end in .npz")
    settings = planner_settings(args)
    sample = sample_at(args.bag, settings, args.at, create_for(settings).resize)
    arrays = {
        name: getattr(sample, name)
        for name in (
            "t0_ns", "images", "image_stamps_ns", "camera_indices", "history_xyz_in_rig_t0",
            "history_rot_in_rig_t0", "speed_mps", "acceleration_mps2", "yaw_rate_rps",
            "extrapolated_ms",
        )
    }  # fmt: skip
    try:
        np.savez(
            args.out,
            odometry_from_rig_translation_m=sample.odometry_from_rig_t0.translation_m,
            odometry_from_rig_rotation=sample.odometry_from_rig_t0.rotation,
            navigation=sample.navigation or "",
            **arrays,
        )
    except OSError as error:
        raise UserError(f"cannot write {args.out}: {error.strerror}") from error
    for name, array in arrays.items():
        print(f"{name:24} {np.shape(array)} {np.asarray(array).dtype}")
    print(args.out)
    return 0

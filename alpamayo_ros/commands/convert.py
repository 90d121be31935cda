"""Recordings of other kinds to rosbag2, and one instant of a bag to the arrays a model takes.

examples:
  alpamayo convert pai CLIP --root PhysicalAI-Autonomous-Vehicles --out drive
  alpamayo convert pai CLIP1 CLIP2 --root PhysicalAI-Autonomous-Vehicles --out drives --width 960
  alpamayo convert sample drive --at 5 --out sample.npz
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from alpamayo_ros.commands.common import Progress, add_json_argument, write_json
from alpamayo_ros.commands.replay import add_planner_arguments, make_folder, planner_settings
from alpamayo_ros.errors import UserError

_PAI = """PhysicalAI-AV clips to rosbag2 (mcap): cameras, CameraInfo, /odom, /tf_static.

CameraInfo has the equidistant model nearest to the clip's f-theta lens, which is carried as JSON
on /camera/<name>/f_theta. One clip becomes the bag --out, several become bags in the folder --out.
A bag that is there is kept, so that the same command goes on after a kill; a damaged clip is named
and left out.

example: alpamayo convert pai CLIP --root PhysicalAI-Autonomous-Vehicles --out drive
"""
_SAMPLE = """What a model is given at one instant of a bag, as an .npz of numpy arrays.

example: alpamayo convert sample drive --at 5 --out sample.npz
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One subcommand a kind of recording."""
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND")
    pai = kinds.add_parser(
        "pai", help="PhysicalAI-AV clips to bags", description=_PAI,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    pai.add_argument("clips", nargs="+", metavar="CLIP", help="a clip's id")
    pai.add_argument(
        "--root", type=Path, default=Path(), metavar="DIR",
        help="the downloaded dataset, with features.csv (default: here)",
    )  # fmt: skip
    pai.add_argument("--out", type=Path, required=True, metavar="PATH", help="bag, or folder")
    pai.add_argument("--images", choices=("jpeg", "raw"), default="jpeg", help="(default jpeg)")
    pai.add_argument("--cameras", default="", metavar="LIST", help="such as front_wide,front_tele")
    pai.add_argument("--width", type=int, default=0, metavar="PX", help="of the images")
    pai.add_argument("--overwrite", action="store_true", help="replace bags that are there")
    add_json_argument(pai)
    pai.set_defaults(run_kind=_pai)
    sample = kinds.add_parser(
        "sample", help="a model's input at one instant", description=_SAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    sample.add_argument("bag", type=Path, help="a rosbag2 folder, an .mcap or a .db3 file")
    sample.add_argument("--at", type=float, required=True, metavar="S", help="since its start")
    sample.add_argument("--out", type=Path, required=True, metavar="NPZ", help="a new .npz")
    add_planner_arguments(sample)
    sample.set_defaults(run_kind=_sample)


def run(args: argparse.Namespace) -> int:
    """Do what the subcommand says."""
    return int(args.run_kind(args))


def _pai(args: argparse.Namespace) -> int:
    from alpamayo_ros.clips.layout import ClipError, Dataset
    from alpamayo_ros.clips.pai import ClipOptions, convert
    from alpamayo_ros.types import CAMERA_NAMES

    names = tuple(name for name in args.cameras.split(",") if name)
    if unknown := [name for name in names if name not in CAMERA_NAMES]:
        raise UserError(f"no camera {', '.join(unknown)}; there are {', '.join(CAMERA_NAMES)}")
    if args.width and not 64 <= args.width <= 7680:
        raise UserError(f"--width is {args.width}, wanted 64 to 7680")
    options = ClipOptions(args.images, names, args.width)
    dataset = Dataset(args.root)
    clips = list(dict.fromkeys(args.clips))
    if len(clips) > 1:
        make_folder(args.out)
    done: list[dict[str, Any]] = []
    skipped: dict[str, str] = {}
    for clip in clips:
        path = args.out if len(clips) == 1 else args.out / clip
        if path.exists() and not args.overwrite:
            done.append({"clip": clip, "bag": str(path), "kept": True})
            _say(args, f"{path} is there and kept (--overwrite replaces it)")
            continue
        progress = Progress(clip, 1.0)
        try:
            result = convert(
                dataset, clip, path, options, progress.update, overwrite=args.overwrite
            )
        except ClipError as error:
            skipped[clip] = str(error)
            continue
        finally:
            progress.close()
        done.append(result)
        frames, early = result["frames"], result["before_zero"]
        left_out = f"; {early} messages before time 0 left out" if early else ""
        _say(
            args,
            f"{path}: {sum(frames.values())} frames of {len(frames)} cameras, "
            f"{result['poses']} poses{left_out}",
        )
    for reason in skipped.values():
        print(f"alpamayo convert: left out: {reason}", file=sys.stderr)
    write_json(args.json, {"converted": done, "skipped": skipped})
    return 1 if skipped else 0


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

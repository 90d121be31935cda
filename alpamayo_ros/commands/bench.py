"""Measure this machine: do images arrive, how long does the node take, does it keep 10 Hz.

Real processes over real DDS in a ROS domain of their own: publisher, planner (kinematic), listener.
On a machine with other work to do the figures say little.

examples:
  alpamayo bench ingest
  alpamayo bench latency --seconds 60 --json latency.json
  alpamayo bench ticks --check
  alpamayo bench model exported/manifest.yaml --profile
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from alpamayo_ros.commands.common import Progress, add_json_argument, model_option, write_json
from alpamayo_ros.commands.vla import SIZES
from alpamayo_ros.errors import UserError
from alpamayo_ros.vla.vocabulary import VERSIONS

_INGEST = """Large raw images into the planner: what arrives, and what it costs.

Four cameras of rgb8 from another process, once with config/fastdds_shm.xml and once with Fast DDS's
default transports.

example:
  alpamayo bench ingest --seconds 20 --size 1920x1080 --rate 30
"""
_LATENCY = """From the last message that a plan needed to its path, on JPEG cameras.

Measured in the node and from outside. Decoding and the model are counted apart.

example:
  alpamayo bench latency --seconds 20 --size 1920x1080 --rate 10
"""
_TICKS = """Plans a second over camera rates, jitter and phases; a camera that ends.

First in simulated time, which is exact; then a few loads through the real node.

example:
  alpamayo bench ticks --no-ros --json ticks.json
"""
_RENDER = """A drive and its plans to a video: how many times faster than real time.

The recording and the plans are made before the clock starts.

example:
  alpamayo bench render --seconds 10 --size 1280x720
"""
_VLA = """Stages of one Alpamayo plan on random weights: no download, no recording, no ROS.

A row for each number of samples with each length of reasoning: the plain algorithm (`reference`:
transformers' generate), `eager` and `fast`, on a window that moves by a frame a tick: 4 of 16
frames are new. full is the released size (11.1 B parameters, made on the device: 22 GB there as
bfloat16). --gpu-table has every frame new.

examples:
  alpamayo bench vla --size tiny --samples 1,6
  alpamayo bench vla --size full --version 1.5 --device cuda --dtype bfloat16 --gpu-table
"""
_ISOLATION = """What a process of its own costs a plan, beside a thread: medians of one run.

example:
  alpamayo bench isolation --repeats 1000 --check
"""
_MODEL = """Latency of a student as the planner runs it: encode, policy and total, at 4 x 4 frames.

--profile adds the time of every layer (what `trtexec --dumpProfile` prints).

examples:
  alpamayo bench model exported/manifest.yaml --option threads=2 --check
  alpamayo bench model exported/manifest.yaml --profile --json model.json
"""
_SECONDS = (1.0, 3600.0)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One subcommand a benchmark."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

    def action(name: str, text: str, description: str, run_action: Any) -> Any:
        child = actions.add_parser(
            name,
            help=text,
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        child.set_defaults(run_action=run_action)
        child.add_argument("--check", action="store_true",
                           help="exit code 1 where a bar is missed")  # fmt: skip
        add_json_argument(child)
        return child

    ingest = action("ingest", "large raw images: arrivals and cost", _INGEST, _ingest)
    latency = action("latency", "last message to path", _LATENCY, _latency)
    ticks = action("ticks", "plans a second; a lost camera", _TICKS, _ticks)
    render = action("render", "a drive and its plans to a video", _RENDER, _render)
    render.add_argument("--seconds", type=float, default=10.0, help="of the drive (default 10)")
    render.add_argument("--size", default="1280x720", metavar="WxH",
                        help="pixels of each camera (default 1280x720)")  # fmt: skip
    for child, rate in ((ingest, 30.0), (latency, 10.0)):
        child.add_argument("--seconds", type=float, default=20.0,
                           help="measured time (default 20)")  # fmt: skip
        child.add_argument("--size", default="1920x1080", metavar="WxH",
                           help="pixels of each image (default 1920x1080)")  # fmt: skip
        child.add_argument("--rate", type=float, default=rate, metavar="HZ",
                           help=f"frames a second of each camera (default {rate:g})")  # fmt: skip
    ingest.add_argument("--transport", choices=("both", "profile", "default"), default="both",
                        help="which transports to measure (default both)")  # fmt: skip
    ticks.add_argument("--seconds", type=float, default=8.0,
                       help="measured time of each load of the real node (default 8)")  # fmt: skip
    ticks.add_argument("--no-ros", action="store_true", help="simulated time only")
    isolation = action("isolation", "a plan in a process, and in a thread", _ISOLATION, _isolation)
    isolation.set_defaults(seconds=_SECONDS[0])
    isolation.add_argument("--repeats", type=int, default=500,
                           help="plans of each (default 500)")  # fmt: skip
    _add_vla_arguments(action("vla", "stages of an Alpamayo plan", _VLA, _vla))
    _add_model_arguments(action("model", "latency of a student", _MODEL, _model))


def _add_model_arguments(model: argparse.ArgumentParser) -> None:
    model.set_defaults(seconds=_SECONDS[0])  # repeats are counted, not timed
    model.add_argument("model", metavar="MODEL", help="a student's name, or its manifest")
    model.add_argument("--option", action="append", default=[], metavar="NAME=VALUE",
                       help="override an option of the manifest")  # fmt: skip
    model.add_argument("--repeats", type=int, default=200, help="plans (default 200)")
    model.add_argument("--profile", action="store_true", help="the time of every layer")


def _add_vla_arguments(vla: argparse.ArgumentParser) -> None:
    vla.set_defaults(seconds=_SECONDS[0])  # repeats are counted, not timed
    vla.add_argument("--size", choices=SIZES, default="tiny")
    vla.add_argument("--version", choices=VERSIONS, default="r1")
    vla.add_argument("--device", default="cpu", help="cpu, cuda or cuda:1 (default cpu)")
    vla.add_argument("--dtype", default="float32", help="float32, bfloat16 or float16")
    vla.add_argument("--runtime", choices=("all", "reference", "eager", "fast"), default="all",
                     help="all: side by side, tick by tick (default)")  # fmt: skip
    vla.add_argument("--samples", default="1", metavar="N,N",
                     help="trajectories of one instant (default 1)")  # fmt: skip
    vla.add_argument("--tokens", default="16", metavar="N,N",
                     help="tokens of reasoning, 0: off (default 16)")  # fmt: skip
    vla.add_argument("--cameras", type=int, default=4, metavar="N",
                     help="of four frames each (default 4; R1 takes 4)")  # fmt: skip
    vla.add_argument("--steps", type=int, default=10, help="of the flow (default 10)")
    vla.add_argument("--repeats", type=int, default=10, help="plans a row (default 10)")
    vla.add_argument("--plot", type=Path, metavar="FILE.svg", help="draw the stages of every row")
    vla.add_argument("--gpu-table", action="store_true", help="the whole table of a GPU in under 8 "
                     "minutes, instead of --samples, --tokens, --steps, --runtime")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Measure, print, write; 1 where a bar is missed and --check is given."""
    _check_range("--seconds", args.seconds, *_SECONDS)
    # The default action would end this process and leave its children behind.
    before = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        result = args.run_action(args)
    finally:
        signal.signal(signal.SIGTERM, before)
    quiet = str(args.json) == "-"
    bars = result.get("bars", [])
    if not quiet:
        for bar in bars:
            print(_verdict(bar))
    write_json(args.json, result)
    return 1 if args.check and not all(bar["met"] for bar in bars) else 0


def _ingest(args: argparse.Namespace) -> dict[str, Any]:
    from alpamayo_ros.bench import ingest

    width, height = _size(args.size)
    options = ingest.IngestOptions(args.seconds, width, height, _rate(args.rate))
    _prepare()
    cases = ingest.CASES if args.transport == "both" else (args.transport,)
    total = len(cases) * (args.seconds + ingest.WARM_UP_S)
    return _measured(
        args, "ingest", total, lambda update: ingest.measure(options, cases, update), ingest.report
    )


def _latency(args: argparse.Namespace) -> dict[str, Any]:
    from alpamayo_ros.bench import latency

    width, height = _size(args.size)
    options = latency.LatencyOptions(args.seconds, width, height, _rate(args.rate))
    _prepare()
    total = args.seconds + latency.WARM_UP_S
    return _measured(
        args, "latency", total, lambda update: latency.measure(options, update), latency.report
    )


def _ticks(args: argparse.Namespace) -> dict[str, Any]:
    from alpamayo_ros.bench import ticks, ticks_dds

    if not args.no_ros:
        _prepare()
    count = len(ticks.loads())
    simulated = _measured(
        args, "simulated loads", count, lambda update: ticks.measure(progress=update), ticks.report,
        unit="",
    )  # fmt: skip
    if args.no_ros:
        return {"simulated": simulated, "dds": None, "bars": simulated["bars"]}
    over_dds = _measured(
        args, "loads over DDS", len(ticks_dds.LOADS),
        lambda update: ticks_dds.measure(args.seconds, progress=update), ticks_dds.report, unit="",
    )  # fmt: skip
    bars = [*simulated["bars"], *over_dds["bars"]]
    return {"simulated": simulated, "dds": over_dds, "bars": bars}


def _isolation(args: argparse.Namespace) -> dict[str, Any]:
    from alpamayo_ros.bench import isolation

    _check_range("--repeats", args.repeats, 10, 100_000)
    options = isolation.IsolationOptions(args.repeats)
    return _measured(
        args, "isolation", 1.0, lambda update: isolation.measure(options, update),
        isolation.report, unit="",
    )  # fmt: skip


def _render(args: argparse.Namespace) -> dict[str, Any]:
    from alpamayo_ros.bench import render

    options = render.RenderOptions(args.seconds, *_size(args.size))
    return _measured(
        args, "drawing", args.seconds, lambda update: render.measure(options, update), render.report
    )


def _vla(args: argparse.Namespace) -> dict[str, Any]:
    from alpamayo_ros.vla.libraries import require_transformers

    require_transformers()
    from alpamayo_ros.bench import vla, vla_gpu
    from alpamayo_ros.bench.vla_plot import plot
    from alpamayo_ros.vla.prepare import R1_CAMERAS

    options = vla.VlaOptions(
        args.size, args.version, args.device, args.dtype, _counts("--samples", args.samples),
        _counts("--tokens", args.tokens, 0), args.steps, args.repeats,
        runtimes=vla.RUNTIMES if args.runtime == "all" else (args.runtime,),
        cameras=R1_CAMERAS[: args.cameras],
    )  # fmt: skip
    _check_range("--cameras", args.cameras, 4 if args.version == "r1" else 1, 4)
    _check_range("--steps", args.steps, 1, 1000)
    _check_range("--repeats", args.repeats, 1, 100_000)
    if 0 in options.tokens and args.runtime == "reference":
        raise UserError("--runtime reference has no plan without reasoning: --tokens 1 or more")
    bench = vla_gpu if args.gpu_table else vla
    result = _measured(args, "rows", 1.0, lambda update: bench.measure(options, update),
                       bench.report, unit="")  # fmt: skip
    if args.plot is not None:
        args.plot.write_text(plot(result["rows"], vla.STAGES[:-1]))
    return result


def _model(args: argparse.Namespace) -> dict[str, Any]:
    from alpamayo_ros.bench import model
    from alpamayo_ros.manifest import load_manifest

    _check_range("--repeats", args.repeats, 1, 100_000)
    manifest = load_manifest(args.model).with_options(dict(map(model_option, args.option)))
    options = model.ModelOptions(repeats=args.repeats, profile=args.profile)
    return _measured(args, "plans", 1.0, lambda update: model.measure(manifest, options, update),
                     model.report, unit="of them")  # fmt: skip


def _counts(name: str, text: str, low: int = 1) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part.strip().isdecimal() and int(part) >= low for part in parts):
        raise UserError(f"{name} {text!r}: wanted numbers from {low} on, such as 1,6,16")
    return tuple(int(part) for part in parts)


def _measured(
    args: argparse.Namespace,
    label: str,
    total: float,
    measure: Callable[[Callable[[float], None]], dict[str, Any]],
    report: Callable[[dict[str, Any]], str],
    unit: str = "s",
) -> dict[str, Any]:
    """Measure with progress, and print the table unless stdout is for JSON."""
    progress = Progress(label, total, unit)
    try:
        result = measure(progress.update)
    finally:
        progress.close()
    if str(args.json) != "-":
        print(report(result))
    return result


def _prepare() -> None:
    from alpamayo_ros.bench.processes import shm_warning
    from alpamayo_ros.processes import require_ros

    require_ros()
    warning = shm_warning()
    if warning:
        print(f"alpamayo bench: {warning}", file=sys.stderr)


def _verdict(bar: dict[str, Any]) -> str:
    sign, limit = (">=", bar["at_least"]) if "at_least" in bar else ("<=", bar["at_most"])
    value = "not measured" if bar["value"] is None else f"{bar['value']:.4g}"
    return f"{'met' if bar['met'] else 'MISSED':6}  {bar['name']}: {value} ({sign} {limit:g})"


def _size(text: str) -> tuple[int, int]:
    width, cross, height = text.lower().partition("x")
    if not (cross and width.isdecimal() and height.isdecimal()):
        raise UserError(f"--size {text!r} is not WIDTHxHEIGHT, such as 1920x1080")
    for name, pixels in (("width", int(width)), ("height", int(height))):
        _check_range(f"--size {text}: {name}", pixels, 16, 8192)
    return int(width), int(height)


def _rate(value: float) -> float:
    _check_range("--rate", value, 1.0, 120.0)
    return value


def _check_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise UserError(f"{name} is {value:g}, wanted {low:g} to {high:g}")

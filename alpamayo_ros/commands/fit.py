"""Which precision, runtime and number of samples of a model fit which device's memory.

By arithmetic on the configuration: nothing is loaded and no device is asked. GiB are 1024^3 bytes.

examples:
  alpamayo fit
  alpamayo fit --weights bfloat16,nf4 --device "RTX 3090" --samples 6
  alpamayo fit --weights nf4 --set vision=bfloat16 --memory 12
  alpamayo fit Alpamayo-1.5-10B --json fit.json
"""

from __future__ import annotations

import argparse
from pathlib import Path

from alpamayo_ros.commands.common import add_json_argument, write_json
from alpamayo_ros.errors import UserError
from alpamayo_ros.fit.devices import DEVICES, Device
from alpamayo_ros.fit.memory import RUNTIMES, Load

_SIZES = ("tiny", "small", "full")
_WEIGHTS = "bfloat16,int8,nf4,int4,int2"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What is asked of which model on which device."""
    parser.add_argument("checkpoint", type=Path, nargs="?", metavar="FOLDER",
                        help="a release's folder; default: the released 10B's shape")  # fmt: skip
    parser.add_argument("--size", choices=_SIZES, default="full")
    parser.add_argument("--version", choices=("r1", "1.5"), default="1.5")
    parser.add_argument("--weights", default=_WEIGHTS, metavar="NAMES",
                        help=f"with commas between (default {_WEIGHTS})")  # fmt: skip
    parser.add_argument("--set", action="append", default=[], metavar="PART=NAME", dest="parts",
                        help="a precision for vision, backbone, expert or lm_head")  # fmt: skip
    parser.add_argument("--runtime", choices=RUNTIMES, action="append", help="default: fast")
    parser.add_argument("--samples", type=int, default=1, metavar="N")
    parser.add_argument("--cameras", type=int, default=4, metavar="N")
    parser.add_argument("--tokens", type=int, default=256, metavar="N",
                        help="of reasoning at most")  # fmt: skip
    parser.add_argument("--reasoning", choices=("before", "after", "off"), default="before",
                        help="after: the last plan's prompt is held, too")  # fmt: skip
    parser.add_argument("--guidance", action="store_true", help="by navigation text")
    parser.add_argument("--approximate-streaming", action="store_true")
    parser.add_argument("--device", action="append", metavar="NAME",
                        help="devices whose name contains NAME (default: all)")  # fmt: skip
    parser.add_argument("--memory", type=float, metavar="GIB", help="another device, free GiB")
    add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """0 where something fits, 1 where nothing does."""
    from dataclasses import replace

    from alpamayo_ros.fit import report
    from alpamayo_ros.fit.verdict import Model, verdicts
    from alpamayo_ros.vla.backbone import read_backbone
    from alpamayo_ros.vla.config_reader import parse_config
    from alpamayo_ros.vla.load import read_head
    from alpamayo_ros.vla.quant.precisions import changes, choice
    from alpamayo_ros.vla.sizes import backbone_shape, head_config

    for name, low, high in (("samples", 1, 64), ("cameras", 1, 7), ("tokens", 0, 4096)):
        if not low <= getattr(args, name) <= high:
            raise UserError(f"--{name} is {getattr(args, name)}, wanted {low} to {high}")
    if args.checkpoint is not None:
        own = args.checkpoint / "backbone"
        shape = read_backbone(own if own.is_dir() else None)
        model = Model(str(args.checkpoint), read_head(args.checkpoint), shape)
    else:
        config = parse_config(head_config(args.size, args.version), args.size)
        model = Model(f"Alpamayo {args.version} {args.size}", config, backbone_shape(args.size))
    changed = changes(args.parts)
    choices = {name: replace(choice(name), **changed) for name in args.weights.split(",")}
    runtimes = args.runtime or ["fast"]
    if "eager" in runtimes and (args.reasoning == "after" or args.approximate_streaming):
        raise UserError("--reasoning after and --approximate-streaming are of --runtime fast alone")
    tokens = 0 if args.reasoning == "off" else args.tokens
    loads = [
        Load(
            runtime, args.samples, tokens, args.cameras, reasoning=args.reasoning,
            guidance=args.guidance, streaming=args.approximate_streaming,
        )
        for runtime in runtimes
    ]  # fmt: skip
    found = verdicts(model, choices, loads, _devices(args))
    write_json(args.json, report.as_json(model, found))
    if str(args.json) != "-":
        print(f"{model.name}, {args.cameras} cameras, {args.samples} samples, at most "
              f"{tokens} tokens of reasoning\n")  # fmt: skip
        print("\n\n".join((report.by_part(found), report.by_device(found), report.prices(found))))
    return 0 if any(one.fits for one in found) else 1


def _devices(args: argparse.Namespace) -> list[Device]:
    if args.memory is not None and args.memory <= 0:
        raise UserError(f"--memory is {args.memory:g} GiB, wanted more than 0")
    own = [] if args.memory is None else [Device(f"{args.memory:g} GiB", args.memory, 0.0, False)]
    if args.device is None:
        return own or list(DEVICES)
    found = list(own)
    for name in args.device:
        matching = [device for device in DEVICES if name.lower() in device.name.lower()]
        if not matching:
            known = ", ".join(device.name for device in DEVICES)
            raise UserError(f"--device {name}: there are {known}; or give --memory GIB")
        found += matching
    return found

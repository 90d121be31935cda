"""Teacher's labels, and students that are trained on them.

examples:
  alpamayo distill collect --scenarios all --seeds 101-140 --out labels
  alpamayo distill collect --drive student.yaml --beta 0.3 --seeds 201-220 --out round2
  alpamayo distill label --teacher kinematic --bags drive1 drive2 --out labels
  alpamayo distill explain labels --t0 1700000012.3
  alpamayo distill train config/distill_light.yaml --out run
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alpamayo_ros.commands.common import Progress, add_json_argument, model_option, write_json
from alpamayo_ros.errors import UserError

if TYPE_CHECKING:
    from alpamayo_ros.jobs import Machines

_SOFT = ("logits", "features", "attention")
_SHOWN_FAILURES = 10  # where all of them fail, mostly for one reason


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One subcommand a step."""
    steps = parser.add_subparsers(dest="step", required=True, metavar="STEP")
    kind = argparse.RawDescriptionHelpFormatter
    collect = steps.add_parser("collect", help="drive the world, label it", formatter_class=kind)
    collect.add_argument("--scenarios", default="all", metavar="LIST",
                         help="all, no-traffic, traffic or names such as free,lead")  # fmt: skip
    collect.add_argument("--seeds", default="101-120", metavar="RANGE",
                         help="keep 1-20 for testing (default 101-120)")  # fmt: skip
    collect.add_argument("--seconds", type=float, default=60.0, help="of each drive (default 60)")
    collect.add_argument("--drive", default="expert", metavar="MODEL",
                         help="who drives: expert (default) or a student's manifest")  # fmt: skip
    collect.add_argument("--label", default="expert", choices=("expert",),
                         help="who labels (the expert)")  # fmt: skip
    collect.add_argument("--beta", type=float, default=0.0, metavar="SHARE",
                         help="of the time that the expert drives beside a model")  # fmt: skip
    collect.add_argument("--keep", default="8/24", metavar="N/M",
                         help="label N instants in a row of every M (default 8/24)")  # fmt: skip
    collect.add_argument("--disturb", type=float, default=1.0, metavar="STRENGTH",
                         help="of steering, pedals and start; 0: none (default 1)")  # fmt: skip
    collect.add_argument("--beside", type=float, default=0.0, metavar="STRENGTH",
                         help="label poses beside the way, by one frame (--keep 1/3)")  # fmt: skip
    collect.add_argument("--image-width", type=int, default=576, metavar="PX",
                         help="rendered columns: 288 is twice as fast (default 576)")  # fmt: skip
    _store_arguments(collect)
    label = steps.add_parser("label", help="label recordings with any model", formatter_class=kind)
    label.add_argument("--teacher", required=True, metavar="MODEL", help="a name or a manifest")
    label.add_argument("--option", action="append", default=[], metavar="KEY=VALUE",
                       help="overrides an option of the manifest: samples=6")  # fmt: skip
    label.add_argument("--bags", nargs="+", type=Path, required=True, metavar="BAG",
                       help="recordings, or a text file that lists one a line")  # fmt: skip
    label.add_argument("--params", type=Path, metavar="FILE", help="a ROS parameter file")
    label.add_argument("--store", default="", metavar="LIST",
                       help="of logits,features,attention: what else it tells")  # fmt: skip
    label.add_argument("--every", type=int, default=1, metavar="N", help="label every N-th instant")
    _store_arguments(label, "one a core; 1 for a teacher that fills a GPU or the cores by itself")
    explain = steps.add_parser("explain", help="what the teacher said of an instant")
    explain.add_argument("labels", type=Path, metavar="LABELS")
    explain.add_argument("--t0", required=True, metavar="T",
                         help="stamp in seconds or nanoseconds; the nearest is shown")  # fmt: skip
    explain.add_argument("--shard", default="", metavar="NAME", help="look in this one alone")
    add_json_argument(explain)
    train = steps.add_parser("train", help="train a student, or a chain of them")
    train.add_argument("config", type=Path, metavar="CONFIG", help="a YAML file")
    train.add_argument("--out", type=Path, required=True, metavar="DIR", help="goes on if begun")
    train.add_argument("--labels", nargs="+", type=Path, metavar="LABELS",
                       help="instead of the configuration's")  # fmt: skip
    train.add_argument("--device", default="", metavar="NAME", help="cpu or cuda")
    train.add_argument("--loaders", type=int, default=0, metavar="N",
                       help="processes that make batches (default: none beside)")  # fmt: skip
    train.add_argument("--ray", default="", metavar="ADDRESS",
                       help="a Ray cluster, or local, that makes batches")  # fmt: skip
    add_json_argument(train)


def _store_arguments(parser: argparse.ArgumentParser, jobs: str = "one a core") -> None:
    parser.add_argument(
        "--out", type=Path, required=True, metavar="LABELS", help="goes on if begun"
    )
    parser.add_argument("--student", default="student_light", metavar="CONFIG",
                        help="whose cameras and image size are stored")  # fmt: skip
    parser.add_argument(
        "--jobs",
        type=int,
        default=0,
        metavar="N",
        help=f"processes (default: {jobs}), or workers of the cluster at most",
    )
    parser.add_argument("--ray", default="", metavar="ADDRESS",
                        help="a Ray cluster, or local, instead of processes here")  # fmt: skip
    add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """The chosen step."""
    steps: dict[str, Callable[[argparse.Namespace], int]] = {
        "collect": _collect, "label": _label, "explain": _explain, "train": _train,
    }  # fmt: skip
    return steps[args.step](args)


def _collect(args: argparse.Namespace) -> int:
    from alpamayo_ros.backends.placement import machines_for
    from alpamayo_ros.backends.registry import create_backend
    from alpamayo_ros.commands.world_drive import kinds_of, seeds_of
    from alpamayo_ros.distill.collect import Collection
    from alpamayo_ros.distill.makers import DriveMaker
    from alpamayo_ros.distill.store import LabelStore, Origin
    from alpamayo_ros.types import IMAGE_WIDTH
    from alpamayo_ros.world.expert import NAME

    keep, slash, period = args.keep.partition("/")
    if not (slash and keep.isdecimal() and period.isdecimal() and 0 < int(keep) <= int(period)):
        raise UserError(f"--keep is {args.keep!r}, wanted N/M such as 8/24")
    if not 0.0 <= args.beta <= 1.0 or min(args.disturb, args.beside) < 0.0:
        raise UserError("--beta wants 0 to 1, --disturb and --beside 0 or more")
    if args.image_width % 36 or not 36 <= args.image_width <= IMAGE_WIDTH:
        raise UserError(f"--image-width wants a multiple of 36 up to {IMAGE_WIDTH}")
    form = _form(args.student)
    collection = Collection(
        form, args.seconds, args.drive, args.beta, int(keep), int(period), args.disturb,
        args.image_width, args.beside,
    )  # fmt: skip
    # What the labels are worth is the labeller's; whoever drove only chose the states.
    origin = Origin("expert", "Apache-2.0", form, collection.settings())
    seeds = seeds_of(args.seeds)
    # Seed by seed: what is there when a run is cut short has all kinds in it.
    names = [f"{kind}-{seed}" for seed in seeds for kind in kinds_of(args.scenarios)]
    drivers = [] if args.drive == NAME else [create_backend(args.drive)]  # not loaded
    store, maker = LabelStore(args.out, origin), DriveMaker(collection, args.out)
    return _make(args, store, maker, names, machines_for(drivers, args.jobs, args.ray))


def _label(args: argparse.Namespace) -> int:
    from alpamayo_ros.backends.placement import machines_for
    from alpamayo_ros.backends.registry import create_backend
    from alpamayo_ros.digests import file_sha256
    from alpamayo_ros.distill.makers import BagMaker, settings_digest
    from alpamayo_ros.distill.store import LabelStore, Origin
    from alpamayo_ros.parameters import read_parameter_file, settings_from

    if args.teacher == "expert":
        raise UserError(
            "the expert knows the world, not recordings: label its drives with "
            "alpamayo distill collect"
        )
    if args.every < 1:
        raise UserError(f"--every is {args.every}, wanted 1 or more")
    soft = tuple(name for name in args.store.split(",") if name)
    if unknown := set(soft) - set(_SOFT):
        raise UserError(f"--store {', '.join(sorted(unknown))}: wanted some of {', '.join(_SOFT)}")
    options = dict(map(model_option, args.option))
    teacher = create_backend(args.teacher, options=options)  # not loaded: that is the workers'
    manifest = teacher.manifest
    settings = settings_from(read_parameter_file(args.params) if args.params else {})
    form = _form(args.student)
    made_by = {
        "every": args.every,
        "options": json.loads(json.dumps(options, default=str)),
        "parameters": settings_digest(settings),
        **({"store": list(soft)} if soft else {}),
    }
    origin = Origin(manifest.name, manifest.licence, form, made_by, file_sha256(manifest.path))
    listed = _listed(args.bags)
    store = LabelStore(args.out, origin)
    bags = _named(listed, store.recordings)
    store.note_recordings(bags)
    maker = BagMaker(
        args.teacher, manifest.backend, tuple(options.items()), tuple(bags.items()), settings,
        form, args.every, args.out, soft,
    )  # fmt: skip
    machines = machines_for([teacher], args.jobs, args.ray)
    return _make(args, store, maker, list(bags), machines)


def _listed(paths: list[Path]) -> list[Path]:
    """Bags, with text files replaced by what they list."""
    bags: list[Path] = []
    for path in paths:
        if path.suffix == ".txt" and path.is_file():
            lines = path.read_text(encoding="utf-8").splitlines()
            bags.extend(Path(line.strip()) for line in lines if line.strip())
        else:
            bags.append(path)
    missing = [str(path) for path in bags if not path.exists()]
    if missing:
        raise UserError(f"{len(missing)} recordings do not exist, the first: {missing[0]}")
    return bags


def _named(bags: list[Path], noted: Mapping[str, str]) -> dict[str, Path]:
    """A shard's name for every recording, whatever their order: the one that was noted for it, or
    its own, with a digest of its path where several are called the same."""
    paths = list(dict.fromkeys(bag.resolve() for bag in bags))
    known = {path: name for name, path in noted.items()}
    stems = Counter(path.stem for path in paths)
    names: dict[str, Path] = {}
    for path in paths:
        digest = hashlib.sha256(str(path).encode()).hexdigest()[:8]
        own = path.stem if stems[path.stem] == 1 else f"{path.stem}-{digest}"
        name = known.get(str(path), own)
        if name in names:
            raise UserError(f"{path} and {names[name]} would be one shard {name}: rename one")
        names[name] = path
    return names


def _form(student: str) -> Any:
    from alpamayo_ros.distill.shard import ImageForm
    from alpamayo_ros.distill.train_config import student_by_name

    return ImageForm.of(student_by_name(student))


def _make(
    args: argparse.Namespace, store: Any, maker: Any, names: list[str], machines: Machines
) -> int:
    """Make what is missing, then the manifest; 1 where something could not be labelled."""
    from alpamayo_ros.jobs import WorkerLost, run_all

    left = [name for name in names if not store.has(name)]
    if len(left) < len(names):
        print(f"{len(names) - len(left)} of {len(names)} shards are there", file=sys.stderr)
    progress = Progress("labelling", len(left), "shards")
    failed: dict[str, str] = {}
    try:
        for done, (index, made) in enumerate(run_all(maker, left, machines), start=1):
            if isinstance(made, str):
                failed[left[index]] = made
            progress.update(done)
    except WorkerLost as error:
        raise UserError(f"{error} (--jobs); the same command goes on where it was") from error
    finally:
        progress.close()
    if failed and len(failed) == len(names):
        raise UserError(f"no recording can be labelled:\n{_reasons(failed, _SHOWN_FAILURES)}")
    manifest = store.finish(dict(sorted(failed.items())))
    instants = sum(shard["instants"] for shard in manifest["shards"].values())
    write_json(args.json, manifest)
    if str(args.json) != "-":
        print(f"{instants} instants in {len(manifest['shards'])} shards by {manifest['teacher']}, "
              f"licence {manifest['licence']}: {args.out}")  # fmt: skip
    if failed:
        print(f"alpamayo distill: {len(failed)} of {len(names)} left out; the same command tries "
              f"them again:\n{_reasons(failed, len(failed))}", file=sys.stderr)  # fmt: skip
    return 0 if instants and not failed else 1


def _reasons(failed: Mapping[str, str], most: int) -> str:
    """A line for each of the first `most`."""
    lines = [f"  {name}: {reason}" for name, reason in sorted(failed.items())[:most]]
    more = len(failed) - len(lines)
    return "\n".join(lines + ([f"  and {more} more"] if more else []))


def _explain(args: argparse.Namespace) -> int:
    from alpamayo_ros.distill.explain import explain
    from alpamayo_ros.distill.store import open_labels

    found = explain(open_labels(args.labels, check=False), args.t0, args.shard)
    write_json(args.json, found)
    if str(args.json) != "-":
        print(f"{found['shard']} at {found['t0_ns']} ns, by {found['teacher']}:")
        print(f"  {found['reasoning']}")
        print(f"  longitudinal: {found['longitudinal']}; lateral: {found['lateral']}; "
              f"confidence {found['confidence']:.2f}")  # fmt: skip
    return 0


def _train(args: argparse.Namespace) -> int:
    from alpamayo_ros.distill.chain import run_chain
    from alpamayo_ros.distill.train_config import load_train_config

    config = load_train_config(
        args.config, args.labels, device=args.device, loaders=args.loaders, ray=args.ray
    )
    report = run_chain(config, args.out)
    write_json(args.json, report)
    if str(args.json) != "-":
        for stage in report["stages"]:
            figures = ", ".join(
                f"{name} {value:.4g}" for name, value in stage["validation"].items()
            )
            seen = " (seen in training)" if stage["seen_in_training"] else ""
            print(f"{stage['name']}: {stage['steps']} steps, {figures}{seen}")
        print(f"{args.out / 'report.json'}")
    return 0

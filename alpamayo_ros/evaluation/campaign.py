"""Many planners on many bags, in processes or on a Ray cluster, resumed where a run was killed."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from alpamayo_ros import resources
from alpamayo_ros.errors import BagError, UserError
from alpamayo_ros.evaluation import tables
from alpamayo_ros.evaluation.shards import BASELINES_LABEL, Entrant, Evaluator, Job
from alpamayo_ros.evaluation.tables import Shard, StoredShard
from alpamayo_ros.jobs import Machines, run_all
from alpamayo_ros.manifest import load_manifest
from alpamayo_ros.parameters import PlannerSettings

FORMAT = 3  # of shards: raised with every change of what they hold
Result = StoredShard | str  # or why the bag cannot be evaluated


def entrants(
    models: Sequence[str],
    settings: PlannerSettings,
    options: Sequence[tuple[str, str, Any]] = (),
) -> list[Entrant]:
    """The models in the given order, each that looks followed by itself on black images.

    `options`: (model's name or "" for all, option, value) each. Raises ModelError where a manifest
    cannot be read, UserError where two have one name or an option's model is none of them.
    """
    found: list[Entrant] = []
    manifests = [load_manifest(model) for model in models]
    names = {manifest.name for manifest in manifests}
    strangers = sorted({name for name, _, _ in options if name} - names)
    if strangers:
        raise UserError(
            f"--option of {', '.join(strangers)}: the planners are {', '.join(sorted(names))}"
        )
    for model, manifest in zip(models, manifests):
        mine = {key: value for name, key, value in options if name in ("", manifest.name)}
        # A process on another machine of a cluster starts in another folder.
        place = str(manifest.path.resolve()) if resources.is_path(model) else model
        own = dataclasses.replace(
            settings, model=place, model_options={**settings.model_options, **mine}
        )
        found.append(Entrant(manifest.name, own))
        if manifest.uses_images:
            found.append(Entrant(f"{manifest.name}_black", own, black=True))
    labels = [entrant.label for entrant in found]
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise UserError(
            f"--planners has {', '.join(twice)} more than once; give the manifests other names"
        )
    return [*found, Entrant(BASELINES_LABEL, settings, is_model=False)]


def jobs_of(contenders: Sequence[Entrant], bags: Mapping[str, Path]) -> list[Job]:
    """Every entrant on every bag (label -> path), in an order that spares work.

    A model's bags one after the other, so that a process loads it once; on a bag first who looks,
    which takes longest, then who can do with what another one read of it.
    """
    by_model: dict[tuple[str, str], list[Entrant]] = {}
    for entrant in contenders:
        if entrant.is_model:
            key = entrant.settings.model, repr(sorted(entrant.settings.model_options.items()))
            by_model.setdefault(key, []).append(entrant)
    blocks = sorted(by_model.values(), key=lambda block: not any(one.black for one in block))
    blocks[0] = [*blocks[0], *(entrant for entrant in contenders if not entrant.is_model)]
    return [
        Job(path, label, entrant)
        for block in blocks
        for label, path in bags.items()
        for entrant in block
    ]


def run_jobs(
    jobs: Sequence[Job],
    folder: Path,
    machines: Machines,
    on_result: Callable[[Job], None] = lambda job: None,
) -> list[Result]:
    """Results in the order of `jobs`. Each is kept in `folder` and taken from there next time, and
    so are the plans of one that was killed in its middle.

    A bag that cannot be read gives its reason instead; a model that cannot be had raises.
    """
    folder = folder.resolve()  # a worker on another machine of a cluster starts in another folder
    folder.mkdir(parents=True, exist_ok=True)
    results: dict[int, Result] = {}
    paths = [folder / f"{_name(job)}.parquet" for job in jobs]
    for index, path in enumerate(paths):
        kept = tables.stored(path)
        if kept is not None:
            results[index] = kept
            on_result(jobs[index])
    todo = [index for index in range(len(jobs)) if index not in results]
    parts = {index: paths[index].with_suffix(".part") for index in todo}
    given = [dataclasses.replace(jobs[index], part=parts[index]) for index in todo]
    for position, result in run_all(Evaluation(), given, machines):
        index = todo[position]
        done = tables.store(paths[index], result) if isinstance(result, Shard) else result
        results[index] = done
        parts[index].unlink(missing_ok=True)
        on_result(jobs[index])
    return [results[index] for index in range(len(jobs))]


class Evaluation:
    """One job in whatever process, which keeps its model for the next."""

    def open(self) -> Evaluator:
        """Models are opened as jobs ask for them."""
        cv2.setNumThreads(1)  # pictures are small, and processes share the cores
        return Evaluator()

    def do(self, opened: Evaluator, job: Job) -> Shard | str:
        """A bag's fault is a result, anything else is raised."""
        try:
            return opened.evaluate(job)
        except BagError as error:
            return str(error)

    def close(self, opened: Evaluator) -> None:
        """The last model, where this process lives on."""
        opened.close()


def _name(job: Job) -> str:
    """A shard's name: readable, and another one for any other input."""
    manifest = load_manifest(job.entrant.settings.model) if job.entrant.is_model else None
    options: dict[str, Any] = {}
    if manifest is not None:
        options = {**manifest.options, **job.entrant.settings.model_options}
    base = manifest.path.parent if manifest is not None else Path()
    content = {
        "format": FORMAT,
        "bag": [str(job.bag.resolve()), _files(job.bag), job.bag_label],
        "entrant": _plain(job.entrant),
        "views": _files(Path(job.entrant.settings.rig_views)),
        "manifest": manifest.path.read_text() if manifest is not None else "",
        "options": {
            name: [repr(value), _files(base / value) if isinstance(value, str) else None]
            for name, value in sorted(options.items())
        },
    }
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
    return f"{job.bag.resolve().name}-{job.entrant.label}-{digest}"


def _files(path: Path) -> list[list[Any]]:
    """Name, size and time of change of a file, or of those in a folder; empty for no file."""
    try:
        inside = [path] if path.is_file() else sorted(f for f in path.iterdir() if f.is_file())
        return [[f.name, f.stat().st_size, f.stat().st_mtime_ns] for f in inside]
    except OSError:  # an option that is no path at all
        return []


def _plain(value: Any) -> Any:
    """Dataclasses, arrays and mappings as JSON."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        return {field.name: _plain(getattr(value, field.name)) for field in fields}
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, dict):
        return {str(name): _plain(entry) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    return value if isinstance(value, (str, int, float, bool, type(None))) else repr(value)

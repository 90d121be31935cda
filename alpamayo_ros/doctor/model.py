"""The model that a node would load: its manifest, options and files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from alpamayo_ros.backends import placement
from alpamayo_ros.backends.registry import create_backend
from alpamayo_ros.backends.vla_options import VlaOptions
from alpamayo_ros.deployment.options import StudentOptions
from alpamayo_ros.deployment.spec import EXPORT
from alpamayo_ros.digests import file_sha256
from alpamayo_ros.doctor.findings import Finding, error, note, ok
from alpamayo_ros.errors import UserError
from alpamayo_ros.manifest import Manifest

AREA = "model"
CONFIG, WEIGHTS = "config.json", "*.safetensors"


def check_model(model: str, options: Mapping[str, Any], with_hashes: bool) -> Iterable[Finding]:
    """Everything but loading it."""
    try:
        backend = create_backend(model, options=options)
    except UserError as failure:
        yield error(AREA, str(failure), "choose another `model`, or set its options right")
        return
    manifest = backend.manifest
    yield ok(AREA, f"{manifest.introduction()} ({manifest.path})")
    if manifest.backend == "vla":
        yield from _vla_files(manifest, with_hashes)
    elif manifest.backend == "student":
        yield from _student_files(manifest, with_hashes)


def needs_gpu(model: str, options: Mapping[str, Any]) -> bool:
    """Whether the model is to run on one, as far as its options tell."""
    try:
        return placement.needs_gpu(create_backend(model, options=options))
    except UserError:
        return False


def _vla_files(manifest: Manifest, with_hashes: bool) -> Iterable[Finding]:
    options = VlaOptions.from_manifest(manifest)
    for name, path in (("tokenizer", options.tokenizer), ("backbone", options.backbone)):
        if path is not None and not path.is_dir():
            yield error(
                AREA,
                f"{name} folder {path} does not exist",
                f"README, Weights; then set option {name}",
            )
    if options.expert_model is not None and not options.expert_model.is_file():
        yield error(
            AREA,
            f"expert_model {options.expert_model} does not exist",
            "alpamayo vla export-expert",
        )
    folder = options.checkpoint
    if not (folder / CONFIG).is_file():
        yield error(
            AREA,
            f"checkpoint folder {folder} has no {CONFIG}",
            "README, Weights; then set option checkpoint",
        )
        return
    weights = sorted(folder.glob(WEIGHTS))
    if not weights:
        yield error(AREA, f"{folder} has no {WEIGHTS}", "download the release again")
        return
    size_gb = sum(path.stat().st_size for path in weights) / 1e9
    yield ok(AREA, f"{folder}: {len(weights)} files of weights, {size_gb:.2f} GB")
    if not options.sha256:
        yield note(
            AREA,
            "the manifest gives no sha256: damage shows only at loading",
            "add them: option sha256",
        )
    elif not with_hashes:
        yield note(AREA, f"{len(options.sha256)} hashes not checked", "leave out --no-hash")
    else:
        yield from _hashes(folder, options.sha256)


def _student_files(manifest: Manifest, with_hashes: bool) -> Iterable[Finding]:
    options = StudentOptions.from_manifest(manifest)
    for name, path in options.files().items():
        if not path.is_file():
            yield error(AREA, f"{name} {path} does not exist", EXPORT)
            continue
        yield ok(AREA, f"{name} {path}, {path.stat().st_size / 1e6:.1f} MB")
        if path.name in options.sha256 and with_hashes:
            yield from _hashes(path.parent, {path.name: options.sha256[path.name]})


def _hashes(folder: Path, wanted: Mapping[str, str]) -> Iterable[Finding]:
    for name, digest in wanted.items():
        path = folder / name
        if not path.is_file():
            yield error(AREA, f"{path} is missing; the manifest gives its sha256", "download it")
            continue
        found = file_sha256(path)
        if found != digest.lower():
            yield error(
                AREA,
                f"{path} has sha256 {found}, the manifest says {digest}",
                "it is damaged or another file: download it again",
            )
        else:
            yield ok(AREA, f"{path.name}: sha256 as in the manifest")

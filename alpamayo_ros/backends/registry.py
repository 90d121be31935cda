"""Which module serves which `backend:` of a manifest. Modules are imported when asked for."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from alpamayo_ros.backends.base import PlannerBackend
from alpamayo_ros.chain_of_causation import load_table
from alpamayo_ros.errors import ModelError
from alpamayo_ros.manifest import Manifest, load_manifest
from alpamayo_ros.parameters import PlannerSettings

BACKENDS = {
    "kinematic": "alpamayo_ros.backends.kinematic:KinematicBackend",
    "student": "alpamayo_ros.backends.student:StudentBackend",
    "vla": "alpamayo_ros.backends.vla:VlaBackend",
}


def create_for(settings: PlannerSettings) -> PlannerBackend:
    """The backend that the planner's parameters ask for, not yet loaded; see `create_backend`."""
    return create_backend(
        settings.model, settings.backend, settings.model_options, settings.chain_of_causation
    )


def create_backend(
    model: str,
    backend: str = "",
    options: Mapping[str, Any] = MappingProxyType({}),
    chain_of_causation: str = "",
) -> PlannerBackend:
    """The backend of a model by name or manifest path, not yet loaded.

    `backend` and `options` override the manifest's; `chain_of_causation` is the path of the user's
    table, checked here whether or not the backend reads reasoning. Raises ModelError, TableError.
    """
    manifest = load_manifest(model).with_options(options)
    if chain_of_causation:
        # A model's own paths start from its manifest's folder, a parameter's from where we are.
        chain_of_causation = str(Path(chain_of_causation).expanduser().absolute())
        load_table(chain_of_causation)
    return backend_for(manifest, backend or manifest.backend, chain_of_causation)


def backend_for(manifest: Manifest, backend: str, chain_of_causation: str = "") -> PlannerBackend:
    """The named backend for a manifest. Raises ModelError where there is none of that name."""
    entry = BACKENDS.get(backend)
    if entry is None:
        raise ModelError(
            f"model {manifest.name}: no backend {backend!r}; there are {', '.join(BACKENDS)}"
        )
    module_name, class_name = entry.split(":")
    factory = getattr(importlib.import_module(module_name), class_name)
    if chain_of_causation and factory.reads_reasoning:
        manifest = manifest.with_options({"chain_of_causation": chain_of_causation})
    instance = factory(manifest)
    assert isinstance(instance, PlannerBackend)
    return instance

"""Which module serves which `backend:` of a manifest. Modules are imported when asked for."""

from __future__ import annotations

import importlib

from alpamayo_ros.backends.base import PlannerBackend
from alpamayo_ros.errors import ModelError
from alpamayo_ros.manifest import Manifest, load_manifest

BACKENDS = {
    "kinematic": "alpamayo_ros.backends.kinematic:KinematicBackend",
}


def create_backend(model: str, backend: str = "") -> PlannerBackend:
    """The backend of a model by name or manifest path, not yet loaded.

    `backend` overrides the manifest's. Raises ModelError.
    """
    manifest = load_manifest(model)
    return backend_for(manifest, backend or manifest.backend)


def backend_for(manifest: Manifest, backend: str) -> PlannerBackend:
    """The named backend for a manifest. Raises ModelError where there is none of that name."""
    entry = BACKENDS.get(backend)
    if entry is None:
        raise ModelError(
            f"model {manifest.name}: no backend {backend!r}; there are {', '.join(BACKENDS)}"
        )
    module_name, class_name = entry.split(":")
    factory = getattr(importlib.import_module(module_name), class_name)
    instance = factory(manifest)
    assert isinstance(instance, PlannerBackend)
    return instance

"""Where the processes that load a model belong: how many on a machine, on which of a cluster's."""

from __future__ import annotations

from collections.abc import Sequence

from alpamayo_ros.backends.base import PlannerBackend
from alpamayo_ros.jobs import Machines, cores

_ON_GPU = {
    "device": ("cuda",), "provider": ("cuda", "tensorrt"), "runtime": ("tensorrt",),
    "expert_runtime": ("tensorrt",),
}  # fmt: skip
_DEVICES = {"vla": "cuda"}  # of backends whose default is no CPU


def needs_gpu(backend: PlannerBackend) -> bool:
    """Whether its options name one."""
    manifest = backend.manifest
    given = {name: value for name, value in manifest.options.items() if value is not None}
    options = {"device": _DEVICES.get(manifest.backend, "cpu"), **given}
    return any(str(options.get(name, "")).startswith(gpus) for name, gpus in _ON_GPU.items())


def wants_machine(backend: PlannerBackend) -> bool:
    """Whether it fills a GPU or the cores by itself: a second one would be in its way."""
    return backend.wants_process or needs_gpu(backend)


def machines_for(backends: Sequence[PlannerBackend], jobs: int, ray: str) -> Machines:
    """Workers that each may load any of these models, `jobs` of them (0: as many as fit)."""
    alone = any(map(wants_machine, backends))
    workers = jobs or (1 if alone else cores())
    return Machines(workers, ray, actors=jobs, gpus=int(any(map(needs_gpu, backends))))

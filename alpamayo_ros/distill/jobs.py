"""Many independent shards: in this process, in several, or on a Ray cluster; same results."""

from __future__ import annotations

import importlib.util
import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any, Protocol

from alpamayo_ros.errors import UserError


class ShardMaker(Protocol):
    """What makes shards: picklable, and heavy things only in `open`."""

    def open(self) -> Any:
        """Once a process: a loaded teacher or driver. Raises UserError."""

    def make(self, opened: Any, name: str) -> int:
        """Write the shard of a name; the number of its instants."""


@dataclass(frozen=True)
class Machines:
    """Where shards are made."""

    jobs: int = 1
    ray: str = ""  # address of a cluster, "local" for one that is started here; empty: no Ray


Done = Callable[[str, int], None]


def make_shards(maker: ShardMaker, names: Sequence[str], machines: Machines, done: Done) -> None:
    """Make every named shard; `done` hears each as it is there, in any order."""
    if machines.ray:
        _on_ray(maker, names, machines, done)
    elif machines.jobs <= 1 or len(names) <= 1:
        opened = maker.open() if names else None
        for name in names:
            done(name, maker.make(opened, name))
    else:
        _in_processes(maker, names, machines.jobs, done)


def _in_processes(maker: ShardMaker, names: Sequence[str], jobs: int, done: Done) -> None:
    # Spawned: a model's threads and a renderer do not survive a fork.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(jobs, len(names)), context, _open, (maker,)) as pool:
        pending = {pool.submit(_make, name): name for name in names}
        try:
            for future in as_completed(pending):
                done(pending[future], future.result())
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


_opened: tuple[ShardMaker, Any] | None = None  # of a worker process


def _open(maker: ShardMaker) -> None:
    global _opened
    _opened = maker, maker.open()


def _make(name: str) -> int:
    assert _opened is not None
    return _opened[0].make(_opened[1], name)


def require_ray() -> None:
    """Raises UserError where Ray is not installed."""
    if importlib.util.find_spec("ray") is None:
        raise UserError(
            "--ray needs Ray on this machine and on the cluster: pip install 'alpamayo_ros[ray]'; "
            "--jobs N works without"
        )


def _on_ray(maker: ShardMaker, names: Sequence[str], machines: Machines, done: Done) -> None:
    """The folder of the labels has to be one that all machines of the cluster share."""
    require_ray()
    import ray

    try:
        if machines.ray == "local":
            ray.init(num_cpus=max(machines.jobs, 1), include_dashboard=False)
        else:
            ray.init(address=machines.ray)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UserError(f"no Ray cluster at {machines.ray}: {error}") from error

    class Worker:
        def __init__(self) -> None:
            self.opened = maker.open()

        def make(self, name: str) -> tuple[str, int]:
            return name, maker.make(self.opened, name)

    try:
        actor = ray.remote(num_cpus=1)(Worker)
        count = max(1, min(len(names), int(ray.cluster_resources().get("CPU", 1))))
        pool = ray.util.ActorPool([actor.remote() for _ in range(count)])
        for name, instants in pool.map_unordered(lambda w, name: w.make.remote(name), list(names)):
            done(name, instants)
    finally:
        ray.shutdown()

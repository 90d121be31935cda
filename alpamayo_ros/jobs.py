"""Many independent items: in this process, in several, or on a Ray cluster; same results."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from alpamayo_ros.errors import UserError

Item = TypeVar("Item", contravariant=True)
Result = TypeVar("Result", covariant=True)
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class Task(Protocol[Item, Result]):
    """What is done to every item: picklable, and heavy things only in `open`."""

    def open(self) -> Any:
        """Once a process: a loaded model. Raises UserError."""

    def do(self, opened: Any, item: Item) -> Result:
        """One item; the result is picklable. Raises UserError."""

    def close(self, opened: Any) -> None:
        """Give back what `open` took, where the process lives on."""


@dataclass(frozen=True)
class Machines:
    """Where items are worked on."""

    workers: int = 1
    ray: str = ""  # address of a cluster, "local" for one that is started here; empty: no Ray


def run_all(
    task: Task[_Item, _Result], items: Sequence[_Item], machines: Machines
) -> Iterator[tuple[int, _Result]]:
    """(index, result) of each item as it is done, in any order. Raises UserError."""
    if not items:
        return iter(())
    if machines.ray:
        return _on_ray(task, items, machines)
    if min(machines.workers, len(items)) > 1:
        return _in_processes(task, items, min(machines.workers, len(items)))
    return _here(task, items)


def _here(task: Task[_Item, _Result], items: Sequence[_Item]) -> Iterator[tuple[int, _Result]]:
    opened = task.open()
    try:
        for index, item in enumerate(items):
            yield index, task.do(opened, item)
    finally:
        task.close(opened)


def _in_processes(
    task: Task[_Item, _Result], items: Sequence[_Item], workers: int
) -> Iterator[tuple[int, _Result]]:
    # Spawned: a model's threads and a renderer do not survive a fork.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _open, (task,)) as pool:
        pending = {pool.submit(_do, item): index for index, item in enumerate(items)}
        try:
            for future in as_completed(pending):
                yield pending[future], future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


_opened: tuple[Any, Any] | None = None  # of a worker process


def _open(task: Any) -> None:
    global _opened
    _opened = task, task.open()


def _do(item: Any) -> Any:
    assert _opened is not None
    return _opened[0].do(_opened[1], item)


def _on_ray(
    task: Task[_Item, _Result], items: Sequence[_Item], machines: Machines
) -> Iterator[tuple[int, _Result]]:
    """Folders and files have to lie under the same paths on every node."""
    try:
        import ray
    except ImportError as error:
        raise UserError(
            "--ray needs Ray on this machine and on the cluster: pip install 'alpamayo_ros[ray]'; "
            "several processes on this machine work without"
        ) from error
    local = machines.ray == "local"
    try:
        ray.init(
            address=machines.ray,
            num_cpus=max(machines.workers, 1) if local else None,
            include_dashboard=False if local else None,
            log_to_driver=False,
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UserError(
            f"no Ray cluster at {machines.ray}: {error}; start one with `ray start --head`, "
            "or use --ray local"
        ) from error

    class Worker:
        def __init__(self) -> None:
            self.opened = task.open()

        def do(self, numbered: tuple[int, Any]) -> tuple[int, Any]:
            return numbered[0], task.do(self.opened, numbered[1])

    try:
        actor = ray.remote(num_cpus=1)(Worker)
        count = max(1, min(len(items), int(ray.cluster_resources().get("CPU", 1))))
        pool = ray.util.ActorPool([actor.remote() for _ in range(count)])
        yield from pool.map_unordered(lambda w, v: w.do.remote(v), list(enumerate(items)))
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise error.cause from None
        raise
    finally:
        ray.shutdown()

"""Many independent items: in this process, in several, or on a Ray cluster; same results."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol, TypeVar

from alpamayo_ros.errors import UserError
from alpamayo_ros.memory import MODEL_BYTES, keep_freed_memory

Item = TypeVar("Item")
Result = TypeVar("Result")
_ItemIn = TypeVar("_ItemIn", contravariant=True)
_ResultOut = TypeVar("_ResultOut", covariant=True)
_AHEAD = 2  # items that wait in line for each worker
_LOST = "a worker process was killed, most likely for want of memory (dmesg tells): use fewer"


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0))


class WorkerLost(UserError):
    """A worker process has ended in the middle of its work."""


class Task(Protocol[_ItemIn, _ResultOut]):
    """What is done to every item: picklable, and heavy things only in `open`."""

    def open(self) -> Any:
        """Once a process: a loaded model. Raises UserError."""

    def do(self, opened: Any, item: _ItemIn) -> _ResultOut:
        """One item; the result is picklable. Raises UserError."""

    def close(self, opened: Any) -> None:
        """Give back what `open` took, where the process lives on."""


@dataclass(frozen=True)
class Machines:
    """Where items are worked on."""

    workers: int = 1
    ray: str = ""  # address of a cluster, "local" for one that is started here; empty: no Ray
    actors: int = 0  # of a cluster, at most; 0: one a CPU, or as many as the GPUs allow
    gpus: int = 0  # of a cluster, for each actor: Ray hides GPUs from actors that ask for none


def run_all(
    task: Task[Item, Result], items: Sequence[Item], machines: Machines
) -> Iterator[tuple[int, Result]]:
    """(index, result) of each item as it is done, in any order. Raises UserError."""
    if not items:
        return
    with _pool(task, len(items), machines) as pool:
        left = iter(enumerate(items))
        pending = {pool.submit(item): index for index, item in islice(left, pool.window)}
        while pending:
            handle = pool.first(list(pending))
            yield pending.pop(handle), pool.result(handle)
            for index, item in islice(left, 1):
                pending[pool.submit(item)] = index


def in_order(
    task: Task[Item, Result], items: Iterable[Item], machines: Machines
) -> Iterator[Result]:
    """Results in the items' order, a few made ahead; the items may be endless. Raises UserError."""
    with _pool(task, None, machines) as pool:
        left = iter(items)
        pending = deque(pool.submit(item) for item in islice(left, pool.window))
        while pending:
            yield pool.result(pending.popleft())
            pending.extend(pool.submit(item) for item in islice(left, 1))


class _Pool(Protocol):
    window: int  # items that are handed in ahead of their results

    def submit(self, item: Any) -> Any:
        """A handle of the work on an item."""

    def first(self, handles: list[Any]) -> Any:
        """One that is done, as soon as there is one."""

    def result(self, handle: Any) -> Any:
        """What came of it, or what it raised."""


@contextmanager
def _pool(task: Task[Any, Any], items: int | None, machines: Machines) -> Iterator[_Pool]:
    workers = machines.workers if items is None else min(machines.workers, items)
    if machines.ray:
        with _on_ray(task, items, machines) as cluster:
            yield cluster
    elif workers > 1:
        # Spawned: a model's threads and a renderer do not survive a fork.
        context = multiprocessing.get_context("spawn")
        with _threads_for(workers):
            executor = concurrent.futures.ProcessPoolExecutor(workers, context, _open, (task,))
            try:
                yield _Processes(executor, workers)
            finally:
                # The processes leave while the results are written; Python waits for them at exit.
                executor.shutdown(wait=False, cancel_futures=True)
    else:
        opened = task.open()
        try:
            yield _Here(task, opened)
        finally:
            task.close(opened)


@contextmanager
def _threads_for(workers: int) -> Iterator[None]:
    """Processes that are started meanwhile share the cores, unless the user has said otherwise.

    Each would start a thread a core, and theirs wait for each other in busy loops.
    """
    name = "OMP_NUM_THREADS"
    if name in os.environ:
        yield
        return
    os.environ[name] = str(max(1, cores() // workers))
    try:
        yield
    finally:
        os.environ.pop(name, None)


class _Here:
    """In this process: done when the result is asked for."""

    window = 1

    def __init__(self, task: Task[Any, Any], opened: Any) -> None:
        self._task, self._opened = task, opened

    def submit(self, item: Any) -> Any:
        return _Held(item)

    def first(self, handles: list[Any]) -> Any:
        return handles[0]

    def result(self, handle: Any) -> Any:
        return self._task.do(self._opened, handle.item)


@dataclass(frozen=True, eq=False)  # each is another handle, whatever it holds
class _Held:
    item: Any


class _Processes:
    def __init__(self, executor: concurrent.futures.Executor, workers: int) -> None:
        self._executor, self.window = executor, _AHEAD * workers

    def submit(self, item: Any) -> Any:
        try:
            return self._executor.submit(_do, item)
        except concurrent.futures.BrokenExecutor as error:
            raise WorkerLost(_LOST) from error

    def first(self, handles: list[Any]) -> Any:
        done = concurrent.futures.wait(handles, return_when=concurrent.futures.FIRST_COMPLETED).done
        return next(iter(done))

    def result(self, handle: Any) -> Any:
        try:
            return handle.result()
        except concurrent.futures.BrokenExecutor as error:
            raise WorkerLost(_LOST) from error


_opened: tuple[Any, Any] | UserError | None = None  # of a worker process; or why it could not


def _open(task: Any) -> None:
    global _opened
    keep_freed_memory(MODEL_BYTES)
    # A caller that was killed cannot stop its workers: they would wait for items for ever.
    threading.Thread(target=_leave_with_caller, daemon=True).start()
    try:
        _opened = task, task.open()
    except UserError as error:  # raised here it would end the process without reaching the user
        _opened = error


def _leave_with_caller() -> None:
    caller = multiprocessing.parent_process()
    if caller is not None:
        caller.join()
        os._exit(1)


def _do(item: Any) -> Any:
    assert _opened is not None
    if isinstance(_opened, UserError):
        raise _opened
    return _opened[0].do(_opened[1], item)


class _Cluster:
    """Actors of a Ray cluster, each with the task opened; items go to them in turn."""

    def __init__(self, ray: Any, task: Task[Any, Any], actors: int, gpus: int) -> None:
        class Worker:
            def __init__(self) -> None:
                self.opened = task.open()

            def do(self, item: Any) -> Any:
                return task.do(self.opened, item)

        self._ray, self.window, self._turn = ray, _AHEAD * actors, 0
        remote = ray.remote(num_cpus=1, num_gpus=gpus)(Worker)
        self._actors = [remote.remote() for _ in range(actors)]

    def submit(self, item: Any) -> Any:
        self._turn = (self._turn + 1) % len(self._actors)
        return self._actors[self._turn].do.remote(item)

    def first(self, handles: list[Any]) -> Any:
        return self._ray.wait(handles, num_returns=1)[0][0]

    def result(self, handle: Any) -> Any:
        try:
            return self._ray.get(handle)
        except self._ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, UserError):
                raise error.cause from None
            raise
        except self._ray.exceptions.RayActorError as error:
            raise WorkerLost(f"a worker of the cluster has ended: {error}") from error


@contextmanager
def _on_ray(task: Task[Any, Any], items: int | None, machines: Machines) -> Iterator[_Cluster]:
    """Folders and files have to lie under the same paths on every node."""
    try:
        import ray
    except ImportError as error:
        raise UserError(
            "--ray needs Ray on this machine and on the cluster: pip install 'alpamayo_ros[ray]'; "
            "several processes on this machine work without"
        ) from error
    here = {"num_cpus": max(machines.workers, 1), "include_dashboard": False}
    try:
        ray.init(
            address=machines.ray, log_to_driver=False, **(here if machines.ray == "local" else {})
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UserError(
            f"no Ray cluster at {machines.ray}: {error}; start one with `ray start --head`, "
            "or use --ray local"
        ) from error
    try:
        actors = actors_of(ray.cluster_resources(), items, machines)
        yield _Cluster(ray, task, actors, machines.gpus)
    finally:
        ray.shutdown()


def actors_of(resources: Mapping[str, float], items: int | None, machines: Machines) -> int:
    """How many workers a cluster has room for, and items. Raises UserError where for none."""
    room = int(resources.get("CPU", 0))
    if machines.gpus:
        room = min(room, int(resources.get("GPU", 0)) // machines.gpus)
    if room < 1:
        wanted, other = "a CPU", ""
        if machines.gpus:
            wanted = f"{machines.gpus} GPU and a CPU"
            other = ", or have the model's options (device, provider, runtime) name a CPU"
        raise UserError(
            f"the Ray cluster has {resources.get('CPU', 0):g} CPUs and {resources.get('GPU', 0):g} "
            f"GPUs, and a worker wants {wanted}: add a node that has them{other}"
        )
    return min(limit for limit in (room, items, machines.actors) if limit)

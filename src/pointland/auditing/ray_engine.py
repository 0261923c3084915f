"""The engine of many machines: workers are Ray actors, their shards come back here and are committed here.

A worker, a process or a machine that dies takes along the shards it had, which others then score again; nothing that
was committed can be lost, since no worker writes. Ray's own checkpoints are not used: they are made at the end of a
job's blocks, so that an early death loses all.
"""

import math
import os
import pickle
import signal
import sys
import threading
from collections import Counter, deque
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from pointland.auditing.local import Work
from pointland.auditing.scoring import Scored
from pointland.auditing.worker import Load, Parts, Worker, orders, parts

AHEAD = 2  # shards that a worker has: one that it scores, one that waits for it
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1"}  # nothing is reported anywhere


@dataclass(frozen=True)
class Ray:
    """Score on Ray actors, here or on a cluster.

    The rows are those of :class:`~pointland.auditing.local.Local`, to the byte if torch has as many threads and the
    processors are alike. Pictures, and the model if it is loaded there, must be at the same paths on every machine.

    Attributes:
        workers: Actors, each with a model of its own.
        address: Of a cluster that runs, ``"auto"`` for the one of this machine; ``None`` starts one for this audit, on
            this machine alone. Where the calling process is connected to Ray already, that is used.
        gpus: GPUs of a worker, such as 0.5; by default 1 where the model is on one, else 0.
        cpus: Cores that Ray counts for a worker.
        readers: Processes that read and decode, for each worker; 0 does it in threads.
        threads: Of torch, for each worker; by default the machines' share.
        tries: How many workers one shard may take down.
        load: Loads the model on a worker; by default the model itself is sent.
        load_reference: The same for the reference model.
    """

    workers: int = 2
    address: str | None = None
    gpus: float | None = None
    cpus: float = 0.5
    readers: int = 1
    threads: int | None = None
    tries: int = 3
    load: Load | None = None
    load_reference: Load | None = None

    def __post_init__(self) -> None:
        if self.workers < 1 or self.tries < 1 or self.cpus <= 0 or (self.gpus or 0) < 0 or self.readers < 0:
            raise ValueError("an engine needs workers, tries and cpus above 0; gpus and readers may be 0")

    def __call__(self, work: Work) -> Generator[Scored]:
        """Yield the shards as they are done.

        Raises:
            ImportError: If Ray is not installed.
            ValueError: If there is no such cluster, no machine of it can have a worker, a worker cannot read the
                pictures or the model, or a shard took down every worker that tried it.
        """
        try:
            import ray
        except ImportError as error:
            raise ImportError("the engine ray needs the package ray: pip install 'pointland[ray]'") from error
        if not work.shards:
            return
        gpus = self.gpus if self.gpus is not None else float(work.device.startswith(("cuda", "xpu")))
        with _connected(ray, self.address, math.ceil(self.workers * self.cpus) + 1):
            _check_room(ray, {"CPU": self.cpus, "GPU": gpus})
            told = orders(
                work,
                load=self.load,
                load_reference=self.load_reference,
                readers=self.readers,
                threads=self.threads or _threads(ray, self.workers),
                pickler=ray.cloudpickle.CloudPickler,
            )
            actor = ray.remote(num_cpus=self.cpus, num_gpus=gpus, max_restarts=0, scheduling_strategy="SPREAD")(_Actor)
            crew = _Crew(ray, actor, ray.put(told), work, self.tries)
            try:
                yield from crew.scored(min(self.workers, len(work.shards)))
            finally:
                crew.dismiss()


class _Actor:
    """A worker behind calls; what keeps it from starting is raised by the first of them."""

    def __init__(self, told: bytes, path: list[str]) -> None:
        sys.path += [place for place in path if place not in sys.path]  # where modules of the caller are found
        self._worker: Worker | Exception
        try:
            self._worker = Worker(pickle.loads(told))
        except Exception as error:
            self._worker = error

    def ready(self) -> None:
        if isinstance(self._worker, Exception):
            raise self._worker

    def score(self, shard: int, items: Parts) -> Scored:
        if isinstance(self._worker, Exception):
            raise self._worker
        return self._worker.score(shard, items)


class _Call(NamedTuple):
    """Something that an actor was asked: to be ready, or to score a shard."""

    actor: Any
    shard: int | None


class _Crew:
    """Actors, what they were asked, and what is still to do."""

    def __init__(self, ray: Any, actor: Any, told: Any, work: Work, tries: int) -> None:
        self._ray, self._actor, self._told, self._work, self._tries = ray, actor, told, work, tries
        self._waiting = deque(work.shards)
        self._calls: dict[Any, _Call] = {}  # in the order they were made
        self._actors: list[Any] = []
        self._deaths: Counter[int | None] = Counter()
        self._aside: dict[int, str] = {}
        self._went_well = True  # a shard was scored since one was set aside

    def scored(self, n: int) -> Iterator[Scored]:
        """Yield all shards, with ``n`` actors."""
        exceptions = self._ray.exceptions
        lost = (
            exceptions.RayActorError,
            exceptions.WorkerCrashedError,
            exceptions.NodeDiedError,
            exceptions.ObjectLostError,
            exceptions.OutOfMemoryError,
        )
        for _ in range(n):
            self._hire()
        while self._waiting or any(call.shard is not None for call in self._calls.values()):
            (answer,), _ = self._ray.wait(list(self._calls), num_returns=1)
            actor, shard = self._calls[answer]
            try:
                found = self._ray.get(answer)
            except lost as error:
                self._lose(actor, str(error).strip().splitlines()[0])
                continue
            except exceptions.RayTaskError as error:
                cause = error.cause if isinstance(error.cause, Exception) else error
                cause.add_note(str(error))  # with what went on there
                raise cause from None
            del self._calls[answer]
            self._give(actor)
            if shard is None:
                self._deaths[None] = 0
                continue
            self._went_well = True
            self._work.tick(self._work.tasks.size(shard))
            yield found
        if self._aside:
            raise self._gave_up()

    def dismiss(self) -> None:
        """End all actors."""
        for actor in self._actors:
            with suppress(Exception):  # it may be dead, or its machine
                self._ray.kill(actor)

    def _hire(self) -> None:
        actor = self._actor.remote(self._told, [place for place in sys.path if Path(place).is_absolute()])
        self._actors.append(actor)
        self._calls[actor.ready.remote()] = _Call(actor, None)

    def _give(self, actor: Any) -> None:
        """Hand out shards: near the end one at a time, so that none waits behind a slow worker."""
        most = AHEAD if len(self._waiting) > len(self._actors) else 1
        has = sum(call.actor is actor for call in self._calls.values())
        while self._waiting and has < most:
            shard = self._waiting.popleft()
            self._calls[actor.score.remote(shard, parts(self._work.tasks, shard))] = _Call(actor, shard)
            has += 1

    def _lose(self, actor: Any, why: str) -> None:
        """Take back what a dead actor had; only what it was at, its oldest call, may have killed it."""
        had = {answer: call.shard for answer, call in self._calls.items() if call.actor is actor}
        for answer in had:
            del self._calls[answer]
        self._actors.remove(actor)
        with suppress(Exception):  # it may live on, behind a broken connection
            self._ray.kill(actor)
        at, *others = had.values()
        self._deaths[at] += 1
        if at is None:
            if self._deaths[at] >= self._tries * max(1, len(self._actors)):
                raise ValueError(f"workers die while they load the model: {why}")
        elif self._deaths[at] < self._tries:
            others = [at, *others]
        else:
            self._aside[at] = why
            if not self._went_well:
                raise self._gave_up()
            self._went_well = False
        self._waiting.extendleft(reversed([shard for shard in others if shard is not None]))
        for idle in set(self._actors) - {call.actor for call in self._calls.values()}:
            self._give(idle)  # the new one may wait long for a place
        if self._waiting:
            self._hire()

    def _gave_up(self) -> ValueError:
        shards, why = sorted(self._aside), [*self._aside.values()][-1]
        return ValueError(
            f"{self._tries} workers died at each of the shards {', '.join(map(str, shards))}, the last one so: {why}; "
            "what is finished is kept. Repeat the command; with --engine local it shows what kills them"
        )


@contextmanager
def _connected(ray: Any, address: str | None, cpus: int) -> Iterator[None]:
    """Connect to Ray unless this process is already, and leave things as they were."""
    if ray.is_initialized():
        yield
        return
    alone = {"num_cpus": max(os.cpu_count() or 1, cpus), "include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    asked: dict[str, Any] = alone if address is None else {}
    before = {name: os.environ.get(name) for name in QUIET}
    on_term = signal.getsignal(signal.SIGTERM)
    os.environ.update(QUIET)
    try:
        ray.init(address=address or "local", log_to_driver=False, logging_level="ERROR", **asked)
    except ConnectionError as error:
        raise ValueError(
            f"there is no Ray cluster at {address!r}; start one with `ray start --head`, or leave --address out"
        ) from error
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, on_term)  # Ray takes it; an audit is interrupted in order
    try:
        yield
    finally:
        ray.shutdown()


def _check_room(ray: Any, needed: dict[str, float]) -> None:
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(all(node.get(name, 0) >= n for name, n in needed.items()) for node in nodes):
        asked = ", ".join(f"{n:g} {name}" for name, n in needed.items() if n)
        have = "; ".join(", ".join(f"{node.get(name, 0):g} {name}" for name in needed) for node in nodes)
        raise ValueError(f"no machine of the cluster can have a worker of {asked}; they have {have}")


def _threads(ray: Any, workers: int) -> int:
    """Share the threads that torch would have here, on machines like this one."""
    n_nodes = len([node for node in ray.nodes() if node["Alive"]])
    return max(1, min(torch.get_num_threads(), torch.get_num_threads() * n_nodes // workers))

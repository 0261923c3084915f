"""A worker of an audit in another process or on another machine: what it is told, and how it scores a shard.

It gets orders once: how to come by the models, what to measure, where the pictures are. Then it is handed shards. It
writes nothing; what it returns is committed by whoever gave the orders.
"""

import hashlib
import io
import os
import pickle
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from pointland.auditing.local import Work, scorer_of
from pointland.auditing.plan import environment
from pointland.auditing.scoring import Scored
from pointland.auditing.tasks import Role, Task, Tasks
from pointland.data.item import Item
from pointland.data.picture import Picture, UnreadablePicture
from pointland.data.readers import Readers, Request
from pointland.data.source import Source, contents
from pointland.model import Model

PROOFS = 8  # items looked at for one that can be read

Load = Callable[[], Model]
Parts = list[tuple[Role, list[Item]]]  # of a shard, in order


class Proof(NamedTuple):
    """An item whose bytes a worker must find to be the same."""

    item: Item
    sha256: str


class Orders(NamedTuple):
    """What a worker is told once.

    Attributes:
        loads: Makes the audited model, and behind it each model that a metric holds.
        identity: Of the audited model, if the worker loads its own.
        environment: The versions here.
        work: The piece of work, pickled, with models by their number in ``loads``, without pictures.
        sources: Of the pictures, by role.
        proofs: One item of each source.
        size: Height and width that pictures are fitted to.
        readers: Processes that read and decode for this worker.
        threads: Of torch.
        folder: Where relative paths start.
    """

    loads: tuple[Load, ...]
    identity: Mapping[str, str] | None
    environment: Mapping[str, str]
    work: bytes
    sources: Mapping[str, Source]
    proofs: Mapping[str, Proof]
    size: tuple[int, int]
    readers: int
    threads: int
    folder: str


def orders(
    work: Work, *, load: Load | None, load_reference: Load | None, readers: int, threads: int, pickler: Any
) -> bytes:
    """Write down what a worker needs.

    Args:
        work: What the engine is to do.
        load: Makes the audited model; otherwise the model itself is sent.
        load_reference: Makes the model that a metric holds, the first of them if there are several.
        readers: Processes that read and decode, for each worker.
        threads: Of torch, for each worker.
        pickler: A class like :class:`pickle.Pickler`, which knows functions of ``__main__``.

    Raises:
        ValueError: If something cannot be sent.
    """
    others = {id(model): model for metric in work.metrics for model in _held(metric) if model is not work.model}
    models = [work.model, *others.values()]
    given = [load, load_reference, *[None] * len(others)]
    loads = tuple(way or partial(_itself, model) for way, model in zip(given, models, strict=False))
    try:
        told = Orders(
            loads,
            None if load is None else dict(work.model.identity),
            environment(),
            _without([*models, work.tasks, work.tick], work, pickler),
            {str(role): source for role, source in work.tasks.sources.items()},
            _proofs(work.tasks),
            work.model.codec.size,
            readers,
            threads,
            os.getcwd(),  # noqa: PTH109  # text, for a machine where it may not exist
        )
        return _without([], told, pickler)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise ValueError(
            f"the model, a metric or the pictures cannot be sent to another process ({error}); give the engine "
            "load=..., a function that loads the model there"
        ) from error


def parts(tasks: Tasks, shard: int) -> Parts:
    """Return the items of a shard, small enough to send."""
    return [(role, list(request.items)) for role, request in tasks.requests(shard)]


class Worker:
    """Scores shards as it was told.

    Args:
        told: Its orders.

    Raises:
        ValueError: If this machine cannot read the pictures, or has another model or other versions.
    """

    def __init__(self, told: Orders) -> None:
        if Path(told.folder).is_dir():
            os.chdir(told.folder)
        torch.set_num_threads(told.threads)
        _check_versions(told.environment)
        _check_pictures(told)
        models = [load() for load in told.loads]
        _check_model(models[0], told.identity)
        self._scorer = scorer_of(_With(models, told.work).load(), models[0])
        self._readers = Readers(told.sources, told.size, told.readers)

    def score(self, shard: int, items: Parts) -> Scored:
        """Return the rows of one shard."""
        opened = self._readers.read(Request(role, some) for role, some in items)

        def pictures() -> Iterator[tuple[Task, Picture | UnreadablePicture]]:
            for role, _ in items:
                yield from ((Task(item, role), picture) for item, picture in next(opened))

        return self._scorer.shard(shard, pictures())

    def close(self) -> None:
        """End the reading processes."""
        self._readers.__exit__(None, None, None)


def _itself(model: Model) -> Model:
    return model


class _With(pickle.Unpickler):
    """Reads what :func:`_without` wrote, with the models of this process, and ``None`` for the pictures."""

    def __init__(self, models: Sequence[Model], data: bytes) -> None:
        super().__init__(io.BytesIO(data))
        self._models = models

    def persistent_load(self, number: int) -> Model | None:
        return self._models[number] if number < len(self._models) else None


def _without(left_out: Sequence[object], content: object, pickler: Any) -> bytes:
    """Pickle all but some objects, for which their numbers stand."""
    numbers = {id(value): number for number, value in enumerate(left_out)}

    class Sender(pickler):  # type: ignore[misc]  # a class that is given
        def persistent_id(self, value: object) -> int | None:
            return numbers.get(id(value))

    stream = io.BytesIO()
    Sender(stream, protocol=pickle.HIGHEST_PROTOCOL).dump(content)
    return stream.getvalue()


def _held(metric: object) -> list[Model]:
    """Return the models that a metric holds, such as a reference model."""
    if not is_dataclass(metric):
        return []
    values = (getattr(metric, field.name) for field in fields(metric))
    return [value for value in values if isinstance(value, Model)]


def _proofs(tasks: Tasks) -> dict[str, Proof]:
    """Return an item of each source that can be read here, if there is one among the first few."""
    found = {}
    for role, source in tasks.sources.items():
        items = [item for item in tasks.items[role][:PROOFS] if item.fault is None]
        for item, data in zip(items, contents(source, [item.place for item in items]), strict=False):
            if isinstance(data, bytes):
                found[str(role)] = Proof(item, hashlib.sha256(data).hexdigest())
                break
    return found


def _check_versions(there: Mapping[str, str]) -> None:
    here = environment()
    differing = [f"{name} {here[name]} instead of {there[name]}" for name in here if here[name] != there[name]]
    if differing:
        raise ValueError(
            f"the worker on {platform.node()} has {', '.join(differing)}, so its rows could differ; install the same "
            "versions on every machine"
        )


def _check_pictures(told: Orders) -> None:
    for name, proof in told.proofs.items():
        (data,) = contents(told.sources[name], [proof.item.place])
        if isinstance(data, bytes) and hashlib.sha256(data).hexdigest() == proof.sha256:
            continue
        why = "it has other content there" if isinstance(data, bytes) else str(data)
        raise ValueError(
            f"the worker on {platform.node()} cannot read the {name} picture {proof.item.key!r} as it is read here: "
            f"{why}; keep the pictures on a disk that every machine has at the same path"
        )


def _check_model(model: Model, identity: Mapping[str, str] | None) -> None:
    if identity is None or dict(model.identity) == dict(identity):
        return
    differing = [name for name in identity if model.identity.get(name) != identity[name]]
    raise ValueError(
        f"the worker on {platform.node()} loaded another model than the one here: {', '.join(differing)} differs; keep "
        "it on a disk that every machine has, or the same revision in every cache"
    )

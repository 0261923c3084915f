"""The pictures of an audit in the order that shards cut them: the audited ones, then the reference."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, overload

from pointland.data.item import Item, Items
from pointland.data.readers import Request
from pointland.data.source import Images, Source
from pointland.data.sources import open_source

Role = Literal["audited", "reference"]
SHARD = 256  # items in one part
REQUEST = 32  # read together


class Task(NamedTuple):
    """One picture to deal with."""

    item: Item
    role: Role


class Tasks(Sequence[Task]):
    """All pictures of an audit.

    Attributes:
        sources: Where they come from, by role.
        items: What was listed there, by role.
    """

    def __init__(self, sources: Mapping[Role, Source]) -> None:
        self.sources = dict(sources)
        self.items: dict[Role, Items] = {role: source.items() for role, source in self.sources.items()}

    def __len__(self) -> int:
        return sum(map(len, self.items.values()))

    @overload
    def __getitem__(self, at: int) -> Task: ...
    @overload
    def __getitem__(self, at: slice) -> list[Task]: ...
    def __getitem__(self, at: int | slice) -> Task | list[Task]:
        if isinstance(at, slice):
            return [self[i] for i in range(*at.indices(len(self)))]
        place = range(len(self))[at]
        for role, items in self.items.items():
            if place < len(items):
                return Task(items[place], role)
            place -= len(items)
        raise IndexError(at)

    def __iter__(self) -> Iterator[Task]:
        return (Task(item, role) for role, items in self.items.items() for item in items)

    @property
    def n_shards(self) -> int:
        """Parts that will be written."""
        return -(-len(self) // SHARD)

    def requests(self, shard: int) -> list[tuple[Role, Request]]:
        """Return what to read for one shard, in order."""
        found: list[tuple[Role, Request]] = []
        start = 0
        first, last = shard * SHARD, min((shard + 1) * SHARD, len(self))
        for role, items in self.items.items():
            here = range(max(first - start, 0), min(last - start, len(items)), REQUEST)
            end = min(last - start, len(items))
            found += [(role, Request(role, items[at : min(at + REQUEST, end)])) for at in here]
            start += len(items)
        return found

    def size(self, shard: int) -> int:
        """Return how many items a shard has."""
        return min(SHARD, len(self) - shard * SHARD)

    @property
    def captions_repeat(self) -> bool:
        """Whether a caption is that of two pictures or more on average."""
        return any(items.n_captions >= 2 * items.n_distinct_captions > 0 for items in self.items.values())

    def record(self, out: Path) -> dict[str, object]:
        """Return what identifies the pictures, by role: their source seen from the run, how many, and a hash."""
        found: dict[str, object] = {"audited": None, "reference": None}
        for role, items in self.items.items():
            found[role] = {
                **self.sources[role].record(out),
                "n": len(items),
                "captions": items.n_captions,
                "listing_sha256": items.digest(),
            }
        return found


def tasks_of(
    images: Images,
    captions: Path | str | None = None,
    reference: Images | None = None,
    reference_captions: Path | str | None = None,
) -> Tasks:
    """List the pictures of an audit; arguments and errors as in :func:`~pointland.auditing.audit`."""
    sources: dict[Role, Source] = {"audited": open_source(images, captions=captions)}
    if reference is not None:
        sources["reference"] = open_source(reference, captions=reference_captions)
    return Tasks(sources)


class Share(NamedTuple):
    """Which shards are this process's when several share a run: every ``of``-th from ``number`` on, counted from 0."""

    number: int
    of: int

    def shards(self, tasks: Tasks) -> range:
        """Return their numbers."""
        return range(self.number, tasks.n_shards, self.of)


ALL = Share(0, 1)


def share_from(text: str | None, environment: Mapping[str, str] = os.environ) -> Share:
    """Read ``i/n``, such as ``0/4`` to ``3/4``; ``auto`` asks what started this process; ``None`` is everything.

    ``auto`` understands ``RANK`` and ``WORLD_SIZE`` (torchrun), a Slurm array, and the tasks of a Slurm step.

    Raises:
        ValueError: If it is neither, or nothing in the environment says which share this process has.
    """
    if text is None:
        return ALL
    if text != "auto":
        number, slash, of = text.partition("/")
        if not (slash and number.isdecimal() and of.isdecimal() and int(number) < int(of)):
            raise ValueError(f"shard {text!r} is not i/n with i from 0 to n - 1, such as 0/4, nor 'auto'")
        return Share(int(number), int(of))
    first = int(environment.get("SLURM_ARRAY_TASK_MIN", "0"))
    step = int(environment.get("SLURM_ARRAY_TASK_STEP", "1"))
    for number, of, start, each in (
        ("RANK", "WORLD_SIZE", 0, 1),
        ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT", first, step),
        ("SLURM_PROCID", "SLURM_NTASKS", 0, 1),
    ):
        if number in environment and of in environment:
            share, left = divmod(int(environment[number]) - start, max(each, 1))
            if left or not 0 <= share < int(environment[of]):
                raise ValueError(
                    f"{number} is {environment[number]} and {of} is {environment[of]}: not one of as many shares in "
                    "equal steps; give i/n instead of 'auto'"
                )
            return Share(share, int(environment[of]))
    raise ValueError(
        "shard 'auto' found neither RANK and WORLD_SIZE nor a Slurm array or step in the environment; give i/n"
    )

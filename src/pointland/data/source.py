"""Where pictures come from: one contract for folders, archives, tables and data sets of others.

A source lists its items once, in a fixed order, and then hands out bytes by place. What it hands out is hostile until
decoded; nothing is ever extracted to disk, and no name in the data becomes a path that is written to.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from pointland.data.item import Item, Items
from pointland.data.picture import Picture, UnreadablePicture, picture_or_reason


@runtime_checkable
class Source(Protocol):
    """A data set of pictures. Small and picklable: reading processes get a copy."""

    def items(self) -> Items:
        """List the pictures with their captions, always in the same order; none is opened.

        Raises:
            FileNotFoundError, NotADirectoryError: If it is not there.
            ValueError: If it cannot be listed, or holds no picture; the message names the file.
        """
        ...

    def open(self, places: Sequence[str]) -> Iterator[bytes | UnreadablePicture]:
        """Yield the bytes at each of these places (``Item.place``), in this order, or why there are none."""
        ...

    def record(self, seen_from: Path) -> dict[str, object]:
        """Say what it is for a run's record, without a path that tells of the machine.

        At least ``kind``, ``folder`` seen from the run directory, and what :func:`~pointland.data.sources.reopened`
        needs.
        """
        ...


Images = Path | str | Source | Iterable[Any]  # what a person may give; see pointland.data.sources.open_source


def pictures(
    source: Source, items: Sequence[Item], size: tuple[int, int]
) -> Iterator[tuple[Item, Picture | UnreadablePicture]]:
    """Open items one after another, in this process, and fit them to a size (height, width)."""
    opened = contents(source, [item.place for item in items if item.fault is None])
    for item in items:
        yield item, picture_or_reason(UnreadablePicture(item.fault) if item.fault else next(opened), size)


def contents(source: Source, places: Sequence[str]) -> Iterator[bytes | UnreadablePicture]:
    """Yield what :meth:`Source.open` does; whatever it raises becomes the reason of that one item."""
    at = 0
    while at < len(places):
        try:
            for data in islice(source.open(places[at:]), len(places) - at):
                at += 1
                yield data
            if at < len(places):
                at += 1
                yield UnreadablePicture("the source gave no answer for it")
        except Exception as error:  # nothing in data may stop an audit of the rest
            at += 1
            said = (error.strerror or "") if isinstance(error, OSError) else str(error)
            yield UnreadablePicture(f"cannot be read: {type(error).__name__}: {said:.200}")


def in_order(place: str) -> list[tuple[int, str]]:
    """Return what places sort by so that they are read one after another: numbers in them count as numbers."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", place)]

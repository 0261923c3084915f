"""A source whose items take their reader down; importable by the reading processes."""

import os
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pointland.data.item import Item, Items
from pointland.data.picture import UnreadablePicture
from pointland.data.source import Source


@dataclass(frozen=True)
class Unruly:
    """Another source, in which some places kill, stall or fail whoever opens them."""

    calm: Source
    kills: tuple[str, ...] = ()
    stalls: tuple[str, ...] = ()
    fails: tuple[str, ...] = ()
    surplus: int = 0

    def items(self) -> Items:
        return self.calm.items()

    def open(self, places: Sequence[str]) -> Iterator[bytes | UnreadablePicture]:
        places = [*places, *places[:1]] if self.surplus > 0 else places[: len(places) + self.surplus]
        for place in places:
            if place in self.kills:
                os.kill(os.getpid(), signal.SIGSEGV)
            if place in self.stalls:
                time.sleep(3600)
            if place in self.fails:
                raise RuntimeError("the disk is on fire")
            yield from self.calm.open([place])

    def record(self, seen_from: Path) -> dict[str, object]:
        return self.calm.record(seen_from)


def items_of(source: Source, *faults: str) -> list[Item]:
    """List a source; the places named are known to be faulty."""
    return [item._replace(fault="a link") if item.place in faults else item for item in source.items()]

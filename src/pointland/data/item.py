"""The pictures of a data set before they are opened: what each is called, where it is, what it was captioned."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple, overload

import pyarrow as pa
import pyarrow.compute as pc

BLOCK = 16_384  # items that are Python objects at a time


class Item(NamedTuple):
    """A picture that is to be audited.

    Attributes:
        key: Its stable name in the data set, character for character as the source gives it. In a folder the POSIX path
            relative to it; a name that is not UTF-8 has lone surrogates in it (:func:`os.fsdecode`).
        place: Where its bytes are, in the words of its :class:`~pointland.data.source.Source`.
        caption: The text it was trained with; ``None`` when there is none or it is empty.
        fault: Why it cannot be a picture, when the listing already shows it: a link, a second item of that name.
    """

    key: str
    place: str
    caption: str | None = None
    fault: str | None = None


class Items(Sequence[Item]):
    """Many items, compact: a million with captions of a line take about 0.2 GB. Made by :meth:`of`."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    @classmethod
    def of(cls, items: Iterable[Item]) -> "Items":
        """Keep items in their order; a second one of a name gets a name of its own, and that as its fault."""
        blocks = [_block(block) for block in _batches(items)]
        found = cls(pa.concat_tables(blocks).combine_chunks() if blocks else _SCHEMA.empty_table())
        keys = found._table["key"]
        if pc.count_distinct(keys).as_py() == len(keys):
            return found
        return cls(pa.concat_tables([_block(block) for block in _batches(_told_apart(found))]).combine_chunks())

    def __len__(self) -> int:
        return int(self._table.num_rows)

    @overload
    def __getitem__(self, at: int) -> Item: ...
    @overload
    def __getitem__(self, at: slice) -> "Items": ...
    def __getitem__(self, at: int | slice) -> "Item | Items":
        if isinstance(at, slice):
            start, stop, step = at.indices(len(self))
            if step != 1:
                return Items(self._table.take(pa.array(range(start, stop, step), pa.int64())))
            return Items(self._table.slice(start, max(0, stop - start)))
        place = range(len(self))[at]
        return Item(*(_text(column[place].as_py()) for column in self._table.columns))  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Item]:
        for start in range(0, len(self), BLOCK):
            columns = (map(_text, column.to_pylist()) for column in self._table.slice(start, BLOCK).columns)
            yield from map(Item._make, zip(*columns, strict=True))

    @property
    def n_captions(self) -> int:
        """How many have a caption."""
        return len(self) - int(self._table["caption"].null_count)

    @property
    def n_distinct_captions(self) -> int:
        """How many different ones there are."""
        return int(pc.count_distinct(self._table["caption"]).as_py())

    def captions(self) -> list[str]:
        """Return the captions there are, sorted, each once."""
        return sorted(map(str, map(_text, pc.unique(self._table["caption"]).drop_null().to_pylist())))

    def keys(self) -> Iterator[str]:
        """Iterate over the names."""
        return (item.key for item in self)

    def digest(self) -> str:
        """Return a SHA-256 over keys and captions, in order: whether two listings are the same."""
        found = hashlib.sha256()
        for item in self:
            found.update(f"{item.key}\0{item.caption}\n".encode("utf-8", "surrogatepass"))
        return found.hexdigest()


_SCHEMA = pa.schema([(name, pa.large_binary()) for name in Item._fields])  # binary: names may be no Unicode


def _batches(items: Iterable[Item]) -> Iterator[Sequence[Item]]:
    rows = iter(items)
    while block := list(islice(rows, BLOCK)):
        yield block


def _block(items: Sequence[Item]) -> pa.Table:
    columns = zip(*items, strict=True)
    return pa.table([pa.array(map(_bytes, column), pa.large_binary()) for column in columns], schema=_SCHEMA)


def _told_apart(items: Iterable[Item]) -> Iterator[Item]:
    seen: set[str] = set()
    next_number: dict[str, int] = {}  # to begin at 2 each time would take the square of the time
    for item in items:
        key = item.key
        if key in seen:
            number = next_number.get(key, 2)
            while (key := f"{item.key} ({number})") in seen:
                number += 1
            next_number[item.key] = number + 1
            twice = f"a second item named {item.key!r}, at {item.place!r:.200}; keys must be unique"
            item = item._replace(key=key, fault=twice)  # the same item, told apart
        seen.add(key)
        yield item


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else text.encode("utf-8", "surrogatepass")


def _text(data: bytes | None) -> str | None:
    return None if data is None else data.decode("utf-8", "surrogatepass")

"""One picture of a data set, before it is opened."""

from pathlib import Path
from typing import NamedTuple


class Item(NamedTuple):
    """A picture that is to be audited.

    Attributes:
        key: Its stable name: the POSIX path relative to the folder, character for character as the file system gives
            it. A name that is not UTF-8 has lone surrogates in it (:func:`os.fsdecode`).
        path: Where it is.
        caption: The text it was trained with; ``None`` when there is none or it is empty.
    """

    key: str
    path: Path
    caption: str | None

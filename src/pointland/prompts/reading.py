"""Prompts from where people keep them: a text file with one a line, or a table with a column of them."""

import csv
import io
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from pointland.data.folder import CAPTION_COLUMNS, read_text


class Prompt(NamedTuple):
    """A prompt and how often it was given.

    Attributes:
        text: Stripped; empty where a table has none.
        times: How often it occurs.
    """

    text: str
    times: int = 1


def read_prompts(path: Path | str, column: str | None = None) -> list[Prompt]:
    """Read prompts, each once, in the order of their first occurrence.

    Args:
        path: ``.txt`` with one prompt a line, whose blank lines say nothing; ``.csv`` with a header; or ``.parquet``.
        column: Name of a table's column; by default the one of ``caption, text, prompt`` that there is.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is of another kind, cannot be read, has no such column, or holds no prompt.
    """
    place = Path(path)
    if not place.is_file():
        raise FileNotFoundError(f"there is no file {place}; check the path")
    match place.suffix.lower():
        case ".txt":
            texts = [line for line in read_text(place, str(place)).splitlines() if line.strip()]
        case ".csv":
            texts = _csv(place, column)
        case ".parquet":
            texts = _parquet(place, column)
        case kind:
            raise ValueError(f"{place} ends in {kind or 'nothing'}; expected .txt, .csv or .parquet")
    if not texts:
        raise ValueError(f"{place} holds no prompt; expected one a line, or one a row")
    return counted(texts)


def counted(texts: Iterable[str]) -> list[Prompt]:
    """Return every text once, stripped, in order, with its count."""
    times: dict[str, int] = {}
    for text in texts:
        times[text.strip()] = times.get(text.strip(), 0) + 1
    return [Prompt(text, count) for text, count in times.items()]


def _csv(path: Path, column: str | None) -> list[str]:
    reader = csv.DictReader(io.StringIO(read_text(path, str(path)), newline=""))
    name = _column(path, list(reader.fieldnames or []), column)
    try:
        return [row[name] or "" for row in reader]
    except csv.Error as error:
        raise ValueError(f"{path} line {reader.line_num}: {error}; save it again as CSV") from error


def _parquet(path: Path, column: str | None) -> list[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        schema = pq.read_schema(path)
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path} is no Parquet file: {error}") from error
    name = _column(path, schema.names, column)
    return ["" if value is None else str(value) for value in pq.read_table(path, columns=[name])[name].to_pylist()]


def _column(path: Path, names: list[str], column: str | None) -> str:
    found = [name for name in names if name == column or (column is None and name.strip().lower() in CAPTION_COLUMNS)]
    if len(found) != 1:
        wanted = "one of " + ", ".join(CAPTION_COLUMNS) if column is None else repr(column)
        raise ValueError(f"{path} has the columns {', '.join(names) or 'none'}; expected {wanted}, name it by --column")
    return found[0]

"""Tables of results for people's own tools: Parquet for all of it, CSV for spreadsheets."""

from pathlib import Path

import pyarrow as pa

from pointland.auditing.directory import write_csv, write_table


def write_rows(folder: Path, table: pa.Table) -> None:
    """Write ``rows.parquet`` and ``rows.csv``; in CSV, text that a spreadsheet would run gets an apostrophe."""
    write_table(folder / "rows.parquet", table)
    write_csv(folder / "rows.csv", table.column_names, (list(map(cell, row.values())) for row in table.to_pylist()))


def cell(value: object) -> str:
    """Return one field of a CSV."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    text = str(value)
    return f"'{text}" if isinstance(value, str) and text.startswith(("=", "+", "-", "@")) else text


def prepared(out: Path | None, *, names: tuple[str, ...]) -> None:
    """Make the folder for results, or refuse one that holds other things than ``names``.

    Raises:
        ValueError: If it is a file, or holds something else.
    """
    if out is None:
        return
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file; choose a folder for --out")
    if out.exists() and any(item.name not in names for item in out.iterdir() if not item.name.startswith(".")):
        raise ValueError(f"{out} holds other files; choose an empty or new folder for --out")
    out.mkdir(parents=True, exist_ok=True)

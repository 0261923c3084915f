"""Tables of results for people's own tools: Parquet for all of it, CSV for spreadsheets."""

from pathlib import Path

import pyarrow as pa

from pointland.auditing.directory import write_csv, write_table
from pointland.cli.folders import check_folder
from pointland.data.cells import shielded


def write_rows(folder: Path, table: pa.Table) -> None:
    """Write ``rows.parquet`` and ``rows.csv``."""
    write_table(folder / "rows.parquet", table)
    write_spreadsheet(folder / "rows.csv", table)


def write_spreadsheet(path: Path, table: pa.Table) -> None:
    """Write CSV; text that a spreadsheet would run as a formula gets an apostrophe."""
    write_csv(path, table.column_names, (list(map(cell, row.values())) for row in table.to_pylist()))


def cell(value: object) -> str:
    """Return one field of a CSV."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return shielded(value) if isinstance(value, str) else str(value)


def prepared(out: Path | None, *inputs: Path | None, names: tuple[str, ...]) -> None:
    """Make the folder for results, or refuse one that holds other things than ``names``.

    Raises:
        NotADirectoryError: If it is a file.
        ValueError: If it holds something else, or lies inside one of ``inputs``.
    """
    if out is None:
        return
    check_folder(out, *inputs)
    if out.exists() and any(item.name not in names for item in out.iterdir() if not item.name.startswith(".")):
        raise ValueError(f"{out} holds other files; choose an empty or new folder for --out")
    out.mkdir(parents=True, exist_ok=True)

"""The command ``reproduce``: one figure or theorem of the paper, run anew, printed, drawn and written."""

import json
import math
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, get_args, runtime_checkable

from rich.console import Console
from rich.table import Table

from pointland.cli.folders import check_folder
from pointland.experiments import (
    figure_1,
    figure_3,
    out_of_distribution,
    proposition_4_2,
    score_norm,
    soft_count,
    theorem_4_1,
)

Name = Literal[
    "figure-1", "figure-3", "theorem-4.1", "proposition-4.2", "score-norm", "soft-count", "out-of-distribution"
]


@runtime_checkable
class Result(Protocol):
    """A dataclass of numbers and tables, and the claims that they bear out or not."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def claims(self) -> Mapping[str, bool]:
        """What was claimed, and whether it held."""
        ...


def run_reproduce(name: str, out: Path) -> None:
    """Run an experiment at its default size, print its numbers, and write its figure and its numbers into ``out``."""
    if name not in get_args(Name):
        raise ValueError(f"{name!r} is not an experiment; take one of {', '.join([*get_args(Name), 'figure-4'])}")
    check_folder(out)
    match name:
        case "figure-1":
            first = figure_1.run()
            save(name, first, figure_1.draw(first), out)
        case "figure-3":
            third = figure_3.run()
            save(name, third, figure_3.draw(third), out)
        case "theorem-4.1":
            theorem = theorem_4_1.run()
            save(name, theorem, theorem_4_1.draw(theorem), out)
        case "proposition-4.2":
            proposition = proposition_4_2.run()
            save(name, proposition, proposition_4_2.draw(proposition), out)
        case "soft-count":
            count = soft_count.run()
            save(name, count, soft_count.draw(count), out)
        case "out-of-distribution":
            outside = out_of_distribution.run()
            save(name, outside, out_of_distribution.draw(outside), out)
        case _:
            norm = score_norm.run()
            save(name, norm, score_norm.draw(norm), out)


def save(name: str, result: Result, picture: str, out: Path) -> None:
    """Print a result, and write ``name.svg`` and ``name.json`` into ``out``, which is made if need be."""
    show(result, Console())
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{name}.svg").write_text(picture, encoding="utf-8")
    numbers = json.dumps(jsonable(result), indent=1, allow_nan=False, ensure_ascii=False)
    (out / f"{name}.json").write_text(numbers + "\n", encoding="utf-8")
    Console().print(f"Written: {out / name}.svg, {out / name}.json", highlight=False, markup=False)


def show(result: Result, console: Console) -> None:
    """Print every table and number of a result, then which claims held."""
    for key, value in _values(result).items():
        title = key.replace("_", " ")
        rows = [row for row in (value if isinstance(value, list) else [value]) if isinstance(row, dict)]
        if not rows:
            console.print(f"{title}: {_words(value)}", highlight=False, markup=False)
        elif not any(isinstance(cell, list) for cell in rows[0].values()):  # those are the points of a picture
            console.print(_table(title, rows))
    for claim, held in result.claims.items():
        console.print("[green]holds       [/green]  " if held else "[red]does not hold[/red] ", end="")
        console.print(claim, highlight=False, markup=False)


def jsonable(result: Result) -> dict[str, object]:
    """Return a result as what JSON holds, its claims too."""
    return {**_values(result), "claims": dict(result.claims)}


def _values(result: Result) -> dict[str, object]:
    return {field.name: _plain(getattr(result, field.name)) for field in fields(result)}


def _table(title: str, rows: list[dict[str, object]]) -> Table:
    table = Table(title=title, title_justify="left", header_style="bold")
    for column, cell in rows[0].items():
        table.add_column(column.replace("_", " "), justify="left" if isinstance(cell, str) else "right")
    for row in rows:
        table.add_row(*(_words(cell) for cell in row.values()))
    return table


def _plain(value: object) -> object:
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return {key: _plain(part) for key, part in value._asdict().items()}
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} is no number; an experiment leaves out what it cannot compute")
    return value


def _words(cell: object) -> str:
    match cell:
        case None:
            return "—"
        case bool():
            return "yes" if cell else "no"
        case int():
            return f"{cell:,}"
        case float():
            return f"{cell:,.0f}" if abs(cell) >= 10_000 else f"{0.0 if abs(cell) < 5e-13 else cell:.4g}"
        case _:
            return str(cell)

"""What a suite returns: tables of numbers, targets with what was found, and what a reader has to know."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

ERROR = "mean absolute error, dimensions"
CONCORDANCE = "concordance index"

Json = Mapping[str, "Json"] | list["Json"] | tuple["Json", ...] | str | float | int | bool | None


class Row(NamedTuple):
    """One case.

    Attributes:
        case: Its name.
        lid: Its dimension, or those of its pieces, such as ``10+80+200``.
        d: Dimensions of the space.
        values: One number an estimator; one that does not apply is left out.
    """

    case: str
    lid: str
    d: int
    values: Mapping[str, float]


@dataclass(frozen=True)
class Table:
    """Numbers of one kind by case and estimator.

    Attributes:
        title: A few words.
        what: What the numbers are, with their unit.
        rows: One a case.
        published: Measurements by others on cases of these names, ``source -> case -> number``; an ``average`` too.
        averaged: Whether the average over cases means something.
    """

    title: str
    what: str
    rows: tuple[Row, ...]
    published: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    averaged: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the estimators, in the order in which they first come."""
        return tuple(dict.fromkeys(name for row in self.rows for name in row.values))

    @property
    def average(self) -> dict[str, float]:
        """Average over the cases, for the estimators that have all of them."""
        whole = [name for name in self.columns if all(name in row.values for row in self.rows)]
        return {name: sum(row.values[name] for row in self.rows) / len(self.rows) for name in whole}


class Target(NamedTuple):
    """What was to be reached, and what was.

    Attributes:
        what: In words.
        found: The number.
        sense: Which side of ``limit`` is good.
        limit: The number to reach.
    """

    what: str
    found: float
    sense: Literal["at most", "at least"]
    limit: float

    @property
    def reached(self) -> bool:
        """Whether it was; never for a number that is none."""
        return self.found <= self.limit if self.sense == "at most" else self.found >= self.limit


@dataclass(frozen=True)
class Result:
    """A suite's numbers.

    Attributes:
        suite: Its name.
        settings: What it was run with.
        tables: In the order of reading.
        targets: What was to be reached.
        notes: What a reader has to know to judge the numbers.
        details: More, for the JSON only: sigmas chosen, curves of training.
    """

    suite: str
    settings: Mapping[str, Json]
    tables: tuple[Table, ...]
    targets: tuple[Target, ...]
    notes: tuple[str, ...] = ()
    details: Mapping[str, Json] = field(default_factory=dict)


def worst(table: Table, estimator: str) -> float:
    """Return the largest number of an estimator over the cases that have it."""
    return max(row.values[estimator] for row in table.rows if estimator in row.values)


def jsonable(result: Result) -> dict[str, Json]:
    """Return a result as what JSON holds; ``schema`` changes when the meaning of a key does.

    Raises:
        ValueError: If a number is not finite: a suite leaves out what it cannot compute.
    """
    for table in result.tables:
        for row in table.rows:
            for name, value in row.values.items():
                if not math.isfinite(value):
                    raise ValueError(f"{table.title}, {row.case}, {name}: {value} is no number")
    return {
        "schema": 1,
        "suite": result.suite,
        "settings": result.settings,
        "targets": [{**target._asdict(), "reached": target.reached} for target in result.targets],
        "notes": list(result.notes),
        "tables": [
            {
                "title": table.title,
                "what": table.what,
                "rows": [{**row._asdict(), "values": dict(row.values)} for row in table.rows],
                "average": table.average if table.averaged else None,
                "published by others": {key: dict(value) for key, value in table.published.items()},
            }
            for table in result.tables
        ],
        "details": result.details,
    }

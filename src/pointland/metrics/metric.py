"""Metrics: what an audit computes of every picture, as named columns with a unit and a direction."""

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from pointland.metrics.evaluations import Condition, Evaluations


@dataclass(frozen=True)
class Column:
    """The contract of one column of an audit.

    Attributes:
        name: Its name in the rows.
        title: Its name for people.
        unit: ``dimensions``, ``bytes``, ``1``, ...
        memorized_when: Which end is suspicious.
        needs: What an item must have for a value.
        stderr: The column that holds its standard error, if it has one.
        description: What the number is, in one sentence.
        source: Where it was published.
        parts: Numbers an item: 1, or more for maps and vectors, which reports do not list but may draw.
    """

    name: str
    title: str
    unit: str
    memorized_when: Literal["low", "high", "neither"]
    needs: Literal["nothing", "caption"]
    stderr: str | None
    description: str
    source: str
    parts: int = 1


@runtime_checkable
class Metric(Protocol):
    """Something that fills columns of an audit from the shared evaluations of a batch."""

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns it fills, standard errors apart."""
        ...

    def __call__(self, batch: Evaluations) -> dict[str, Float[Tensor, " b"] | Float[Tensor, "b parts"]]:
        """Return values by column name, NaN where there is none, standard errors included."""
        ...


NEEDS: dict[Condition, Literal["nothing", "caption"]] = {"unconditional": "nothing", "conditional": "caption"}
WORDS: dict[Condition, str] = {"unconditional": "without caption", "conditional": "with caption"}

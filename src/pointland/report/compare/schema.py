"""What :func:`pointland.report.compare.compare` returns and ``compare.json`` holds; see ``docs/compare.md``.

``A`` is the run that comes first, ``B`` the one that comes after. Differences are always B less A.
"""

from typing import Literal, TypedDict

from pointland.report.schema import Direction, Estimate, Warned

SCHEMA_VERSION = 1

Group = Literal["model", "measurement", "verdict", "data", "software"]


class Side(TypedDict):
    """One of the two runs.

    Attributes of the record, and its verdict at the rate used here.
    """

    name: str
    model: str
    weights_sha256: str | None
    space: str
    sigma: float | None
    finished: bool
    fdr: float
    decide_by: str
    title: str
    unit: str
    memorized_when: Direction
    n_audited: int
    n_reference: int
    n_failed: int
    n_flagged: int
    undecided: str


class Setting(TypedDict):
    """A setting in which the runs differ; ``None`` where one has no such setting."""

    group: Group
    name: str
    a: str | None
    b: str | None


class Pictures(TypedDict):
    """How the audited pictures of the two runs were matched."""

    n_paired: int
    n_by_content: int
    n_by_name: int
    n_caption_changed: int
    n_only_a: int
    n_only_a_copies: int
    n_only_a_failed: int
    n_only_b: int
    n_only_b_copies: int
    n_replaced: int
    only_a: list[str]
    only_b: list[str]
    replaced: list[str]


class Change(TypedDict):
    """One picture in both runs, or in one of them.

    ``value_a`` and ``value_b`` are in each run's own deciding column; in ``movers`` they are in the movers' column.
    ``difference`` and ``z`` (in combined standard errors) are ``None`` where values are not comparable. ``share_a`` and
    ``share_b`` are places among the pictures in both runs, from 0 (the most suspicious) to 1.
    """

    key: str
    key_b: str | None
    caption: str | None
    caption_changed: bool
    value_a: float | None
    value_b: float | None
    stderr_a: float | None
    stderr_b: float | None
    difference: float | None
    z: float | None
    q_a: float | None
    q_b: float | None
    share_a: float | None
    share_b: float | None


class Flags(TypedDict):
    """What became of the flags; every list is cut to 500 pictures, every count is of all.

    ``newly`` are in both runs and flagged in B alone; ``only_b`` are flagged pictures that A does not have. Both count
    as newly flagged for the exit code. ``lost`` are flagged in A and have no value in B.
    """

    n_newly: int
    n_no_longer: int
    n_both: int
    n_lost: int
    n_only_a: int
    n_only_b: int
    n_newly_within_noise: int | None
    newly: list[Change]
    no_longer: list[Change]
    both: list[Change]
    lost: list[Change]
    only_a: list[Change]
    only_b: list[Change]


class Paired(TypedDict):
    """Paired differences of one column, B less A.

    ``stderr`` is the median over pictures of the combined standard error of one difference. ``n_down`` and ``n_up``
    moved by more than 1.96 of their own combined errors; by chance alone about 5 % do.
    """

    n: int
    median_a: float
    median_b: float
    difference: Estimate
    stderr: float | None
    n_down: int | None
    n_up: int | None


class ColumnChange(TypedDict):
    """What happened to one column.

    ``values`` and ``reference`` are ``None`` where the numbers of the two runs do not mean the same, for the reason in
    ``why_not``; ranks are compared all the same. ``net`` is the median difference of the audited pictures less that of
    the reference pictures that both runs have.
    """

    name: str
    title: str
    unit: str
    memorized_when: Direction
    n: int
    why_not: str
    values: Paired | None
    reference: Paired | None
    net: Estimate | None
    rank_correlation: Estimate | None


class Movers(TypedDict):
    """The pictures that moved most in one column; by value where comparable, by place in the ranking where not."""

    column: str | None
    title: str
    unit: str
    by: Literal["value", "rank"]
    toward: list[Change]
    away: list[Change]


class Comparison(TypedDict):
    """Everything that changed between two audits."""

    schema_version: int
    headline: str
    comparable: bool
    why_not: list[str]
    a: Side
    b: Side
    warnings: list[Warned]
    settings: list[Setting]
    pictures: Pictures
    flags: Flags
    columns: list[ColumnChange]
    movers: Movers

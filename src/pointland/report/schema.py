"""What :func:`pointland.report.summarize` returns and ``summary.json`` holds; ``docs/summary.md`` says it in words."""

from typing import Any, Literal, TypedDict

SCHEMA_VERSION = 1

State = Literal["flagged", "none", "ranked", "empty"]
Direction = Literal["low", "high", "neither"]


class Estimate(TypedDict):
    """An estimate with its 95 % interval."""

    value: float
    low: float
    high: float


class Verdict(TypedDict):
    """The decision over all audited pictures."""

    state: State
    headline: str
    n_audited: int
    n_valued: int
    n_screened: int
    n_reference: int
    n_flagged: int
    n_beyond: int
    fdr: float
    decide_by: str
    title: str
    unit: str
    memorized_when: Direction
    threshold: float | None
    smallest_p: float | None
    needed: int
    n_strata: int
    undecided: str
    kinds: dict[str, int]


class Warned(TypedDict):
    """Something to know before believing the numbers."""

    level: Literal["warning", "note"]
    kind: str
    text: str


class Spread(TypedDict):
    """Median and quartiles of the values of one role."""

    n: int
    median: float | None
    low: float | None
    high: float | None


class ColumnSummary(TypedDict):
    """One column: its contract, what it holds, and why values are missing."""

    name: str
    title: str
    unit: str
    memorized_when: Direction
    needs: str
    stderr: str | None
    description: str
    source: str
    audited: Spread
    reference: Spread | None
    missing: dict[str, int]


class GroupDensity(TypedDict):
    """The histogram of one group, scaled so that its area is the share of values inside the edges."""

    group: str
    n: int
    outside: int
    density: list[float]


class Density(TypedDict):
    """Histograms of one column, one a group, on common edges."""

    column: str
    edges: list[float]
    groups: list[GroupDensity]
    threshold: float | None
    flagged: list[float]


class SeparationSummary(TypedDict):
    """How well one column or floor tells a labelled group from the controls."""

    column: str
    title: str
    floor: bool
    group: str
    n: int
    n_controls: int
    auroc: Estimate
    tpr: Estimate | None
    median: float
    roc: list[list[float]]


class Dose(TypedDict):
    """One rung of the ladder of copies."""

    copies: int
    n: int
    median: Estimate
    auroc: Estimate | None


class DoseResponse(TypedDict):
    """A column against the number of copies in the training set."""

    column: str
    title: str
    unit: str
    floor: bool
    controls: Spread | None
    doses: list[Dose]


class ScatterPoint(TypedDict):
    """One picture in the plane of complexity and the deciding column."""

    x: float
    y: float
    group: Literal["flagged", "audited", "reference"]


class Scatter(TypedDict):
    """The deciding column against PNG size, thinned."""

    x: str
    y: str
    n: int
    points: list[ScatterPoint]


class Copy(TypedDict):
    """Another picture of the same group of copies."""

    key: str
    role: str
    file: str
    exact: bool


class Extracted(TypedDict):
    """How often a picture, or the part that its template repeats, was given back in one way of asking."""

    way: str
    part: str
    n: int
    k: int | None
    low: float | None
    high: float | None
    nearest: float
    threshold: float | None
    p: float | None
    file: str


class Extraction(TypedDict):
    """How many pictures were asked for, and how many were given back at least once."""

    asked: int
    given_back: int


class Row(TypedDict):
    """One audited picture."""

    key: str
    file: str
    caption: str | None
    caption_length: int | None
    label: str | None
    note: str | None
    width: int
    height: int
    sha256: str
    rank: int
    flagged: bool
    p: float | None
    q: float | None
    stratum: int
    values: dict[str, float | None]
    reasons: dict[str, str]
    kind: str | None
    evidence: list[str]
    n_exact: int
    n_near: int
    group: int | None
    copies: list[Copy]
    extracted: list[Extracted]
    explained: str | None


class Failure(TypedDict):
    """A picture that could not be read or scored."""

    key: str
    role: str
    reason: str


class CopyCounts(TypedDict):
    """How many pictures have copies among all pictures of the run."""

    exact_groups: int
    exact_pictures: int
    near_groups: int
    near_pictures: int
    across: int


class Summary(TypedDict):
    """Everything a report shows."""

    schema_version: int
    finished: bool
    verdict: Verdict
    warnings: list[Warned]
    columns: list[ColumnSummary]
    copies: CopyCounts
    groups: list[str]
    overview: Density | None
    densities: list[Density]
    separations: list[SeparationSummary]
    dose_response: list[DoseResponse]
    scatter: Scatter | None
    sigma: dict[str, Any]
    extraction: Extraction | None
    rows: list[Row]
    n_rows: int
    failed: list[Failure]
    n_failed: int
    provenance: dict[str, Any]

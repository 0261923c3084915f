"""Figure 4 in numbers."""

from dataclasses import dataclass
from typing import NamedTuple

PUBLISHED, CONFIGURATION, OURS, FLOOR = "published", "configuration", "pointland", "floor"


class Group(NamedTuple):
    """One folder.

    Attributes:
        group: Its name.
        n: Pictures measured.
        captions: Those of them with a caption.
        unreadable: Pictures that could not be read.
        cleaned_away: Near copies of a memorized picture, which are left out when the positives are cleaned.
    """

    group: str
    n: int
    captions: int
    unreadable: int
    cleaned_away: int


class Setting(NamedTuple):
    """One metric at one setting.

    Attributes:
        metric: Its name.
        setting: ``published``, ``configuration`` or ``pointland``.
        sigma: Noise scale that was used, a trained level.
        evaluations: Probes, Euler steps or draws.
    """

    metric: str
    setting: str
    sigma: float
    evaluations: int


class Row(NamedTuple):
    """How well one column tells the memorized pictures from others.

    Attributes:
        metric: The column in words.
        setting: As in :class:`Setting`; ``floor`` needs no model.
        against: Which pictures they are told from.
        n: Memorized pictures with a value.
        n_controls: Others with a value.
        auroc: Area under the ROC curve in the direction of the column's contract; below 0.5 it points the other way.
        auroc_low: Lower end of its 95 % bootstrap interval.
        auroc_high: Upper end.
        tpr: True positive rate at 1 % false positives; ``None`` with fewer than 100 others.
        tpr_low: Lower end of its interval.
        tpr_high: Upper end.
        median: Median of the memorized.
        median_controls: Median of the others.
    """

    metric: str
    setting: str
    against: str
    n: int
    n_controls: int
    auroc: float
    auroc_low: float
    auroc_high: float
    tpr: float | None
    tpr_low: float | None
    tpr_high: float | None
    median: float
    median_controls: float


class Histogram(NamedTuple):
    """The density of one column in one folder.

    Attributes:
        metric: The column in words.
        setting: As in :class:`Row`.
        group: The folder.
        n: Values.
        edges: Edges of the bins, common to all folders; they leave out at most 1 % of each folder at either end.
        density: Of every bin; the area is the share of the values inside.
    """

    metric: str
    setting: str
    group: str
    n: int
    edges: tuple[float, ...]
    density: tuple[float, ...]


class LeftOut(NamedTuple):
    """A column that could not be judged, and why."""

    metric: str
    reason: str


@dataclass(frozen=True)
class Result:
    """Figure 4 in numbers.

    Attributes:
        model: Its name.
        space: What its points are.
        groups: The folders, the memorized first.
        settings: Every metric at every setting.
        separations: All memorized pictures against all others.
        cleaned: The same without near copies: of each group of near copies one memorized picture stays, and others
            that are near copies of a memorized one go.
        by_folder: All memorized pictures against each folder; empty with one folder.
        left_out: What is not judged.
        histograms: The densities of the figure.
    """

    model: str
    space: str
    groups: tuple[Group, ...]
    settings: tuple[Setting, ...]
    separations: tuple[Row, ...]
    cleaned: tuple[Row, ...]
    by_folder: tuple[Row, ...]
    left_out: tuple[LeftOut, ...]
    histograms: tuple[Histogram, ...]

    @property
    def claims(self) -> dict[str, bool]:
        """What the paper says of its figure, and beyond the paper the floors that it lacks, and whether it held."""
        rows = [row for row in self.separations if row.setting == PUBLISHED and not row.metric.startswith("Score norm")]
        floors = {row.metric: row.auroc for row in self.separations if row.setting == FLOOR}
        least = min((row.auroc for row in rows), default=0.0)
        found = {f"{row.metric}, as published: AUROC of at least 0.95": row.auroc >= 0.95 for row in rows}
        if rows and "PNG size" in floors:
            found["PNG size separates less well than each of them"] = floors.pop("PNG size") < least
        if rows and floors:
            found["beyond the paper: caption text separates less well than each of them"] = max(floors.values()) < least
        return found

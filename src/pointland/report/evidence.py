"""What labels allow to say: how well columns and floors separate, ROC curves, and the response to the number of copies.

The floors are what no model is needed for: PNG size (small is suspicious), and the caption's capitals, length and
words. Capitals and length are used in the direction that suits them best, so that no metric looks good because its
floor was read backwards.
"""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pointland.metrics.caption_floor import caption_floor
from pointland.report.items import Items, labels_of, sample, spread
from pointland.report.schema import (
    ColumnSummary,
    Dose,
    DoseResponse,
    Estimate,
    SeparationSummary,
    Verdict,
    Warned,
)
from pointland.report.words import interval
from pointland.verdict import UNMEMORIZED_LABELS, Interval, auroc, separations
from pointland.verdict import Direction as Side

Floats = NDArray[np.float64]

PNG = "png_bytes"
LARGEST_GROUP = 5_000
LARGEST_TEXT = 2_000
RESAMPLES = 1_000
CURVE = 101
GOOD_FLOOR = 0.7


class Labelled(NamedTuple):
    """Audited and reference pictures together, with the label of each.

    Attributes:
        columns: Values of every column that has a direction, and of PNG size.
        captions: Captions.
        labels: Labels; the reference is ``held_out``.
        controls: Places of the controls.
        groups: Places of every other label.
        sampled: Whether a group was too large and is represented by a sample.
    """

    columns: dict[str, tuple[Floats, Side]]
    captions: list[str | None]
    labels: list[str | None]
    controls: NDArray[np.int64]
    groups: dict[str, NDArray[np.int64]]
    sampled: bool


def labelled(
    audited: Items, reference: Items, labels: Mapping[str, str], columns: Sequence[ColumnSummary], seed: int
) -> Labelled:
    """Gather what the labels are about."""
    given = [*labels_of(audited, labels), *["held_out"] * len(reference)]
    places: dict[str, list[int]] = {}
    for place, label in enumerate(given):
        if label is not None:
            places.setdefault("" if label.lower() in UNMEMORIZED_LABELS else label, []).append(place)
    sampled = any(len(found) > LARGEST_GROUP for found in places.values())
    controls = sample(places.pop("", []), LARGEST_GROUP, seed)
    groups = {label: sample(places[label], LARGEST_GROUP, seed) for label in in_order(places)}
    directed: dict[str, tuple[Floats, Side]] = {}
    for column in columns:
        if column["name"] == PNG or column["memorized_when"] != "neither":
            values = np.concatenate([audited.floats(column["name"]), reference.floats(column["name"])])
            directed[column["name"]] = values, "high" if column["memorized_when"] == "high" else "low"
    return Labelled(
        directed,
        [*audited.texts("caption"), *reference.texts("caption")],
        given,
        controls,
        groups,
        sampled,
    )


def in_order(labels: Mapping[str, object] | Sequence[str]) -> list[str]:
    """Return labels in the order of people: letters, and numbers by their size, so that x5 comes before x10."""
    return sorted(
        labels,
        key=lambda label: [(p.isdecimal(), int(p) if p.isdecimal() else 0, p) for p in re.split(r"(\d+)", label)],
    )


def separate(data: Labelled, titles: Mapping[str, str], seed: int) -> list[SeparationSummary]:
    """Return the separation of every group by every column, floors last; empty without controls or without groups."""
    found: list[SeparationSummary] = []
    if not len(data.controls):
        return found
    for group, inside in data.groups.items():
        here = np.concatenate([inside, data.controls])
        columns = {name: (values[here], side) for name, (values, side) in data.columns.items() if name != PNG}
        floors = {PNG: data.columns[PNG]} if PNG in data.columns else {}
        columns |= {name: (values[here], side) for name, (values, side) in floors.items()}
        columns |= _text_floors([data.captions[place] for place in here], len(inside), seed)
        for one in separations(
            columns, [group] * len(inside) + ["held_out"] * len(data.controls), n_bootstrap=RESAMPLES
        ):
            values, side = columns[one.column]
            sign = -1.0 if side == "low" else 1.0
            found.append(
                SeparationSummary(
                    column=one.column,
                    title=titles.get(one.column, one.column),
                    floor=is_floor(one.column),
                    group=group,
                    n=one.n,
                    n_controls=one.n_controls,
                    auroc=estimate(one.auroc),
                    tpr=None if one.tpr is None else estimate(one.tpr),
                    median=one.median,
                    roc=roc(sign * values[: len(inside)], sign * values[len(inside) :]),
                )
            )
    return found


def is_floor(column: str) -> bool:
    """Whether a column needs no model at all."""
    return column == PNG or column in FLOOR_TITLES


FLOOR_TITLES = {
    "caption_capitals": "Capitals in the caption",
    "caption_length": "Length of the caption",
    "caption_words": "Words of the caption",
}


def roc(positive: Floats, negative: Floats) -> list[list[float]]:
    """Return the ROC curve as at most 101 points of false and true positive rate."""
    positive, negative = np.sort(positive[np.isfinite(positive)]), np.sort(negative[np.isfinite(negative)])
    thresholds = np.unique(np.concatenate([positive, negative]))[::-1]
    fpr = 1 - np.searchsorted(negative, thresholds) / len(negative)
    tpr = 1 - np.searchsorted(positive, thresholds) / len(positive)
    points = np.concatenate([[[0.0, 0.0]], np.stack([fpr, tpr], axis=1)])
    if len(points) > CURVE:
        steps = np.linspace(0, 1, CURVE)
        length = np.concatenate([[0], np.cumsum(np.abs(np.diff(points, axis=0)).sum(axis=1))])
        points = points[np.unique(np.searchsorted(length, steps * length[-1]).clip(0, len(points) - 1))]
    rounded: list[list[float]] = points.round(4).tolist()
    return rounded


def respond(
    data: Labelled, found: Sequence[SeparationSummary], columns: Sequence[ColumnSummary], seed: int
) -> list[DoseResponse]:
    """Return every column against the copies in labels of the form ``x5``; empty with fewer than two such labels."""
    ladder = {int(label[1:]): label for label in data.groups if re.fullmatch(r"x\d{1,6}", label)}
    if len(ladder) < 2:
        return []
    if "once" in data.groups:
        ladder.setdefault(1, "once")
    areas = {(one["column"], one["group"]): one["auroc"] for one in found}
    responses = []
    for column in columns:
        if column["name"] not in data.columns:
            continue
        values, _ = data.columns[column["name"]]
        doses = []
        for copies, label in sorted(ladder.items()):
            inside = values[data.groups[label]]
            inside = inside[np.isfinite(inside)]
            if len(inside):
                median = _median(inside, seed)
                area = areas.get((column["name"], label))
                doses.append(Dose(copies=copies, n=len(inside), median=median, auroc=area))
        if doses:
            responses.append(
                DoseResponse(
                    column=column["name"],
                    title=column["title"],
                    unit=column["unit"],
                    floor=is_floor(column["name"]),
                    controls=spread(values[data.controls]) if len(data.controls) else None,
                    doses=doses,
                )
            )
    return responses


def beaten(verdict: Verdict, found: Sequence[SeparationSummary]) -> list[Warned]:
    """Return a warning for every floor that separates a group as well as the deciding column does."""
    metrics = {one["group"]: one for one in found if one["column"] == verdict["decide_by"]}
    warned = []
    for one in found:
        metric = metrics.get(one["group"])
        if metric is None or not one["floor"] or one["column"] == verdict["decide_by"]:
            continue
        area, best = one["auroc"], metric["auroc"]
        if area["value"] > GOOD_FLOOR and area["high"] >= best["low"]:
            text = (
                f"For the group “{one['group']}”, “{one['title']}” alone separates about as well as "
                f"{metric['title']}: AUROC "
                f"{interval(**area)} against {interval(**best)}. Here the metric shows nothing that the floor does not."
            )
            warned.append(Warned(level="warning", kind="floor", text=text))
    return warned


def estimate(value: Interval) -> Estimate:
    """Return an interval as a dictionary."""
    return Estimate(value=value.value, low=value.low, high=value.high)


def _text_floors(captions: Sequence[str | None], n_group: int, seed: int) -> dict[str, tuple[Floats, Side]]:
    """Return the floors that read captions; empty unless both sides have some."""
    has = [place for place, caption in enumerate(captions) if caption]
    group = sample([place for place in has if place < n_group], LARGEST_TEXT, seed)
    controls = sample([place for place in has if place >= n_group], LARGEST_TEXT, seed)
    if not len(group) or not len(controls):
        return {}
    read = np.concatenate([group, controls])
    texts = [captions[place] or "" for place in read]
    capitals = np.array([sum(map(str.isupper, text[:10_000])) / len(text[:10_000]) for text in texts])
    lengths = np.array([float(len(text)) for text in texts])
    words = caption_floor(texts[: len(group)], texts[len(group) :], seed)
    floors: dict[str, tuple[Floats, Side]] = {}
    for name, values in (("caption_capitals", capitals), ("caption_length", lengths), ("caption_words", words)):
        if np.isfinite(values).any() and len(np.unique(values)) > 1:
            side: Side = "high"
            if name != "caption_words" and auroc(values[: len(group)], values[len(group) :]) < 0.5:
                side = "low"
            full = np.full(len(captions), np.nan)
            full[read] = values
            floors[name] = full, side
    return floors


def _median(values: Floats, seed: int) -> Estimate:
    """Return the median with its bootstrap interval."""
    rng = np.random.default_rng(seed)
    medians = [float(np.median(rng.choice(values, len(values)))) for _ in range(RESAMPLES)]
    low, high = np.quantile(medians, [0.025, 0.975]).tolist()
    return Estimate(value=float(np.median(values)), low=low, high=high)

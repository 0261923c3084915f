"""From the rows of every folder to separations, floors, cleaned positives and densities."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pointland.auditing.directory import Run
from pointland.experiments.figure_4.result import FLOOR, OURS, Group, Histogram, LeftOut, Result, Row, Setting
from pointland.experiments.figure_4.settings import Named, settings_of
from pointland.metrics.caption_floor import caption_floor
from pointland.metrics.metric import Metric
from pointland.metrics.near_copies import copy_groups
from pointland.metrics.png_size import PngSize
from pointland.model import Model
from pointland.verdict import MINIMUM_FOR_TPR, Direction, auroc, separations

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MEMORIZED = "memorized"
LARGEST_TEXT = 2_000
BINS = 32


class Measured(NamedTuple):
    """One column over all pictures.

    Attributes:
        title: In words.
        setting: As in :class:`Row`.
        side: Which end is memorized.
        values: NaN where there is none.
        needs_caption: Whether it is of captioned pictures alone.
    """

    title: str
    setting: str
    side: Direction
    values: Floats
    needs_caption: bool


def judge(
    model: Model, runs: dict[str, Run], metrics: Sequence[Metric], *, n_draws: int, n_bootstrap: int, seed: int
) -> Result:
    """Compute every number of the figure from the rows."""
    names = list(runs)
    group = np.concatenate([np.full(run.rows.num_rows, number) for number, run in enumerate(runs.values())])
    captions = [text for run in runs.values() for text in run.rows["caption"].to_pylist()]
    measured = _measured(model, runs, metrics) | _floors(captions, group == 0, seed)
    kept = _cleaned(runs, group)

    def rows(inside: NDArray[np.bool_], against: str) -> tuple[Row, ...]:
        return _rows(measured, group[inside] == 0, inside, against, n_bootstrap, seed)

    everything = np.ones(len(group), dtype=np.bool_)
    whole = rows(everything, "all negatives")
    judged = {(row.metric, row.setting) for row in whole}
    sigma = settings_of(model)[0].sigma
    ours = [Setting("Denoising loss", OURS, sigma, n_draws)]
    if model.conditional:
        ours.append(Setting("Guidance norm", OURS, sigma, n_draws))
    return Result(
        model=str(model.identity["name"]),
        space=model.codec.space,
        groups=tuple(
            Group(
                name,
                run.rows.num_rows,
                sum(text is not None for text in run.rows["caption"].to_pylist()),
                run.failed.num_rows,
                int((~kept[group == number]).sum()),
            )
            for number, (name, run) in enumerate(runs.items())
        ),
        settings=(*settings_of(model), *ours),
        separations=whole,
        cleaned=rows(kept, "all negatives"),
        by_folder=tuple(
            row
            for number, name in enumerate(names[1:], 1)
            if len(names) > 2
            for row in rows((group == 0) | (group == number), name)
        ),
        left_out=tuple(
            LeftOut(f"{one.title}, {one.setting}", _why(model, one, captions, group))
            for one in measured.values()
            if (one.title, one.setting) not in judged
        )
        + ((LeftOut("TPR at 1 % FPR", _too_few(whole)),) if any(row.tpr is None for row in whole) else ()),
        histograms=tuple(histogram for one in measured.values() for histogram in _histograms(one, group, names)),
    )


def _measured(model: Model, runs: dict[str, Run], metrics: Sequence[Metric]) -> dict[str, Measured]:
    found = {}
    for metric in metrics:
        setting = metric.setting if isinstance(metric, Named) else FLOOR if isinstance(metric, PngSize) else OURS
        for column in metric.columns:
            values = [
                np.asarray(run.rows[column.name].to_numpy(zero_copy_only=False), dtype=np.float64)
                if column.name in run.rows.column_names
                else np.full(run.rows.num_rows, np.nan)
                for run in runs.values()
            ]
            # at a clean point the score is small on the model's manifold, so a memorized one has a small norm
            side: Direction = "high" if column.memorized_when == "high" else "low"
            needs = column.needs == "caption"
            if model.conditional or not needs:
                found[column.name] = Measured(column.title, setting, side, np.concatenate(values), needs)
    return found


def _floors(captions: Sequence[str | None], memorized: NDArray[np.bool_], seed: int) -> dict[str, Measured]:
    """Return what captions alone say; capitals and length in the direction that suits them best."""
    has = np.array([bool(text) for text in captions])
    rng = np.random.default_rng(seed)
    read = []
    for side in (memorized, ~memorized):
        places = np.flatnonzero(has & side)
        read.append(places if len(places) <= LARGEST_TEXT else np.sort(rng.choice(places, LARGEST_TEXT, replace=False)))
    if not all(map(len, read)):
        return {}
    texts = [[captions[place] or "" for place in places.tolist()] for places in read]
    flat = [text for side_texts in texts for text in side_texts]
    scores = {
        "Capitals in the caption": np.array([sum(map(str.isupper, text)) / len(text) for text in flat]),
        "Length of the caption": np.array([float(len(text)) for text in flat]),
        "Words of the caption": caption_floor(texts[0], texts[1], seed),
    }
    found = {}
    for title, values in scores.items():
        if not np.isfinite(values).all():
            continue
        full = np.full(len(captions), np.nan)
        full[np.concatenate(read)] = values
        n = len(read[0])
        backwards = title != "Words of the caption" and auroc(values[:n], values[n:]) < 0.5
        found[title] = Measured(title, FLOOR, "low" if backwards else "high", full, True)
    return found


def _cleaned(runs: dict[str, Run], group: Ints) -> NDArray[np.bool_]:
    """Return which pictures stay: one memorized of each group of near copies, and no negative that is one of them."""
    hashes = [text for run in runs.values() for text in run.rows["sha256"].to_pylist()]
    looks = [text for run in runs.values() for text in run.rows["perceptual_hash"].to_pylist()]
    copies = np.asarray(copy_groups(hashes, looks).near, dtype=np.int64)
    of_memorized = set(copies[(group == 0) & (copies >= 0)].tolist())
    kept = np.ones(len(group), dtype=np.bool_)
    seen: set[int] = set()
    for place, number in enumerate(copies.tolist()):
        if number in of_memorized:
            kept[place] = group[place] == 0 and number not in seen
            seen.add(number)
    return kept


def _rows(
    measured: dict[str, Measured],
    memorized: NDArray[np.bool_],
    inside: NDArray[np.bool_],
    against: str,
    n_bootstrap: int,
    seed: int,
) -> tuple[Row, ...]:
    labels = [MEMORIZED if one else "held_out" for one in memorized]
    columns = {name: (one.values[inside], one.side) for name, one in measured.items()}
    rows = []
    for found in separations(columns, labels, seed=seed, n_bootstrap=n_bootstrap):
        one = measured[found.column]
        others = one.values[inside][~memorized]
        rows.append(
            Row(
                one.title,
                one.setting,
                against,
                found.n,
                found.n_controls,
                found.auroc.value,
                found.auroc.low,
                found.auroc.high,
                None if found.tpr is None else found.tpr.value,
                None if found.tpr is None else found.tpr.low,
                None if found.tpr is None else found.tpr.high,
                found.median,
                float(np.nanmedian(others)),
            )
        )
    return tuple(rows)


def _why(model: Model, one: Measured, captions: Sequence[str | None], group: Ints) -> str:
    if one.needs_caption:
        has = np.array([text is not None for text in captions])
        for side, inside in (("memorized", group == 0), ("negative", group != 0)):
            if not has[inside].any():
                return f"no {side} picture has a caption"
    return "too few finite values"


def _too_few(rows: Sequence[Row]) -> str:
    few = [row for row in rows if row.tpr is None]
    return f"{len(few)} of {len(rows)} rows have fewer than {MINIMUM_FOR_TPR} others"


def _histograms(one: Measured, group: Ints, names: Sequence[str]) -> list[Histogram]:
    values = {name: one.values[group == number] for number, name in enumerate(names)}
    known = {name: part[np.isfinite(part)] for name, part in values.items()}
    known = {name: part for name, part in known.items() if len(part)}
    if MEMORIZED not in known or len(known) < 2:
        return []
    low = min(float(np.quantile(part, 0.01)) for part in known.values())
    high = max(float(np.quantile(part, 0.99)) for part in known.values())
    if not high > low:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, BINS + 1)
    found = []
    for name, part in known.items():
        density = np.histogram(part, edges)[0] / (len(part) * np.diff(edges))
        found.append(Histogram(one.title, one.setting, name, len(part), tuple(edges.tolist()), tuple(density.tolist())))
    return found

"""Measuring: the LID of every picture by one estimator, without a verdict.

Every value comes with its error and interval, its unit, the scale that it is meant at, and the space that it is
measured in; that of a model also says whether the picture is on its manifold there, since off it the number is no
dimension. A picture that cannot be read is a row with a reason.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Literal, Protocol, get_args, runtime_checkable

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from pointland.auditing.rows import NO_VALUE, portable
from pointland.auditing.sampling import encode, sample_at_random
from pointland.auditing.tasks import tasks_of
from pointland.data.item import Item
from pointland.data.picture import Picture, UnreadablePicture
from pointland.data.source import Images, Source, pictures
from pointland.data.sources import open_source
from pointland.denoiser import Denoiser
from pointland.lid.checked import checked
from pointland.lid.chosen import Chosen, chosen_by_knee, chosen_by_plateau, worth
from pointland.lid.data import CensoredLid, DataLid, KernelLid, SetLid
from pointland.lid.estimate import LidEstimate
from pointland.lid.flipd import Flipd
from pointland.lid.on_manifold import OnManifold
from pointland.lid.plateau import LidCurve, OnPlateau
from pointland.lid.scale import candidates, sweep
from pointland.lid.spectrum import FilteredSpectrum
from pointland.model import Codec, Model
from pointland.models.codec import OVERFLOW, check_encoded, encoded

How = Literal["plateau", "resolution", "knee"]

SAMPLE = {"plateau": 16, "knee": 16, "resolution": 64}  # pictures that a scale is chosen from; an audit takes 64
SCALES = 13  # tried
YES = "yes"  # in the column on_manifold


@runtime_checkable
class ModelEstimator(Protocol):
    """An estimator of the model's LID, such as :class:`~pointland.lid.flipd.Flipd`."""

    @property
    def sigma(self) -> float:
        """The scale that dimension is meant at."""
        ...

    def __call__(self, denoise: Denoiser, x: Float[Tensor, "b *event"], keys: list[str]) -> LidEstimate:
        """Estimate the LID of every item."""
        ...


@runtime_checkable
class DataEstimator(Protocol):
    """An estimator of a data set's LID, such as :class:`~pointland.lid.data.mle.Mle`.

    It returns a named tuple: ``value``, ``low``, ``high`` and the like, one number a query or one for the whole set.
    """

    def __call__(
        self,
        queries: Float[np.ndarray, "q *event"],
        reference: Float[np.ndarray, "n *event"],
        exclude: Int[np.ndarray, " q"] | None = None,
    ) -> DataLid | SetLid | CensoredLid | KernelLid:
        """Estimate the LID at every query from its neighbours in the reference."""
        ...


def measure(
    model: Model,
    images: Images,
    estimator: ModelEstimator,
    *,
    captions: Path | str | None = None,
    conditional: bool = False,
    batch_size: int = 16,
    check: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> pa.Table:
    """Measure the model's LID at every picture.

    Args:
        model: The model.
        images: The pictures: a folder or another source, see :func:`~pointland.data.sources.open_source`.
        estimator: With its settings; random draws are keyed by the content of each picture.
        captions: As for :func:`~pointland.data.folder.read_folder`.
        conditional: Measure under each picture's caption; a picture without one is a row with a reason.
        batch_size: Pictures in one batch.
        check: Check also whether each picture is on the model's manifold; 26 forward passes a picture, or fewer where
            the estimator has made some of them, see :func:`~pointland.lid.checked.checked`.
        progress: Called with pictures done and in all.

    Returns:
        One row a picture, by key: ``key``, ``value``, ``stderr``, ``low``, ``high``, the estimator's ``parts``,
        ``on_manifold`` (``yes``, or why the value is no dimension: ``off the manifold``, ``negative``, ``above d``,
        ``unsure``), ``unit``, ``sigma``, ``space``, ``condition``, ``reason``.

    Raises:
        ValueError: If the source cannot be read, the model takes no captions and they are asked for, or sigma is
            outside its levels.
    """
    if conditional and not model.conditional:
        raise ValueError("this model takes no captions; measure without them")
    model.levels.nearest(estimator.sigma)
    source = open_source(images, captions=captions)
    items = source.items()
    rows: dict[str, dict[str, object]] = {}
    waiting: list[tuple[Item, Picture]] = []

    def score() -> None:
        x = model.codec.encode(torch.from_numpy(np.stack([picture.pixels for _, picture in waiting])))
        fine = encoded(x)
        some = []
        for pair, good in zip(waiting, fine.tolist(), strict=True):
            if good:
                some.append(pair)
            else:
                rows[pair[0].key] = {"reason": OVERFLOW}
        waiting.clear()
        if not some:
            return
        x = x[fine]
        denoise = model.given([item.caption for item, _ in some]) if conditional else model.unconditional
        names = [picture.sha256 for _, picture in some]
        checks: OnManifold | None = None
        if check:
            found, checks = checked(estimator, denoise, x, names, sigma=estimator.sigma)
        else:
            found = estimator(denoise, x, names)
        sizes = {"value": found.value, "stderr": found.stderr, "low": found.low, "high": found.high, **found.parts}
        for i, (item, _) in enumerate(some):
            rows[item.key] = {name: _number(values[i]) for name, values in sizes.items()}
            if checks is not None:
                word = checks.validity[i]
                rows[item.key]["on_manifold"] = YES if word == "dimension" else word
            if rows[item.key]["value"] is None:
                rows[item.key]["reason"] = NO_VALUE

    for done, (item, opened) in enumerate(pictures(source, items, model.codec.size), 1):
        if isinstance(opened, UnreadablePicture):
            rows[item.key] = {"reason": str(opened)}
        elif conditional and item.caption is None:
            rows[item.key] = {"reason": "no caption"}
        else:
            waiting.append((item, opened))
        if len(waiting) == batch_size or (waiting and done == len(items)):
            score()
        if progress is not None:
            progress(done, len(items))
    common = {
        "unit": "dimensions",
        "sigma": estimator.sigma,
        "space": model.codec.space,
        "condition": "conditional" if conditional else "unconditional",
    }
    return _table([{"key": portable(key), **rows[key], **common} for key in sorted(rows)])


def choose_sigma(
    model: Model,
    images: Images,
    how: How = "plateau",
    *,
    captions: Path | str | None = None,
    batch_size: int = 16,
    seed: int = 0,
) -> Chosen:
    """Choose one scale from a sample of the pictures, without captions.

    Args:
        model: The model.
        images: The pictures: a folder or another source, see :func:`~pointland.data.sources.open_source`.
        how: ``plateau``, for absolute dimensions: where the filtered spectra of the sample are flattest together.
            ``resolution``, for ranking, as an audit does: where the denoising loss tells pictures apart best.
            ``knee``, the published choice: the median knee of FLIPD's curves.
        captions: As for :func:`~pointland.data.folder.read_folder`.
        batch_size: Pictures in one batch.
        seed: Of the sample and the draws.

    Returns:
        The trained level, the curve that it was chosen from, and what a value there is worth.

    Raises:
        ValueError: If no picture can be read, the model has fewer than 5 levels to try, or a value is not finite.

    Cost:
        16 pictures at 13 scales, 15 forward passes each (plateau) or 5 (knee); 64 pictures, 4 passes (resolution).
    """
    if how not in get_args(How):
        raise ValueError(f"a scale is chosen by one of {', '.join(get_args(How))}, not by {how!r}")
    tasks = tasks_of(images, captions)
    found = sample_at_random(tasks, model.codec.size, SAMPLE[how], seed)
    x, keys = check_encoded(encode(model.codec, found, batch_size)), [picture.sha256 for picture in found]
    denoise, size = model.unconditional, float((x - x.mean(0)).square().mean().sqrt())
    if how == "resolution":
        ranked = sweep(denoise, x, keys, candidates(model.levels), seed=seed, batch_size=batch_size)
        whole = ranked.values.isfinite().all(-1)
        values, stderrs = ranked.values[whole], ranked.stderrs[whole]
        ends = values - 1.96 * stderrs, values + 1.96 * stderrs
        return worth(LidCurve(ranked.sigmas[whole].to(values), values, stderrs, *ends), ranked.best)
    spread = size if size > 0 else 1.0
    sigmas = tuple(candidates(model.levels, SCALES, 0.03 * spread, 0.5 * spread).tolist())

    def at(sigma: float) -> FilteredSpectrum | Flipd:
        return FilteredSpectrum(sigma, 2, seed=seed) if how == "plateau" else Flipd(sigma, 4, seed)

    parts = [slice(start, start + batch_size) for start in range(0, len(x), batch_size)]
    curves = [OnPlateau(at, sigmas).curve(denoise, x[part], keys[part]) for part in parts]
    values, stderrs, lows, highs = (torch.cat(each, dim=1).cpu() for each in list(zip(*curves, strict=True))[1:])
    curve = LidCurve(curves[0].sigmas.cpu(), values, stderrs, lows, highs)
    return chosen_by_knee(curve) if how == "knee" else chosen_by_plateau(curve, d=x[0].numel())


def measure_data(
    images: Images,
    estimator: DataEstimator,
    *,
    reference: Images | None = None,
    codec: Codec | None = None,
    size: tuple[int, int] = (32, 32),
) -> pa.Table:
    """Measure the LID of a data set at every picture, from its neighbours; no model is needed.

    Args:
        images: The pictures to measure at; see :func:`~pointland.data.sources.open_source`.
        estimator: With its settings.
        reference: Pictures among which neighbours are looked for; ``images`` itself by default, each picture
            then left out of its own neighbourhood (a copy of it under another name counts).
        codec: Measure in a model's space instead of in pixels.
        size: Height and width that pictures are fitted to, without a codec.

    Returns:
        One row a picture, by key: ``key``, what the estimator returns (``value``, mostly ``low`` and ``high`` of a 95 %
        interval; a number for the whole set is repeated), ``unit``, ``space``, ``reason``.

    Raises:
        ValueError: If a source cannot be read, or there are too few pictures for the estimator.
    """
    keys, queries, failed = _points(open_source(images), codec, size)
    if reference is None:
        found = estimator(queries, queries, np.arange(len(queries)))
    else:
        found = estimator(queries, _points(open_source(reference), codec, size)[1])
    space = f"pixels 3 x {size[0]} x {size[1]}" if codec is None else codec.space
    numbers = {
        name: np.broadcast_to(np.asarray(values, dtype=np.float64), len(keys))
        for name, values in found._asdict().items()
    }
    rows: list[dict[str, object]] = [
        {"key": portable(key), **{name: _number(values[i]) for name, values in numbers.items()}}
        for i, key in enumerate(keys)
    ]
    rows += [{"key": portable(key), "reason": reason} for key, reason in failed.items()]
    return _table(
        [{**row, "unit": "dimensions", "space": space} for row in sorted(rows, key=lambda row: str(row["key"]))]
    )


def _points(
    source: Source, codec: Codec | None, size: tuple[int, int]
) -> tuple[list[str], NDArray[np.float32], dict[str, str]]:
    keys, points, failed = [], [], {}
    for item, opened in pictures(source, source.items(), size if codec is None else codec.size):
        if isinstance(opened, UnreadablePicture):
            failed[item.key] = str(opened)
            continue
        image = torch.from_numpy(opened.pixels)[None]
        point = image.float() / 255 if codec is None else codec.encode(image)
        if not bool(encoded(point).all()):
            failed[item.key] = OVERFLOW
            continue
        keys.append(item.key)
        points.append(point.flatten().cpu().numpy())
    if not points:
        raise ValueError(
            f"none of the {len(failed)} pictures can be read; the last reason was {list(failed.values())[-1]}"
        )
    return keys, np.stack(points), failed


def _number(value: Tensor | np.floating | float) -> float | None:
    number = float(value)
    return number if np.isfinite(number) else None


def _table(rows: list[dict[str, object]]) -> pa.Table:
    names = dict.fromkeys(["key", "value", *(name for row in rows for name in row if name != "reason")])
    fields = {name: [row.get(name) for row in rows] for name in (*names, "reason")}
    text = {"key", "on_manifold", "unit", "space", "condition", "reason"}
    return pa.table({n: pa.array(v, pa.string() if n in text else pa.float64()) for n, v in fields.items()})

"""Scoring a shard: pictures in, rows and failures out. What every engine does, wherever it does it."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from pointland.auditing.batches import BatchSize, is_out_of_memory
from pointland.auditing.directory import FAILED
from pointland.auditing.rows import Values, portable, row_of, row_schema
from pointland.auditing.tasks import Task
from pointland.data.picture import Picture, UnreadablePicture
from pointland.metrics.evaluations import Evaluations
from pointland.metrics.metric import Column, Metric
from pointland.metrics.png_size import PngSize
from pointland.metrics.screen import suspicious
from pointland.metrics.sketch import Sketch
from pointland.model import Model

WIDENED = "scored again in float32"


class Scored(NamedTuple):
    """One shard, done.

    Attributes:
        shard: Its number.
        rows: Of what was scored.
        failed: Of what could not be.
    """

    shard: int
    rows: pa.Table
    failed: pa.Table


class Ready(NamedTuple):
    """A picture that waits to be scored.

    Attributes:
        place: In the shard.
        task: What it is.
        picture: Its pixels.
        screened: The screen's value, if it went through one.
    """

    place: int
    task: Task
    picture: Picture
    screened: Mapping[str, float | list[float]]


class Scorer:
    """What it takes to score one shard after another.

    Args:
        model: The model.
        metrics: What to measure; the first is the screen, if there is one.
        columns: That they fill for this model.
        batch: How many pictures at a time.
        seed: Of every draw.
        screen: Audited pictures above this value of the screen get nothing else that costs a network call.
        wide: Gives the model in float32, once more for pictures without a finite value; ``None`` if it is already.
    """

    def __init__(
        self,
        model: Model,
        metrics: Sequence[Metric],
        columns: Sequence[Column],
        *,
        batch: BatchSize,
        seed: int,
        screen: float | None = None,
        wide: Callable[[], Model | None] = lambda: None,
    ) -> None:
        self._model, self._metrics, self._columns = model, list(metrics), list(columns)
        self._batch, self._seed, self._screen, self._wide = batch, seed, screen, wide
        self._rows: dict[int, dict[str, object]] = {}

    def shard(
        self,
        number: int,
        opened: Iterable[tuple[Task, Picture | UnreadablePicture]],
        tick: Callable[[int], None] = lambda n: None,
    ) -> Scored:
        """Score the pictures of one shard as they come.

        Batches are cut the same way whatever happened before, so a run continued with the same batch size has the very
        rows of an uninterrupted one.

        Args:
            number: Of the shard.
            opened: Its items in order, with their pictures or why there are none.
            tick: Called with how many were dealt with.
        """
        self._rows = {}
        failed: list[dict[str, object]] = []
        looked_at: list[Ready] = []  # by the screen alone, so far
        close: list[Ready] = []
        for place, (task, picture) in enumerate(opened):
            if isinstance(picture, UnreadablePicture):
                failed.append({"key": portable(task.item.key), "role": task.role, "reason": portable(str(picture))})
                tick(1)
                continue
            screened = self._screen is not None and task.role == "audited"
            (looked_at if screened else close).append(Ready(place, task, picture, {}))
            if len(looked_at) >= self._batch.size:
                close += self._suspicious(looked_at, tick)
                looked_at = []
            if len(close) >= self._batch.size:
                self._closely(close, tick)
                close = []
        if looked_at:
            close += self._suspicious(looked_at, tick)
        if close:
            self._closely(close, tick)
        rows = [self._rows[place] for place in sorted(self._rows)]
        return Scored(
            number,
            pa.Table.from_pylist(rows, schema=row_schema(self._columns)),
            pa.Table.from_pylist(failed, schema=FAILED),
        )

    def _suspicious(self, some: Sequence[Ready], tick: Callable[[int], None]) -> list[Ready]:
        """Screen pictures; write rows for those that it clears, and return the others."""
        gauge, *rest = self._metrics
        free = [metric for metric in rest if isinstance(metric, PngSize | Sketch)]
        values = self._values([gauge, *free], some, learn=False)  # one call says nothing of many
        names = [column.name for column in gauge.columns]
        found = suspicious(torch.tensor(values[names[0]]), self._screen or 0.0).tolist()
        for i, (one, keep) in enumerate(zip(some, found, strict=True)):
            if not keep:
                self._write(one, values, i, screened_out=True)
        tick(len(found) - sum(found))
        return [
            one._replace(screened={name: values[name][i] for name in names}) for i, one in enumerate(some) if found[i]
        ]

    def _closely(self, some: Sequence[Ready], tick: Callable[[int], None]) -> None:
        """Compute every column; what the screen said already is not computed again."""
        step = self._batch.size
        for start in range(0, len(some), step):
            part = some[start : start + step]
            known = all(one.screened for one in part)
            values = self._values(self._metrics[1:] if known else self._metrics, part)
            if known:
                values |= {name: [one.screened[name] for one in part] for name in part[0].screened}
            bad = [i for i, one in enumerate(part) if self._is_bad(one, values, i)]
            wider = self._wide() if bad else None
            again = {} if wider is None else self._values(self._metrics, [part[i] for i in bad], wider)
            for i, one in enumerate(part):
                if wider is not None and i in bad:
                    self._write(one, again, bad.index(i), note=WIDENED)
                else:
                    self._write(one, values, i)
            tick(len(part))

    def _values(
        self, metrics: Sequence[Metric], some: Sequence[Ready], model: Model | None = None, *, learn: bool = True
    ) -> dict[str, Values]:
        pictures, captions = [one.picture for one in some], [one.task.item.caption for one in some]
        return score_batch(model or self._model, metrics, pictures, captions, self._seed, self._batch, learn=learn)

    def _is_bad(self, one: Ready, values: Mapping[str, Values], i: int) -> bool:
        """Say whether a value is missing that should be there."""
        captioned = one.task.item.caption is not None
        due = [column.name for column in self._columns if captioned or column.needs != "caption"]
        return any(name in values and not np.isfinite(values[name][i]).all() for name in due)

    def _write(
        self, one: Ready, values: Mapping[str, Values], i: int, *, screened_out: bool = False, note: str | None = None
    ) -> None:
        self._rows[one.place] = row_of(
            one.task, one.picture, self._columns, values, i, self._model, screened_out=screened_out, note=note
        )


def score_batch(
    model: Model,
    metrics: Sequence[Metric],
    pictures: Sequence[Picture],
    captions: Sequence[str | None],
    seed: int,
    batch: BatchSize | None = None,
    *,
    learn: bool = True,
) -> dict[str, Values]:
    """Compute the columns of some pictures; NaN where there is no value. Draws are keyed by the content of each.

    Out of memory, what is left goes on in halves, which ``batch`` remembers.
    """
    batch = batch or BatchSize(len(pictures), "cpu")
    done: list[dict[str, Values]] = []
    sizes: list[int] = []
    start, n = 0, len(pictures)
    while start < len(pictures):
        some = slice(start, start + n)
        began = time.monotonic()
        try:
            done.append(_values(model, metrics, pictures[some], captions[some], seed))
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            failure: RuntimeError | None = error
        else:
            failure = None
        if failure is not None:  # outside the handler, whose traceback holds the memory
            batch.ran_out(len(pictures[some]), failure.with_traceback(None))
            n = batch.size
            continue
        if learn:
            batch.ran(len(pictures[some]), time.monotonic() - began)
        sizes.append(len(pictures[some]))
        start += n
    nothing = [float("nan")]
    return {
        name: [value for part, size in zip(done, sizes, strict=True) for value in part.get(name, nothing * size)]
        for name in dict.fromkeys(name for part in done for name in part)
    }


def _values(
    model: Model, metrics: Sequence[Metric], pictures: Sequence[Picture], captions: Sequence[str | None], seed: int
) -> dict[str, Values]:
    images = torch.from_numpy(np.stack([picture.pixels for picture in pictures]))
    if torch.cuda.is_available():
        images = images.pin_memory()
    keys = [picture.sha256 for picture in pictures]
    batch = Evaluations(model, images, model.codec.encode(images), keys, captions, seed)
    values: dict[str, Tensor] = {}
    for metric in metrics:
        values.update(metric(batch))
    return {name: value.cpu().double().tolist() for name, value in values.items()}

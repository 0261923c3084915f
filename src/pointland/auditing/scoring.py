"""Scoring a shard: pictures in, rows and failures out. What every engine does, wherever it does it."""

import time
from collections.abc import Callable, Iterable, Sequence
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
from pointland.model import Model


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


def score_shard(
    model: Model,
    metrics: Sequence[Metric],
    columns: Sequence[Column],
    shard: int,
    opened: Iterable[tuple[Task, Picture | UnreadablePicture]],
    *,
    batch: BatchSize,
    seed: int,
    tick: Callable[[int], None],
) -> Scored:
    """Score the pictures of one shard as they come.

    Batches are cut the same way whatever happened before, so an interrupted and continued run has the very rows of an
    uninterrupted one.

    Args:
        model: The model.
        metrics: What to measure.
        columns: That they fill for this model.
        shard: Its number.
        opened: Its items in order, with their pictures or why there are none.
        batch: How many at a time.
        seed: Of every draw.
        tick: Called with how many were dealt with.
    """
    rows: list[dict[str, object]] = []
    failed: list[dict[str, object]] = []
    waiting: list[tuple[Task, Picture]] = []

    def score(some: list[tuple[Task, Picture]]) -> None:
        captions = [task.item.caption for task, _ in some]
        values = score_batch(model, metrics, [picture for _, picture in some], captions, seed, batch)
        rows.extend(row_of(task, picture, columns, values, i, model) for i, (task, picture) in enumerate(some))
        tick(len(some))

    for task, picture in opened:
        if isinstance(picture, UnreadablePicture):
            failed.append({"key": portable(task.item.key), "role": task.role, "reason": portable(str(picture))})
            tick(1)
            continue
        waiting.append((task, picture))
        if len(waiting) >= batch.size:
            score(waiting)
            waiting = []
    if waiting:
        score(waiting)
    return Scored(
        shard,
        pa.Table.from_pylist(rows, schema=row_schema(columns)),
        pa.Table.from_pylist(failed, schema=FAILED),
    )


def score_batch(
    model: Model,
    metrics: Sequence[Metric],
    pictures: Sequence[Picture],
    captions: Sequence[str | None],
    seed: int,
    batch: BatchSize | None = None,
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
    keys = [picture.sha256 for picture in pictures]
    batch = Evaluations(model, images, model.codec.encode(images), keys, captions, seed)
    values: dict[str, Tensor] = {}
    for metric in metrics:
        values.update(metric(batch))
    return {name: value.cpu().double().tolist() for name, value in values.items()}

"""The audit: pictures in, one row each out, in shards that are written whole or not at all.

Reading and decoding of the next shard overlaps with the network on this one. Batches are cut the same way whatever
happened before, so an interrupted and continued run has the very rows of an uninterrupted one.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from pointland.auditing import directory, plan
from pointland.auditing.directory import Run
from pointland.auditing.plan import SHARD, Choice, Task
from pointland.auditing.rows import Values, portable, row_of, row_schema
from pointland.auditing.settle import settle
from pointland.data.folder import read_folder
from pointland.data.labels import read_labels
from pointland.data.picture import Picture, UnreadablePicture, picture_or_reason
from pointland.metrics.evaluations import Evaluations
from pointland.metrics.metric import Metric
from pointland.metrics.model_gap import GAP
from pointland.model import Model
from pointland.verdict import check_rate

READERS = 2
DECIDE_BY = "denoising_loss_unconditional"


class Progress(NamedTuple):
    """How far an audit is.

    Attributes:
        done: Pictures dealt with, those before an interruption included.
        total: Pictures in all.
        fresh: Pictures dealt with by this process.
        seconds: Since this process began to score.
    """

    done: int
    total: int
    fresh: int
    seconds: float


def audit(
    model: Model,
    images: Path | str,
    *,
    out: Path | str,
    reference: Path | str | None = None,
    captions: Path | str | None = None,
    reference_captions: Path | str | None = None,
    labels: Path | str | None = None,
    sigma: float | Choice = "auto",
    metrics: Sequence[Metric] | None = None,
    reference_model: Model | None = None,
    also: Sequence[str] = (),
    n_draws: int = 8,
    n_probes: int = 4,
    fdr: float = 0.05,
    decide_by: str | None = None,
    batch_size: int = 16,
    seed: int = 0,
    progress: Callable[[Progress], None] | None = None,
    source: str | None = None,
    command: str = "",
) -> Run:
    """Audit a model for memorized pictures, or continue an interrupted audit.

    Args:
        model: What :func:`pointland.load` returns, or any other :class:`~pointland.model.Model`.
        images: Folder of pictures to audit, usually the training set.
        out: The run directory; made if absent, continued if it holds the same run.
        reference: Folder of pictures of the same kind that the model never trained on; without it the audit only ranks.
        captions: CSV or JSON lines with the captions of ``images``; otherwise the customs of
            :func:`~pointland.data.folder.read_folder`.
        reference_captions: The same for ``reference``.
        labels: CSV of what is known beforehand (``key,label``), to measure how well the columns separate it.
        sigma: Noise scale in model-space units, ``"auto"`` (see :mod:`pointland.lid.scale`) or ``"paper"``.
        metrics: Instead of the default ones; ``sigma`` and the counts are then ignored.
        reference_model: What the model was fine-tuned from, or an early checkpoint of it: the verdict then rests on the
            LID minus that model's.
        also: Names of further metrics, see :mod:`pointland.auditing.extras`.
        n_draws: Noise draws of the denoising loss and the guidance norm.
        n_probes: Probes of FLIPD.
        fdr: False discovery rate asked for.
        decide_by: The column that the verdict rests on, measured or derived (see :mod:`pointland.auditing.derived`); by
            default the denoising loss without caption, minus the reference model's if there is one.
        batch_size: Pictures in one batch; both conditions go through the network together, so it sees twice as many.
        seed: Of every draw.
        progress: Called after every batch.
        source: Where the model was loaded from, so that later commands find it again.
        command: What the user typed, for the record.

    Returns:
        The finished run, also in ``out``.

    Raises:
        ValueError: If the input cannot be audited, or ``out`` holds another run; the message says what to do.
    """
    check_rate(fdr)
    if decide_by is None:
        decide_by = DECIDE_BY if reference_model is None else GAP
    if reference_model is not None and reference_model.identity["weights_sha256"] == model.identity["weights_sha256"]:
        raise ValueError(
            "the reference model has the weights of the audited one, so every difference is 0; give the model it was "
            "fine-tuned from, or an earlier checkpoint"
        )
    folder, pictures = Path(out), Path(images)
    for place in (images, reference):
        if place is not None and folder.resolve().is_relative_to(Path(place).resolve()):
            raise ValueError(f"the run directory {folder} lies inside the pictures {place}; choose an --out elsewhere")
    tasks = tasks_of(pictures, captions, reference, reference_captions)
    directory.check_usable(folder)
    known = {}
    if labels is not None:
        known = read_labels(Path(labels), {task.item.key for task in tasks if task.role == "audited"})
    data: dict[str, object] = {
        "audited": plan.listing(pictures, [task.item for task in tasks if task.role == "audited"], folder),
        "reference": None
        if reference is None
        else plan.listing(Path(reference), [task.item for task in tasks if task.role == "reference"], folder),
    }
    earlier = directory.read_record(folder)["sigma"] if (folder / "run.json").exists() else None
    settled = settle(
        model,
        tasks,
        sigma,
        metrics,
        n_draws=n_draws,
        n_probes=n_probes,
        batch_size=batch_size,
        seed=seed,
        earlier=earlier,
        reference_model=reference_model,
        also=also,
    )
    record = plan.record(
        model,
        settled.metrics,
        data=data,
        sigma=settled.sigma,
        seed=seed,
        fdr=fdr,
        decide_by=decide_by,
        batch_size=batch_size,
        source=plan.seen_from(folder, source),
        command=command,
        device=settled.device,
    )
    folder.mkdir(parents=True, exist_ok=True)
    with directory.locked(folder):
        directory.open_run(folder, record)
        if labels is not None:
            rows = [(portable(key), label) for key, label in known.items()]
            directory.write_csv(folder / "labels.csv", ("key", "label"), rows)
        _score(model, settled.metrics, tasks, folder, batch_size, seed, progress)
        if directory.read_record(folder).get("finished") is None:
            directory.finish(folder, finished=plan.now())
    return directory.read_run(folder)


def tasks_of(
    images: Path | str,
    captions: Path | str | None = None,
    reference: Path | str | None = None,
    reference_captions: Path | str | None = None,
) -> list[Task]:
    """List the pictures of an audit: the audited ones by key, then the reference by key; errors as in :func:`audit`."""
    tasks = [Task(item, "audited") for item in read_folder(Path(images), _path(captions))]
    if reference is not None:
        tasks += [Task(item, "reference") for item in read_folder(Path(reference), _path(reference_captions))]
    return tasks


def score_batch(
    model: Model, metrics: Sequence[Metric], pictures: Sequence[Picture], captions: Sequence[str | None], seed: int
) -> dict[str, Values]:
    """Compute the columns of one batch; NaN where there is no value. Draws are keyed by the content of each picture.

    Out of memory, the batch is halved and tried again, down to one picture.
    """
    try:
        images = torch.from_numpy(np.stack([picture.pixels for picture in pictures]))
        keys = [picture.sha256 for picture in pictures]
        batch = Evaluations(model, images, model.codec.encode(images), keys, captions, seed)
        values: dict[str, Tensor] = {}
        for metric in metrics:
            values.update(metric(batch))
        return {name: value.cpu().double().tolist() for name, value in values.items()}
    except torch.OutOfMemoryError:
        if len(pictures) == 1:
            raise
    half = len(pictures) // 2
    parts = [
        score_batch(model, metrics, pictures[some], captions[some], seed) for some in (slice(half), slice(half, None))
    ]
    nothing = [float("nan")]
    names = dict.fromkeys([*parts[0], *parts[1]])
    sizes = (half, len(pictures) - half)
    return {
        name: [v for part, size in zip(parts, sizes, strict=True) for v in part.get(name, nothing * size)]
        for name in names
    }


def _score(
    model: Model,
    metrics: Sequence[Metric],
    tasks: Sequence[Task],
    folder: Path,
    batch_size: int,
    seed: int,
    progress: Callable[[Progress], None] | None,
) -> None:
    columns = plan.columns_of(model, metrics)
    schema = row_schema(columns)
    done = directory.finished_shards(folder)
    shards = [number for number in range(-(-len(tasks) // SHARD)) if number not in done]
    behind = len(tasks) - sum(len(tasks[n * SHARD : (n + 1) * SHARD]) for n in shards)
    started, fresh = time.monotonic(), 0
    with _reading(model, tasks, shards) as read:
        for number, opened in read:
            rows: list[dict[str, object]] = []
            failed: list[dict[str, object]] = []
            readable: list[tuple[Task, Picture]] = []
            for task, picture in opened:
                if isinstance(picture, Picture):
                    readable.append((task, picture))
                else:
                    failed.append({"key": portable(task.item.key), "role": task.role, "reason": str(picture)})
            for start in range(0, len(readable), batch_size):
                part = readable[start : start + batch_size]
                captions = [task.item.caption for task, _ in part]
                values = score_batch(model, metrics, [picture for _, picture in part], captions, seed)
                rows += [row_of(task, picture, columns, values, i, model) for i, (task, picture) in enumerate(part)]
                fresh += len(part)
                if progress is not None:
                    progress(Progress(behind + fresh, len(tasks), fresh, time.monotonic() - started))
            fresh += len(failed)
            directory.commit(
                folder,
                number,
                pa.Table.from_pylist(rows, schema=schema),
                pa.Table.from_pylist(failed, schema=directory.FAILED),
            )
    if progress is not None:
        progress(Progress(len(tasks), len(tasks), fresh, time.monotonic() - started))


Opened = list[tuple[Task, Picture | UnreadablePicture]]


@contextmanager
def _reading(model: Model, tasks: Sequence[Task], shards: Sequence[int]) -> Iterator[Iterator[tuple[int, Opened]]]:
    """Read shards in order, the next one while this one is scored."""

    def open_one(task: Task) -> tuple[Task, Picture | UnreadablePicture]:
        return task, picture_or_reason(task.item.path, model.codec.size)

    pool = ThreadPoolExecutor(READERS)
    try:

        def submit(number: int) -> list[object]:
            return [pool.submit(open_one, task) for task in tasks[number * SHARD : (number + 1) * SHARD]]

        def stream() -> Iterator[tuple[int, Opened]]:
            ahead = submit(shards[0]) if shards else []
            for position, number in enumerate(shards):
                now, ahead = ahead, submit(shards[position + 1]) if position + 1 < len(shards) else []
                yield number, [future.result() for future in now]  # type: ignore[attr-defined]  # futures of open_one

        yield stream()
    finally:
        pool.shutdown(cancel_futures=True)


def _path(place: Path | str | None) -> Path | None:
    return None if place is None else Path(place)

"""The audit: pictures in, one row each out, in shards that are written whole or not at all.

Reading and decoding of the next shard overlaps with the network on this one. Batches are cut the same way whatever
happened before, so an interrupted and continued run has the very rows of an uninterrupted one.
"""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from pointland.auditing import directory, plan
from pointland.auditing.directory import Run
from pointland.auditing.plan import SHARD, Choice, Task
from pointland.data.folder import read_folder
from pointland.data.labels import read_labels
from pointland.data.picture import Picture, UnreadablePicture, read_picture
from pointland.lid import scale
from pointland.metrics.evaluations import Evaluations
from pointland.metrics.metric import Column, Metric
from pointland.metrics.near_copies import perceptual_hash
from pointland.model import Model
from pointland.verdict import check_rate

SAMPLE = 64
READERS = 2


class Progress(NamedTuple):
    """How far an audit is.

    Attributes:
        done: Pictures dealt with, earlier sessions of the same run included.
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
    n_draws: int = 8,
    n_probes: int = 4,
    fdr: float = 0.05,
    decide_by: str = "denoising_loss_unconditional",
    batch_size: int = 16,
    seed: int = 0,
    progress: Callable[[Progress], None] | None = None,
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
        n_draws: Noise draws of the denoising loss and the guidance norm.
        n_probes: Probes of FLIPD.
        fdr: False discovery rate asked for.
        decide_by: The column that the verdict rests on.
        batch_size: Pictures in one batch; both conditions go through the network together, so it sees twice as many.
        seed: Of every draw.
        progress: Called after every batch.
        command: What the user typed, for the record.

    Returns:
        The finished run, also in ``out``.

    Raises:
        ValueError: If the input cannot be audited, or ``out`` holds another run; the message says what to do.
    """
    check_rate(fdr)
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
    settled = choose(
        model,
        tasks,
        sigma,
        metrics,
        n_draws=n_draws,
        n_probes=n_probes,
        batch_size=batch_size,
        seed=seed,
        earlier=earlier,
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


class Settled(NamedTuple):
    """What is decided before scoring.

    Attributes:
        sigma: Its entry in the record: ``value``, ``chosen``, ``curve``.
        metrics: With their settings.
        device: Where the model's points are.
    """

    sigma: dict[str, Any]
    metrics: list[Metric]
    device: str


def choose(
    model: Model,
    tasks: Sequence[Task],
    sigma: float | Choice,
    metrics: Sequence[Metric] | None,
    *,
    n_draws: int,
    n_probes: int,
    batch_size: int,
    seed: int,
    earlier: dict[str, Any] | None = None,
) -> Settled:
    """Settle sigma and the metrics.

    A run that is continued keeps the sigma that it chose ``earlier``.

    Raises:
        ValueError: If no picture of a sample can be read, or the model does not denoise: then its scheduler is not the
            one it was trained with, or its prediction type is wrong.
    """
    x, keys = _sample(model, tasks, batch_size, seed)
    curve: dict[str, object] | None = None
    value = scale.PAPER_SIGMA if sigma == "paper" else sigma
    if value == "auto" and earlier is not None and earlier["chosen"] == "auto":
        value, curve = earlier["value"], earlier["curve"]
    elif value == "auto":
        found = scale.sweep(
            model.unconditional, x, keys, scale.candidates(model.levels), seed=seed, batch_size=batch_size
        )
        low, high = scale.quartiles(found.values)
        curve = {
            "sigmas": found.sigmas.tolist(),
            "median": _numbers(found.values.nanmedian(-1).values),
            "low": _numbers(low),
            "high": _numbers(high),
            "resolution": _numbers(found.resolution),
            "n_images": len(x),
        }
        value = found.best
    level = model.levels.nearest(float(value)).sigma
    check = scale.sweep(
        model.unconditional, x[:16], keys[:16], torch.tensor([level]), n_draws=1, seed=seed, batch_size=batch_size
    )
    if not bool(check.values.isfinite().any()):
        raise ValueError(
            f"the model gives no finite value at sigma {level:.4g}; load it in float32, or check its weights"
        )
    d = x[0].numel()
    if float(check.values.nanmedian()) >= d:
        raise ValueError(
            f"the model does not denoise: at sigma {level:.4g} its error is "
            f"{float(check.values.nanmedian()):.4g} of the noise's "
            f"{d}; check prediction_type and the betas in scheduler_config.json"
        )
    if metrics is None:
        made = (
            plan.paper_metrics(model, seed=seed)
            if sigma == "paper"
            else plan.default_metrics(model, level, n_draws=n_draws, n_probes=n_probes, seed=seed)
        )
    else:
        made = list(metrics)
    how = sigma if isinstance(sigma, str) else "fixed"
    return Settled({"value": level, "chosen": how, "curve": curve}, made, str(x.device))


def score_batch(
    model: Model, metrics: Sequence[Metric], pictures: Sequence[Picture], captions: Sequence[str | None], seed: int
) -> dict[str, list[float]]:
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
    columns = [column for metric in metrics for column in metric.columns]
    if not model.conditional:
        columns = [column for column in columns if column.needs != "caption"]
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
                rows += [_row(task, picture, columns, values, i, model) for i, (task, picture) in enumerate(part)]
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


def row_schema(columns: Sequence[Column]) -> pa.Schema:
    """Return the schema of a row: what it is, then the columns with their standard errors."""
    fields = [
        ("key", pa.string()),
        ("role", pa.string()),
        ("file", pa.string()),
        ("caption", pa.string()),
        ("width", pa.int64()),
        ("height", pa.int64()),
        ("sha256", pa.string()),
        ("perceptual_hash", pa.string()),
        ("note", pa.string()),
        ("reasons", pa.string()),
    ]
    for column in columns:
        fields.append((column.name, pa.float64()))
        if column.stderr is not None:
            fields.append((column.stderr, pa.float64()))
    return pa.schema(fields)


def _row(
    task: Task, picture: Picture, columns: Sequence[Column], values: dict[str, list[float]], i: int, model: Model
) -> dict[str, object]:
    caption = task.item.caption
    row: dict[str, object] = {
        "key": portable(task.item.key),
        "role": task.role,
        "file": portable(task.item.key),
        "caption": None if caption is None else portable(caption),
        "width": picture.width,
        "height": picture.height,
        "sha256": picture.sha256,
        "perceptual_hash": perceptual_hash(picture.pixels),
        "note": "caption cut to the text encoder's length" if caption is not None and model.is_cut(caption) else None,
    }
    reasons: dict[str, str] = {}
    for column in columns:
        value = values[column.name][i] if column.name in values else float("nan")
        if column.needs == "caption" and caption is None:
            reasons[column.name] = "no caption"
        elif not np.isfinite(value):
            reasons[column.name] = "the model gave no finite value"
        else:
            row[column.name] = value
            if column.stderr is not None and np.isfinite(error := values[column.stderr][i]):
                row[column.stderr] = error
    row["reasons"] = json.dumps(reasons) if reasons else None
    return row


def portable(text: str) -> str:
    r"""Return text that Parquet and JSON can hold: bytes of a name that are not UTF-8 become ``\xNN``."""
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # a surrogate that stands for no byte
        return text.encode("utf-8", "backslashreplace").decode("utf-8")


Opened = list[tuple[Task, Picture | UnreadablePicture]]


@contextmanager
def _reading(model: Model, tasks: Sequence[Task], shards: Sequence[int]) -> Iterator[Iterator[tuple[int, Opened]]]:
    """Read shards in order, the next one while this one is scored."""

    def open_one(task: Task) -> tuple[Task, Picture | UnreadablePicture]:
        try:
            return task, read_picture(task.item.path, model.codec.size)
        except UnreadablePicture as error:
            return task, error

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


def _numbers(values: Tensor) -> list[float | None]:
    return [value if np.isfinite(value) else None for value in values.tolist()]


def _sample(model: Model, tasks: Sequence[Task], batch_size: int, seed: int) -> tuple[Tensor, list[str]]:
    """Encode a sample of pictures, audited and reference alike."""
    order = np.random.default_rng(seed).permutation(len(tasks))
    found: list[Picture] = []
    why = ""
    for index in order.tolist():
        try:
            found.append(read_picture(tasks[index].item.path, model.codec.size))
        except UnreadablePicture as error:
            why = f"{tasks[index].item.key}: {error}"
        if len(found) == SAMPLE:
            break
    if not found:
        raise ValueError(f"none of the {len(tasks)} pictures can be read; the last reason was {why}")
    images = torch.from_numpy(np.stack([picture.pixels for picture in found]))
    x = torch.cat([model.codec.encode(part) for part in torch.split(images, batch_size)])
    return x, [picture.sha256 for picture in found]


def _path(place: Path | str | None) -> Path | None:
    return None if place is None else Path(place)

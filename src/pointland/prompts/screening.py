"""Screening: prompts in, one row each out, with the verdict of a reference of ordinary prompts if there is one.

The run directory is an audit's (:mod:`pointland.auditing.directory`): parts written whole or not at all, so that an
interrupted screening goes on where it stopped. Beside the parts stands ``prompts.parquet``, the finished table with
ranks and decisions. Every prompt's draws are keyed by its text: neighbours, order and batch size change nothing.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from pointland.auditing import directory, locks
from pointland.auditing.plan import environment, now
from pointland.auditing.rows import portable
from pointland.auditing.tasks import SHARD
from pointland.metrics import Column, Evaluations, Metric
from pointland.model import PromptedModel
from pointland.prompts.reading import Prompt
from pointland.prompts.signals import DECIDE_BY, signals
from pointland.prompts.words import unread, words_of
from pointland.verdict import Decisions, check_rate, decide

Values = Mapping[str, Sequence[float]]


class Screening(NamedTuple):
    """A finished screening.

    Attributes:
        folder: The run directory.
        record: Its ``run.json``.
        rows: One a prompt: ``prompt``, ``role``, ``times``, ``note``, ``reasons``, the columns with their standard
            errors, and for audited prompts ``rank``, ``p``, ``q``, ``flagged``.
        decisions: Of the audited prompts, in the order of their rows.
    """

    folder: Path
    record: dict[str, Any]
    rows: pa.Table
    decisions: Decisions


def screen(
    model: PromptedModel,
    prompts: Sequence[Prompt],
    *,
    out: Path | str,
    reference: Sequence[Prompt] = (),
    metrics: Sequence[Metric] | None = None,
    decide_by: str | None = None,
    fdr: float = 0.05,
    batch_size: int = 16,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    command: str = "",
) -> Screening:
    """Screen prompts for those that call up something memorized, or continue an interrupted screening.

    Args:
        model: The model.
        prompts: What to screen, see :func:`~pointland.prompts.reading.read_prompts`.
        out: The run directory.
        reference: Ordinary prompts of the same kind, none of which calls up anything memorized; without, the prompts
            are only ranked.
        metrics: From :func:`~pointland.prompts.signals.signals`; by default its default.
        decide_by: The column that decides; by default the guidance norm after a jump, or the first if it is not there.
        fdr: False discovery rate asked for.
        batch_size: Prompts in one batch; both conditions go through the network together, so it sees twice as many.
        seed: Of every draw.
        progress: Called after every batch with the prompts dealt with and all of them.
        command: What the user typed, for the record.

    Raises:
        ValueError: If there is no prompt, no such column, or the directory holds another run.
    """
    check_rate(fdr)
    if not prompts:
        raise ValueError("there is no prompt to screen; pass at least one")
    made = signals(model) if metrics is None else list(metrics)
    columns = [column for metric in made for column in metric.columns]
    chosen = deciding(columns, decide_by)
    tasks = [(prompt, "audited") for prompt in prompts] + [(prompt, "reference") for prompt in reference]
    folder = Path(out)
    record: dict[str, object] = {
        "schema_version": directory.SCHEMA_VERSION,
        "kind": "prompts",
        "model": dict(model.identity),
        "data": {"audited": _listing(prompts), "reference": _listing(reference) if reference else None},
        "metrics": [{"name": type(metric).__name__, **asdict(metric)} for metric in made],  # type: ignore[call-overload]  # metrics are dataclasses
        "seed": seed,
        "fdr": fdr,
        "decide_by": chosen.name,
        "columns": [asdict(column) for column in columns],
        "batch_size": batch_size,
        "shard_size": SHARD,
        "command": command,
        "environment": environment(),
        "created": now(),
        "finished": None,
    }
    directory.check_usable(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with locks.locked(folder):
        directory.open_run(folder, record)
        _fill(model, made, columns, tasks, folder, batch_size, seed, progress)
        if directory.read_record(folder).get("finished") is None:
            directory.finish(folder, finished=now())
        run = directory.read_run(folder)
        decisions = _decided(run.rows, chosen, fdr)
        rows = _with_decisions(run.rows, decisions)
        directory.write_table(folder / "prompts.parquet", rows)
    return Screening(folder, run.record, rows, decisions)


def evaluate(
    model: PromptedModel, metrics: Sequence[Metric], prompts: Sequence[str], seed: int
) -> dict[str, list[float]]:
    """Compute the columns of one batch; NaN where there is no value, as for an empty prompt."""
    blank = torch.zeros(len(prompts), 3, *model.codec.size, dtype=torch.uint8)
    x = torch.zeros_like(model.codec.encode(blank))  # a start has nothing of a picture
    captions = [prompt or None for prompt in prompts]
    batch = Evaluations(model, blank, x, list(prompts), captions, seed)
    values: dict[str, Tensor] = {}
    for metric in metrics:
        values.update(metric(batch))
    return {name: value.cpu().double().tolist() for name, value in values.items()}


def deciding(columns: Sequence[Column], name: str | None) -> Column:
    """Return the column that decides.

    Raises:
        ValueError: If there is none of that name.
    """
    by_name = {column.name: column for column in columns}
    if name is None:
        return by_name.get(DECIDE_BY, columns[0])
    if name not in by_name:
        raise ValueError(f"cannot decide by {name!r}; choose one of {', '.join(by_name)}")
    return by_name[name]


def _fill(
    model: PromptedModel,
    metrics: Sequence[Metric],
    columns: Sequence[Column],
    tasks: Sequence[tuple[Prompt, str]],
    folder: Path,
    batch_size: int,
    seed: int,
    progress: Callable[[int, int], None] | None,
) -> None:
    schema = _schema(columns)
    done = directory.finished_shards(folder)
    for shard in range(-(-len(tasks) // SHARD)):
        part = tasks[shard * SHARD : (shard + 1) * SHARD]
        rows: list[dict[str, object]] = []
        for start in range(0, 0 if shard in done else len(part), batch_size):
            some = part[start : start + batch_size]
            values = evaluate(model, metrics, [prompt.text for prompt, _ in some], seed)
            rows += [_row(model, task, columns, values, i) for i, task in enumerate(some)]
            if progress is not None:
                progress(shard * SHARD + start + len(some), len(tasks))
        if shard not in done:
            empty = directory.FAILED.empty_table()
            directory.commit(folder, shard, pa.Table.from_pylist(rows, schema=schema), empty)
    if progress is not None:
        progress(len(tasks), len(tasks))


def _schema(columns: Sequence[Column]) -> pa.Schema:
    texts = [(name, pa.string()) for name in ("prompt", "role", "note", "reasons")]
    numbers = [name for column in columns for name in (column.name, column.stderr) if name is not None]
    return pa.schema([*texts, ("times", pa.int64()), *((name, pa.float64()) for name in numbers)])


def _row(
    model: PromptedModel, task: tuple[Prompt, str], columns: Sequence[Column], values: Values, i: int
) -> dict[str, object]:
    prompt, role = task
    row: dict[str, object] = {"prompt": portable(prompt.text), "role": role, "times": prompt.times}
    if prompt.text and model.is_cut(prompt.text):
        lost = unread(words_of(model, prompt.text))
        row["note"] = portable(f"cut, not read: {lost}" if lost else "cut inside its last word")
    reasons = {}
    for column in columns:
        if np.isfinite(value := values[column.name][i]):
            row[column.name] = value
            if column.stderr is not None and np.isfinite(error := values[column.stderr][i]):
                row[column.stderr] = error
        else:
            reasons[column.name] = "the model gave no finite value" if prompt.text else "empty prompt"
    row["reasons"] = json.dumps(reasons) if reasons else None
    return row


def _decided(rows: pa.Table, column: Column, fdr: float) -> Decisions:
    values = np.array([np.nan if value is None else value for value in rows[column.name].to_pylist()], dtype=np.float64)
    audited = np.array([role == "audited" for role in rows["role"].to_pylist()])
    low = column.memorized_when == "low"
    return decide(values[audited], values[~audited], memorized_when="low" if low else "high", fdr=fdr)


def _with_decisions(rows: pa.Table, decisions: Decisions) -> pa.Table:
    """Return the rows with rank, p, q and flag of the audited ones, which come first."""
    nothing = [None] * (rows.num_rows - len(decisions.p))
    numbers = {name: [None if np.isnan(v) else float(v) for v in getattr(decisions, name)] for name in ("p", "q")}
    ranks = [int(rank) or None for rank in decisions.rank]
    flags = [None if np.isnan(p) else bool(flag) for p, flag in zip(decisions.p, decisions.flagged, strict=True)]
    rows = rows.append_column("rank", pa.array([*ranks, *nothing], pa.int64()))
    for name, found in numbers.items():
        rows = rows.append_column(name, pa.array([*found, *nothing], pa.float64()))
    return rows.append_column("flagged", pa.array([*flags, *nothing], pa.bool_()))


def _listing(prompts: Sequence[Prompt]) -> dict[str, object]:
    text = "".join(f"{prompt.text}\0{prompt.times}\n" for prompt in prompts)
    return {"n": len(prompts), "listing_sha256": hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()}

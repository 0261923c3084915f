"""The audit: pictures in, one row each out, in shards that are written whole or not at all.

An engine yields scored shards, in this process (:mod:`pointland.auditing.local`) or on others; here they are committed,
behind the scoring. Nothing that an engine does can change a row: draws are keyed by the content of each picture.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import Literal, NamedTuple

from pointland.auditing import directory, locks, plan
from pointland.auditing.batches import FIRST
from pointland.auditing.directory import Run
from pointland.auditing.local import Engine, Local, Work
from pointland.auditing.plan import Choice
from pointland.auditing.rows import portable
from pointland.auditing.scoring import Scored
from pointland.auditing.settle import settle
from pointland.auditing.tasks import ALL, Share, Tasks, share_from, tasks_of
from pointland.data.cells import shielded
from pointland.data.folder import Folder
from pointland.data.hub import DatasetRows
from pointland.data.labels import read_labels
from pointland.data.parquet import ParquetFiles
from pointland.data.source import Images, Source
from pointland.data.tar import Tars
from pointland.metrics.metric import Metric
from pointland.metrics.model_gap import GAP
from pointland.model import Model
from pointland.verdict import check_rate

DECIDE_BY = "denoising_loss_unconditional"
BEHIND = 2  # shards that may wait to be written


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
    images: Images | Tasks,
    *,
    out: Path | str,
    reference: Images | None = None,
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
    batch_size: int | Literal["auto"] = "auto",
    seed: int = 0,
    screen: float | None = None,
    shard: str | None = None,
    engine: Engine | None = None,
    progress: Callable[[Progress], None] | None = None,
    source: str | None = None,
    command: str = "",
) -> Run:
    """Audit a model for memorized pictures, or continue an interrupted audit.

    Args:
        model: What :func:`pointland.load` returns, or any other :class:`~pointland.model.Model`.
        images: The pictures to audit, usually the training set: a folder or another source, see
            :func:`~pointland.data.sources.open_source`; or all pictures of the audit, reference included, as
            :func:`~pointland.auditing.tasks.tasks_of` listed them.
        out: The run directory; made if absent, continued if it holds the same run.
        reference: Pictures of the same kind that the model never trained on; without them the audit only ranks.
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
            ``"auto"`` is 16 on a CPU and what is fastest on an accelerator. It halves when memory runs out.
        seed: Of every draw.
        screen: Look at all audited pictures with one network evaluation each, and only at this share of them, the most
            suspicious, with all others; 0.1 is good. The rest counts as tested, with p-value 1.
        shard: ``i/n`` with i from 0: do every n-th shard only, and let other processes do the rest, in the same ``out``
            on a shared disk or in others that are merged; ``"auto"`` as torchrun or Slurm says. The process that finds
            all shards done finishes the run.
        engine: Where to score; :class:`~pointland.auditing.local.Local` by default.
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
    folder, share = Path(out), share_from(shard)
    tasks = images if isinstance(images, Tasks) else tasks_of(images, captions, reference, reference_captions)
    check_out(folder, tasks, share)
    check_screen(screen, tasks)
    known = {} if labels is None else read_labels(Path(labels), {*tasks.items["audited"].keys()})
    chosen = engine or Local()
    with locks.locked(folder, share if share.of > 1 else None):
        with locks.record_locked(folder):  # of those that share a run the first one settles it
            earlier = directory.read_record(folder) if (folder / "run.json").exists() else {}
            settled = settle(
                model,
                tasks,
                sigma,
                metrics,
                n_draws=n_draws,
                n_probes=n_probes,
                batch_size=FIRST if batch_size == "auto" else batch_size,
                seed=seed,
                earlier=earlier.get("sigma"),
                reference_model=reference_model,
                also=also,
                screen=screen,
                screened_earlier=earlier.get("screen"),
                readers=chosen.readers if isinstance(chosen, Local) else None,
            )
            record = plan.record(
                model,
                settled.metrics,
                data=tasks.record(folder),
                sigma=settled.sigma,
                seed=seed,
                fdr=fdr,
                screen=settled.screen,
                decide_by=decide_by,
                batch_size=batch_size,
                source=plan.seen_from(folder, source),
                command=command,
                device=settled.device,
            )
            directory.open_run(folder, record)
        if labels is not None:
            rows = [(shielded(portable(key)), shielded(label)) for key, label in known.items()]
            directory.write_csv(folder / "labels.csv", ("key", "label"), rows)
        done = directory.finished_shards(folder)
        mine = share.shards(tasks)
        shards = [number for number in mine if number not in done]
        total = sum(map(tasks.size, mine))
        behind, started = total - sum(map(tasks.size, shards)), time.monotonic()
        fresh = 0

        def tick(n: int) -> None:
            nonlocal fresh
            fresh += n
            if progress is not None:
                progress(Progress(behind + fresh, total, fresh, time.monotonic() - started))

        columns = plan.columns_of(model, settled.metrics)
        work = Work(
            model,
            settled.metrics,
            columns,
            tasks,
            shards,
            batch_size if settled.batch_size == FIRST and batch_size == "auto" else settled.batch_size,
            settled.device,
            seed,
            tick,
            screen=None if settled.screen is None else settled.screen["threshold"],
            remember=tasks.captions_repeat,
        )
        tick(0)
        with closing(chosen(work)) as scored:
            _commit(folder, scored)
        whole = directory.finished_shards(folder) >= {*range(tasks.n_shards)}
        with locks.record_locked(folder):
            if whole and directory.read_record(folder).get("finished") is None:
                directory.finish(folder, finished=plan.now())
    if whole and share.of > 1:
        with suppress(ValueError), locks.locked(folder):  # clears what killed shares left, unless others are busy
            pass
    return directory.read_run(folder)


def check_out(out: Path, tasks: Tasks, share: Share = ALL) -> None:
    """Make sure, before anything costly, that a run can be written there.

    Raises:
        OSError: If the place cannot be written to.
        ValueError: If it lies among the pictures, holds something else, or another process works there.
    """
    for source in tasks.sources.values():
        for place in _folders(source):
            if out.resolve().is_relative_to(place.resolve()):
                raise ValueError(f"the run directory {out} lies inside the pictures {place}; choose an --out elsewhere")
    directory.check_usable(out)
    locks.check_free(out, shared=share.of > 1)


def check_screen(screen: float | None, tasks: Tasks) -> None:
    """Raise ``ValueError`` if a screen keeps no share, or there is no reference to decide by."""
    if screen is None:
        return
    if not 0 < screen <= 1:
        raise ValueError(f"the share to keep must be above 0 and at most 1, got {screen:g}; 0.1 keeps a tenth")
    if "reference" not in tasks.items:
        raise ValueError("a screen needs a reference to decide by; pass one, or leave the screen out")


def _folders(source: Source) -> list[Path]:
    """Return the folders whose files are a source: what is written there would become part of it."""
    match source:
        case Folder():
            return [source.path]
        case Tars() | ParquetFiles():
            return [path for path in source.paths if path.is_dir()]
        case DatasetRows() if source.folder is not None:
            return [source.folder]
        case _:
            return []


def _commit(folder: Path, scored: Iterator[Scored]) -> None:
    """Write shards as they come, one behind the scoring of the next."""
    with ThreadPoolExecutor(1) as writer:
        waiting: deque[Future[None]] = deque()
        for shard in scored:
            waiting.append(writer.submit(directory.commit, folder, *shard))
            if len(waiting) >= BEHIND:
                waiting.popleft().result()
        for future in waiting:
            future.result()

"""Running an audit or the demo from the command line: loading, progress, table."""

import logging
import time
import warnings
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypedDict, cast, get_args

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from pointland import auditing
from pointland.auditing import plan
from pointland.auditing.batches import FIRST
from pointland.auditing.directory import finished_shards
from pointland.auditing.engine import check_out, check_screen
from pointland.auditing.rows import NO_VALUE
from pointland.auditing.sampling import sample
from pointland.auditing.scoring import score_batch
from pointland.auditing.settle import settle
from pointland.auditing.tasks import Share, Tasks, share_from, tasks_of
from pointland.cli.engines import Place, check_place, engine_at, without_number
from pointland.model import Model
from pointland.models.loading import Dtype, load
from pointland.report import print_table, read_summary, write_report
from pointland.report.schema import Summary
from pointland.verdict import check_rate


class Running(TypedDict):
    """How the network is called; see :func:`pointland.load`."""

    compiled: bool
    channels_last: bool
    autocast: str | None


def run_audit(
    model: str,
    tasks: Tasks,
    *,
    out: Path,
    labels: Path | None,
    sigma: str,
    reference_model: str | None,
    lora: str | None = None,
    also: list[str],
    fdr: float,
    decide_by: str | None,
    n_draws: int,
    n_probes: int,
    batch_size: int | Literal["auto"],
    seed: int,
    screen: float | None = None,
    shard: str | None = None,
    place: Place | None = None,
    device: str | None,
    dtype: str,
    running: Running | None = None,
    max_bad: float = 0.5,
    dry_run: bool,
    top: int,
    command: str,
) -> bool:
    """Audit, report, print; return whether anything was flagged."""
    cast_to = None if running is None else running["autocast"]
    for option, given in (("--dtype", dtype), ("--autocast", cast_to or dtype)):
        if given not in get_args(Dtype):
            raise ValueError(f"{option} {given!r} is not one of {', '.join(get_args(Dtype))}")
    check_rate(fdr)
    share = share_from(shard)
    place = place or Place()
    check_place(place)
    scale = sigma_from(sigma)
    console = Console(stderr=True)
    quiet()
    check_screen(screen, tasks)
    if not dry_run:
        check_out(out, tasks, share)
    with console.status(Text(f"Loading {model}")):
        ways: dict[str, Any] = {"dtype": dtype, **(running or {})}
        first = partial(load, model, lora=lora, **ways)
        second = None if reference_model is None else partial(load, reference_model, **ways)
        loaded, base = first(device=device), None if second is None else second(device=device)
        there = without_number(device)
        engine = engine_at(
            place, partial(first, device=there), None if second is None else partial(second, device=there)
        )
    if dry_run:
        return _dry_run(loaded, base, also, tasks, scale, n_draws, n_probes, batch_size, seed, screen, share, console)
    columns = (
        TextColumn("[progress.description]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bars:
        bar = bars.add_task("Auditing", total=len(tasks), rate="choosing sigma" if scale == "auto" else "")

        def advance(state: auditing.Progress) -> None:
            rate = state.fresh / state.seconds if state.seconds > 0 else 0.0
            bars.update(bar, completed=state.done, rate=f"{rate:.1f} pictures/s")

        run = auditing.audit(
            loaded,
            tasks,
            out=out,
            labels=labels,
            sigma=scale,
            reference_model=base,
            also=also,
            n_draws=n_draws,
            n_probes=n_probes,
            fdr=fdr,
            decide_by=decide_by,
            batch_size=batch_size,
            seed=seed,
            screen=screen,
            shard=shard,
            engine=engine,
            progress=advance,
            source=model,
            command=command,
        )
    if not run.finished:
        done, of = len(finished_shards(run.folder)), tasks.n_shards
        console.print(
            f"Shard {shard} is done; {done:,} of {of:,} parts are there. The process that finds them all writes the "
            "report; parts in other folders are joined by `pointland merge`."
        )
        return False
    with console.status("Writing the report"):
        page = write_report(run.folder)
        summary = read_summary(run.folder)
    print_table(summary, top, Console())
    console.print(f"Report: {page}", soft_wrap=True, markup=False)
    check_bad(summary, run.failed["role"].to_pylist().count("audited"), max_bad, page)
    return summary["verdict"]["n_flagged"] > 0


def check_bad(summary: Summary, n_failed: int, max_bad: float, page: Path) -> None:
    """Raise ``ValueError`` if no audited picture has a value, or too many of them could not be read or scored."""
    verdict = summary["verdict"]
    name = verdict["decide_by"]
    if verdict["n_valued"] == 0:
        raise ValueError(f"no picture has a value in {name}, so there is no verdict; {page} says why")
    missing = next(column["missing"] for column in summary["columns"] if column["name"] == name)
    bad, of = n_failed + missing.get(NO_VALUE, 0), verdict["n_audited"] + n_failed
    if bad > max_bad * of:
        raise ValueError(
            f"{bad:,} of {of:,} audited pictures could not be read or scored, more than --max-bad {max_bad:g} allows; "
            f"{page} says why"
        )


def run_demo(out: Path, top: int) -> int:
    """Audit the miniature, compare with the planted truth; return 0 when all of it was found."""
    from pointland.demo import MINIATURE, checks, unpack

    demo = unpack(out / "pictures")
    run_audit(
        str(MINIATURE),
        tasks_of(demo.images, reference=demo.reference),
        out=out / "run",
        labels=demo.labels,
        sigma="auto",
        fdr=0.05,
        reference_model=None,
        also=[],
        decide_by=None,
        n_draws=8,
        n_probes=4,
        batch_size=32,
        seed=0,
        device="cpu",
        dtype="float32",
        dry_run=False,
        top=top,
        command="pointland demo",
    )
    console = Console()
    console.print(
        "\nThe folder holds every picture once, so copies in the training set are not seen here, and what they caused "
        "reads as overfitting-driven. Audit a training folder as it was trained on."
    )
    found = checks(auditing.read_run(out / "run"), demo.labels)
    console.print("\nThe planted truth:")
    for check in found:
        console.print(
            f"  [green]found[/]   {check.words}" if check.passed else f"  [red]MISSED[/]  {check.words}",
            highlight=False,
        )
    return 0 if all(check.passed for check in found) else 1


def sigma_from(text: str) -> float | plan.Choice:
    """Read the option ``--sigma``."""
    if text in get_args(plan.Choice):
        return cast(plan.Choice, text)
    try:
        return float(text)
    except ValueError:
        raise ValueError(
            f"--sigma {text!r} is neither a number nor one of {', '.join(get_args(plan.Choice))}"
        ) from None


def quiet() -> None:
    """Silence the libraries' own progress bars and notices; the command line has its own."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    for library in (diffusers_logging, transformers_logging):
        library.set_verbosity_error()
        library.disable_progress_bar()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="(diffusers|transformers|huggingface_hub)")


def _dry_run(
    model: Model,
    reference_model: Model | None,
    also: list[str],
    tasks: Tasks,
    sigma: float | plan.Choice,
    n_draws: int,
    n_probes: int,
    batch_size: int | Literal["auto"],
    seed: int,
    screen: float | None,
    share: Share,
    console: Console,
) -> bool:
    n = FIRST if batch_size == "auto" else batch_size
    at = 1.0 if sigma == "auto" else sigma  # any level costs the same
    settled = settle(
        model,
        tasks,
        at,
        None,
        n_draws=n_draws,
        n_probes=n_probes,
        batch_size=n,
        seed=seed,
        reference_model=reference_model,
        also=also,
    )
    forwards = plan.cost(model, settled.metrics, len(tasks)).forwards
    some = sample(tasks, model.codec.size, range(len(tasks)), n)
    started = time.monotonic()
    score_batch(model, settled.metrics, [picture for _, picture in some], [task.item.caption for task, _ in some], seed)
    seconds = (time.monotonic() - started) / len(some)
    n_audited, n_reference = len(tasks.items["audited"]), len(tasks.items.get("reference", ()))
    closely = n_reference + (n_audited if screen is None else screen * n_audited)
    screened = 0 if screen is None else n_audited
    in_all = round((closely * forwards + screened) / share.of)
    scale_words = "chosen by a sweep" if sigma == "auto" else f"{settled.sigma['value']:.4g}"
    captioned = sum(items.n_captions for items in tasks.items.values())
    look = f"{forwards} network evaluations a picture"
    if screen is not None:
        look = f"One network evaluation an audited picture, {forwards} for {screen:.0%} of them and the reference"
    shards = f"{tasks.n_shards:,} shards" + (
        f", of which this share does {len(share.shards(tasks)):,}" * (share.of > 1)
    )
    console.print(
        f"Would audit {n_audited:,} pictures against {n_reference:,} of the reference, {captioned:,} with a caption, "
        f"in {shards}.\n"
        f"Model {model.identity['name']} ({model.identity['class']}, "
        f"{model.identity['space']}, {model.identity['dtype']}); "
        f"sigma {scale_words}.\n"
        f"{look}, {in_all:,} in all; "
        f"about {_duration(seconds * in_all / forwards)} on one worker.\n"
        "Nothing was written."
    )
    return False


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"

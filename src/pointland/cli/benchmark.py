"""The command ``benchmark``: what the library reaches, measured anew, printed, drawn and written.

Options are read and checked here; the suites are in :mod:`pointland.benchmarks`. Nothing heavy is
imported before one runs.
"""

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pointland.benchmarks.lid.suites import SUITES, NotInstalled, Settings, check, run_suite
from pointland.cli.folders import check_folder

if TYPE_CHECKING:
    from rich.console import Console

    from pointland.benchmarks.lid.result import Result, Table

WIDTH = 160  # of tables in a file or a pipe

benchmark = typer.Typer(no_args_is_help=True)


@benchmark.callback()
def start() -> None:
    """Measure what the estimators and detectors reach, on data of known truth."""


@benchmark.command()
def lid(
    suite: Annotated[
        str | None, typer.Option(help=f"{', '.join(SUITES)}; all of them, untrained, if left out.")
    ] = None,
    trained: Annotated[
        bool,
        typer.Option(
            "--trained", help="Train networks and measure at them; for flipd and yeats, a quarter of an hour."
        ),
    ] = False,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for tables (JSON), plots (SVG) and checkpoints.")
    ] = Path("benchmark"),
    seed: Annotated[int, typer.Option(help="Seed of data, networks and draws.")] = 0,
    minutes: Annotated[
        float | None, typer.Option(help="CPU minutes of training for each network; the suite's own if left out.")
    ] = None,
    rotated: Annotated[bool, typer.Option("--rotated", help="Turn the spaces of suite yeats at random.")] = False,
) -> None:
    """Measure the error of every estimator of LID on suites of known dimension."""
    run_lid(suite, Settings(trained, seed, minutes, rotated, out / "checkpoints"), out)


@benchmark.command()
def detection(
    models: Annotated[
        list[Path] | None,
        typer.Argument(help="Pipelines trained on the planted pictures; the bundled miniature if left out."),
    ] = None,
    overfitted: Annotated[
        Path | None, typer.Option(help="Output folder of `python -m pointland.demo.train --unique 200`.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for runs, reports, tables and plot.")] = Path(
        "benchmark"
    ),
    device: Annotated[str | None, typer.Option(help="cuda, mps, cpu, ...")] = None,
) -> None:
    """Find what was planted: every signal on every group, calibration, kinds. Exits 1 when a claim does not hold."""
    from pointland.cli.detection import run_detection

    raise typer.Exit(0 if run_detection(models or [], overfitted, out, device) else 1)


@benchmark.command()
def mitigation(
    model: Annotated[
        Path | None, typer.Argument(help="A pipeline trained on planted pictures; the bundled miniature if left out.")
    ] = None,
    archive: Annotated[
        Path | None, typer.Option(help="images.npz of pointland.demo.train, the pictures that MODEL was trained on.")
    ] = None,
    method: Annotated[list[str] | None, typer.Option(help="Mitigation, once each; all of them if left out.")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for table and plot.")] = Path("benchmark"),
    seeds: Annotated[int, typer.Option(min=1, help="Pictures a prompt.")] = 2,
    steps: Annotated[int, typer.Option(min=2, help="Sampling steps.")] = 25,
    guidance: Annotated[float, typer.Option(min=1, help="Guidance scale.")] = 7.5,
    attack: Annotated[bool, typer.Option(help="Search embeddings that bring the pictures back.")] = True,
    device: Annotated[str | None, typer.Option(help="cuda, mps, cpu, ...")] = None,
) -> None:
    """Measure what mitigations reach on memorized and normal prompts, and under attack. Exits 1 when a claim fails."""
    from pointland.cli.mitigation import run_mitigation

    held = run_mitigation(model, archive, method or [], out, seeds, steps, guidance, attack, device)
    raise typer.Exit(0 if held else 1)


@benchmark.command()
def plant(
    images: Annotated[Path, typer.Argument(help="Folder of pictures to deal out, with captions if there are any.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="New folder for train/, held_out/, labels.csv and a card.")],
    captions: Annotated[Path | None, typer.Option(help="CSV or JSON lines with captions of IMAGES.")] = None,
    size: Annotated[int, typer.Option(min=8, help="Height and width that pictures are fitted to.")] = 64,
    each: Annotated[int, typer.Option(min=1, help="Pictures for every number of copies.")] = 20,
    templates: Annotated[int, typer.Option(min=0, help="Pictures with 40 variants that differ in one square.")] = 10,
    near: Annotated[int, typer.Option(min=0, help="Pictures with 20 near copies.")] = 10,
    once: Annotated[int, typer.Option(min=0, help="Pictures with one copy.")] = 4000,
    held_out: Annotated[int, typer.Option(min=1, help="Pictures left out, and as many again.")] = 400,
    seed: Annotated[int, typer.Option(help="Of the whole assignment.")] = 0,
) -> None:
    """Plant a known truth in IMAGES: a training folder with copies, templates, near copies, and held-out pictures."""
    from pointland.benchmarks.planted import Recipe, plant_folder

    recipe = Recipe(size, each=each, templates=templates, near=near, once=once, held_out=held_out, seed=seed)
    check_folder(out, images)
    card = plant_folder(images, out, recipe, captions)
    groups = ", ".join(f"{n:,} {group}" for group, n in card.counts.items())
    typer.echo(f"{out}: {sum(card.counts.values()):,} files to train on ({groups}), {card.n_held_out:,} held out.")
    for key, reason in list(card.failed.items())[:10]:
        typer.echo(f"  left out: {key}: {reason}", err=True)


def run_lid(suite: str | None, settings: Settings, out: Path) -> None:
    """Run one suite, or all; print tables and targets, and write a plot and the numbers of each into ``out``.

    Raises:
        NotADirectoryError: If ``out`` is a file.
        ValueError: If there is no such suite, or a setting does not go with it.
    """
    check_folder(out)
    if suite is None and (settings.trained or settings.rotated):
        raise ValueError("--trained and --rotated go with one suite; name it with --suite")
    names = list(SUITES) if suite is None else [suite]
    for name in names:
        check(name, settings)

    from rich.console import Console

    from pointland.benchmarks.lid.chart import draw
    from pointland.benchmarks.lid.result import jsonable

    aside = Console(stderr=True)
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    for name in names:
        started, clock = time.process_time(), time.perf_counter()

        def say(words: str, clock: float = clock) -> None:
            aside.print(f"{time.perf_counter() - clock:6.0f} s  {words}", highlight=False, markup=False)

        aside.print(f"{name}: {SUITES[name].about}", highlight=False, markup=False, style="bold")
        try:
            result = run_suite(name, settings, say)
        except NotInstalled as error:
            if suite is not None:
                raise
            aside.print(f"left out: {error}", highlight=False, markup=False)
            continue
        show(result, console)
        facts = {
            "command": command(name, settings),
            "machine": machine(),
            "CPU seconds": round(time.process_time() - started, 1),
        }
        out.mkdir(parents=True, exist_ok=True)
        file = out / file_name(name, settings)
        file.with_suffix(".svg").write_text(draw(result), encoding="utf-8")
        words = json.dumps(facts | jsonable(result), indent=1, allow_nan=False, ensure_ascii=False)
        file.with_suffix(".json").write_text(words + "\n", encoding="utf-8")
        console.print(f"Written: {file}.svg, {file}.json", highlight=False, markup=False)


def file_name(suite: str, settings: Settings) -> str:
    """Return the name of a suite's files, without suffix."""
    parts = [suite, *(["trained"] if settings.trained else []), *(["rotated"] if settings.rotated else [])]
    return "-".join(parts if settings.seed == 0 else [*parts, f"seed-{settings.seed}"])


def command(suite: str, settings: Settings) -> str:
    """Return the command that makes these numbers again."""
    words = f"OMP_NUM_THREADS=1 pointland benchmark lid --suite {suite}"
    words += " --trained" * settings.trained + " --rotated" * settings.rotated
    words += f" --minutes {settings.minutes:g}" if settings.minutes is not None else ""
    return words + (f" --seed {settings.seed}" if settings.seed else "")


def machine() -> dict[str, str | int]:
    """Describe where the numbers come from."""
    import platform

    import torch

    return {"processor": platform.machine(), "threads": torch.get_num_threads(), "torch": torch.__version__}


def show(result: "Result", console: "Console") -> None:
    """Print every table, the notes, and which targets were reached."""
    for each in result.tables:
        console.print(rendered(each))
    for note in result.notes:
        console.print(f"  {note}", highlight=False, markup=False)
    for target in result.targets:
        console.print("[green]reached    [/green]  " if target.reached else "[red]not reached[/red]  ", end="")
        words = f"{target.what}: {target.found:.4g}, to be {target.sense} {target.limit:g}"
        console.print(words, highlight=False, markup=False)


def rendered(table: "Table") -> object:
    """Return a table for the terminal, the best number of a row in bold."""
    from rich.table import Table as RichTable
    from rich.text import Text

    made = RichTable(title=f"{table.title} ({table.what})", title_justify="left", header_style="bold")
    made.add_column("case", no_wrap=True)
    made.add_column("LID")
    columns = table.columns
    for column in columns:
        made.add_column(column, justify="right", overflow="fold")
    best = min if "error" in table.what else max
    rows = [(row.case, row.lid, dict(row.values)) for row in table.rows]
    if table.averaged and len(rows) > 1:
        rows.append(("average", "", table.average))
    for case, dims, values in rows:
        at = best(values.values(), default=None)
        cells = [
            Text("—") if name not in values else Text(number(values[name]), "bold" if values[name] == at else "")
            for name in columns
        ]
        made.add_row(Text(case), Text(dims), *cells)
    published = [f"{source} {cases['average']:g}" for source, cases in table.published.items() if "average" in cases]
    if published:
        made.caption = "published by others, average: " + ", ".join(published)
    return made


def number(value: float) -> str:
    """Write a number with three figures, or at least one decimal."""
    return f"{value:,.1f}" if abs(value) >= 10 else f"{value:.3f}".rstrip("0").rstrip(".")

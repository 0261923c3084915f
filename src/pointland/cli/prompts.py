"""The commands ``prompts`` and ``attribute``: which prompts call up something memorized, and which words of one do."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from pointland.model import PromptedModel
    from pointland.prompts import Attribution, Screening

Device = Annotated[str | None, typer.Option(help="cuda, mps, cpu, ...; the best there is by default.")]


def prompts(
    model: Annotated[str, typer.Argument(help="A diffusers directory, or a hub id such as owner/name.")],
    file: Annotated[Path, typer.Argument(help="Prompts: .txt with one a line, or .csv or .parquet with a column.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Run directory; an interrupted run there is continued.")],
    reference: Annotated[
        Path | None, typer.Option(help="Ordinary prompts of the same kind, in such a file. Without it: ranking only.")
    ] = None,
    column: Annotated[
        str | None, typer.Option(help="Column of the prompts; caption, text or prompt by default.")
    ] = None,
    signal: Annotated[
        list[str] | None,
        typer.Option(
            help="What to compute, once a signal: jump, guidance, confidence, edges, sharpness, cosine, freedom, "
            "attention, trajectory. Default: jump and guidance."
        ),
    ] = None,
    decide_by: Annotated[str | None, typer.Option(help="Column that the verdict rests on.")] = None,
    sigma: Annotated[float | None, typer.Option(help="Noise of the start; the model's highest by default.")] = None,
    n_draws: Annotated[int, typer.Option(min=1, help="Starts a prompt.")] = 1,
    fdr: Annotated[float, typer.Option(help="False discovery rate asked for.")] = 0.05,
    batch_size: Annotated[int, typer.Option(min=1, help="Prompts in one batch.")] = 16,
    seed: Annotated[int, typer.Option(help="Of every draw.")] = 0,
    device: Device = None,
    top: Annotated[int, typer.Option(min=0, help="Rows of the table printed at the end.")] = 20,
) -> None:
    """Rank the prompts of FILE by how much MODEL recalls under them, and decide with a reference of ordinary ones."""
    from rich.console import Console
    from rich.progress import Progress

    from pointland.cli.app import portable_command
    from pointland.prompts import read_prompts, screen, signals

    asked = read_prompts(file, column)
    ordinary = [] if reference is None else read_prompts(reference, column)
    console = Console(stderr=True)
    loaded = _loaded(model, device, console)
    metrics = signals(loaded, signal or ("jump", "guidance"), n_draws=n_draws, sigma=sigma)
    with Progress(console=console, transient=True) as bars:
        bar = bars.add_task("Screening", total=None)

        def advance(done: int, total: int) -> None:
            bars.update(bar, completed=done, total=total)

        found = screen(
            loaded,
            asked,
            out=out,
            reference=ordinary,
            metrics=metrics,
            decide_by=decide_by,
            fdr=fdr,
            batch_size=batch_size,
            seed=seed,
            progress=advance,
            command=portable_command(sys.argv[1:]),
        )
    _print_screening(found, top, Console())
    console.print(f"Written: {out}", highlight=False, markup=False)
    raise typer.Exit(10 if found.decisions.flagged.any() else 0)


def attribute(
    model: Annotated[str, typer.Argument(help="A diffusers directory, or a hub id such as owner/name.")],
    prompt: Annotated[str, typer.Argument(help="The prompt to explain.")],
    objective: Annotated[str, typer.Option(help="guidance, score, flipd or freedom.")] = "guidance",
    at: Annotated[str, typer.Option(help="Where: after a 'jump' under the prompt, or at the 'start'.")] = "jump",
    n_draws: Annotated[int, typer.Option(min=1, help="Starts.")] = 4,
    seed: Annotated[int, typer.Option(help="Of the starts.")] = 0,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write it too: .json, .svg or .html, by the suffix.")
    ] = None,
    device: Device = None,
) -> None:
    """Say which words of PROMPT make MODEL recall, and what the prompt is without them."""
    from rich.console import Console

    from pointland.auditing.directory import write_bytes
    from pointland.prompts import Flipd, Freedom, ScoreNorm, at_start, guidance_norm, landed
    from pointland.prompts import attribute as attributed
    from pointland.prompts.drawing import as_html, as_json, as_svg

    objectives: dict[str, tuple[Any, Any]] = {
        "guidance": (guidance_norm, "high"),
        "score": (ScoreNorm(), "high"),
        "flipd": (Flipd(), "low"),
        "freedom": (Freedom(), "low"),
    }
    places = {"jump": landed, "start": at_start}
    formats = {".json": as_json, ".svg": as_svg, ".html": as_html}
    if objective not in objectives:
        raise ValueError(f"--objective {objective!r} is not one of {', '.join(objectives)}")
    if at not in places:
        raise ValueError(f"--at {at!r} is not one of {', '.join(places)}")
    if out is not None and out.suffix not in formats:
        raise ValueError(f"--out {out} ends in {out.suffix or 'nothing'}; expected one of {', '.join(formats)}")
    if out is not None and not out.parent.is_dir():
        raise FileNotFoundError(f"{out.parent} does not exist; make the folder of --out first")
    loaded = _loaded(model, device, Console(stderr=True))
    asked, when = objectives[objective]
    found = attributed(loaded, prompt, asked, memorized_when=when, starts=places[at], n_draws=n_draws, seed=seed)
    _print_attribution(found, objective, Console())
    if out is not None:
        write_bytes(out, formats[out.suffix](found).encode("utf-8", "backslashreplace"))


def _loaded(source: str, device: str | None, console: "Console") -> "PromptedModel":
    from rich.text import Text

    from pointland.cli.run import quiet
    from pointland.model import PromptedModel
    from pointland.models.loading import load

    quiet()
    with console.status(Text(f"Loading {source}")):
        model = load(source, device=device)
    if not isinstance(model, PromptedModel):
        raise ValueError(f"{source} takes no captions ({model.identity['class']}), so it has no prompts to look at")
    return model


def _print_screening(found: "Screening", top: int, console: "Console") -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from pointland.report.words import clean, counted, number, probability, upright

    rows = found.rows.to_pylist()
    ranked = sorted((row for row in rows if row["rank"]), key=lambda row: row["rank"])
    n, flagged = sum(row["role"] == "audited" for row in rows), int(found.decisions.flagged.sum())
    if found.decisions.undecided:
        console.print(Text(found.decisions.undecided.replace("pictures", "prompts"), "yellow"))
    else:
        words = f"{counted(flagged, 'prompt')} of {n:,} flagged at a false discovery rate of {found.record['fdr']:g}."
        console.print(Text(words, "bold red" if flagged else "bold green"))
    if n > len(ranked):
        console.print(Text(f"{counted(n - len(ranked), 'prompt')} without a value; the rows say why.", "yellow"))
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    table.add_column("", justify="right")
    table.add_column("prompt", overflow="ellipsis", no_wrap=True, max_width=44)
    shown = [column["name"] for column in found.record["columns"]][:4]
    judged = found.decisions.n_reference > 0
    for name in (*shown, *(("q",) if judged else ())):
        table.add_column(name.replace("_", " "), justify="right", min_width=8)
    for row in ranked[:top]:
        style = "red" if row["flagged"] else ""
        cells = [Text(number(row[name])) for name in shown] + ([Text(probability(row["q"]))] if judged else [])
        note = f"  ({row['note']})" if row["note"] else ""
        table.add_row(f"{row['rank']:,}", Text(upright(clean(row["prompt"] + note, 100)), style), *cells)
    console.print(table)


def _print_attribution(found: "Attribution", objective: str, console: "Console") -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from pointland.prompts.drawing import shade
    from pointland.report.words import clean, number, upright, with_error

    most = max(word.gradient for word in found.words) or 1.0
    line = Text()
    for word in found.words:
        line.append(upright(clean(word.text, 60)), f"black on {shade(word.gradient / most)}")
        line.append(" ")
    console.print(line)
    console.print(f"Objective {objective}: {number(found.value)}", highlight=False)
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for name in ("word", "gradient", "less without it"):
        table.add_column(name, justify="left" if name == "word" else "right")
    for word in sorted(found.words, key=lambda word: -word.gradient):
        table.add_row(
            Text(upright(clean(word.text, 60))),
            with_error(word.gradient, word.gradient_stderr if word.gradient_stderr >= 0 else None),
            with_error(word.drop, word.drop_stderr if word.drop_stderr >= 0 else None),
        )
    console.print(table)
    agree = "agree" if found.agree else "do not agree"
    console.print(f"Both {agree} on the first word; rank correlation {number(found.spearman)}.", highlight=False)
    if found.unread:
        console.print(Text(f"Not read, beyond the model's length: {upright(clean(found.unread))}", "yellow"))
    console.print("Rewrites, with the objective that they have:")
    for rewrite in found.rewrites:
        console.print(Text(f"  {number(rewrite.value):>8}  {upright(clean(rewrite.prompt))}  ({rewrite.how})"))

"""The command ``extract``: does the model give the most suspicious pictures of a run back?"""

from pathlib import Path
from typing import Annotated, Any

import typer

SHOWN, TABLE = 20, "extraction.parquet"


def extract(
    run: Annotated[Path, typer.Argument(help="Run directory that `pointland audit -o` wrote.")],
    model: Annotated[str | None, typer.Option(help="The audited model, if it is elsewhere now.")] = None,
    top: Annotated[int, typer.Option(min=1, help="Pictures, from the most suspicious down; copies count once.")] = 50,
    seeds: Annotated[int, typer.Option(min=1, help="Samples a picture and way.")] = 16,
    way: Annotated[
        list[str] | None,
        typer.Option(help="How to ask: caption, free, partial or cyclic; once a way. Default: caption and partial."),
    ] = None,
    guidance: Annotated[float, typer.Option(min=0, help="Scale of classifier-free guidance under captions.")] = 7.5,
    steps: Annotated[int, typer.Option(min=2, help="Steps of a sample.")] = 25,
    cycles: Annotated[int, typer.Option(min=1, help="Noisings of the way cyclic.")] = 4,
    sigma: Annotated[float | None, typer.Option(help="Noise of partial and cyclic, in model-space units.")] = None,
    rate: Annotated[float, typer.Option(help="Share of pictures never seen that may count as given back.")] = 0.01,
    controls: Annotated[int, typer.Option(min=0, help="Reference pictures that are asked for too, at most.")] = 200,
    descriptor: Annotated[
        str | None,
        typer.Option(help="What samples are compared by: perceptual, pixels[:SIZE], sscd:FILE or dinov2:DIRECTORY."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of every draw.")] = 0,
    lora: Annotated[str | None, typer.Option(help="LoRA weights that were audited with the model.")] = None,
    device: Annotated[str | None, typer.Option(help="cuda, mps, cpu, ...")] = None,
) -> None:
    """Ask the model for the most suspicious pictures of RUN, count what it gives back, and show it in the report."""
    from rich.console import Console
    from rich.progress import Progress
    from rich.text import Text

    from pointland import extraction
    from pointland.auditing.directory import read_record
    from pointland.cli.run import quiet
    from pointland.cli.samples import descriptor_from
    from pointland.models.loading import load
    from pointland.report import write_report
    from pointland.verdict import check_rate

    check_rate(rate)
    record = read_record(run)
    source = model or model_source(run, record)
    console = Console(stderr=True)
    quiet()
    with console.status(Text(f"Loading {source}")):
        loaded = load(source, device=device, lora=lora)
    ways = tuple(way) if way else (("caption", "partial") if loaded.conditional else ("partial",))
    with Progress(console=console, transient=True) as bars:
        bar = bars.add_task("Sampling", total=None)

        def advance(done: int, total: int) -> None:
            bars.update(bar, completed=done, total=total)

        found = extraction.extract(
            run,
            loaded,
            top=top,
            seeds=seeds,
            ways=ways,
            guidance=guidance,
            steps=steps,
            cycles=cycles,
            sigma=sigma,
            rate=rate,
            controls=controls,
            descriptor=None if descriptor is None else descriptor_from(descriptor),
            seed=seed,
            progress=advance,
        )
    with console.status("Writing the report"):
        page = write_report(run)
    _print(found.to_pylist(), rate, SHOWN, Console())
    console.print(f"Report: {page}", soft_wrap=True, markup=False)


def model_source(run: Path, record: dict[str, Any]) -> str:
    """Return where the audited model is now: what the record names, if it is still there."""
    from pointland.demo import MINIATURE

    source = record.get("model_source")
    if source is None and record["model"].get("name") == MINIATURE.name:
        return str(MINIATURE)  # whose weights are checked like any other's
    if source is None:
        raise ValueError(f"{run} does not say where its model is; pass --model")
    local = run / source
    return str(local) if local.exists() else str(source)


def _print(rows: list[dict[str, Any]], rate: float, top: int, console: Any) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from pointland.report.extracted import ASKED
    from pointland.report.words import clean, counted, percent, probability, upright

    back = {row["key"] for row in rows if row["k"]}
    asked = list(dict.fromkeys(row["key"] for row in rows))
    words = f"{counted(len(asked), 'picture')} asked for, {len(back):,} given back."
    console.print(Text(words, "bold red" if back else "bold"))
    console.print(Text(f"By chance {percent(rate)} of pictures never seen are, a way of asking and part.", "dim"))
    ways = list(dict.fromkeys(row["way"] for row in rows))
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    table.add_column("picture", overflow="ellipsis", no_wrap=True, max_width=32)
    for way in ways:
        table.add_column(ASKED[way])
    for key in asked[:top]:
        cells = []
        for way in ways:
            told = []
            mine = [row for row in rows if (row["key"], row["way"]) == (key, way)]
            for row in mine:
                part = "template " if row["part"] == "template" else ""
                if row["k"] is None:
                    p = "" if row["p"] is None else f", p {probability(row['p'])}"
                    told.append(f"{part}{row['reason']}{p}")
                else:
                    interval = f"{percent(row['low'])} to {percent(row['high'])}"
                    told.append(f"{part}{row['k']} of {row['n']} ({interval})")
            cells.append(Text("\n".join(told), "red" if any(row["k"] for row in mine) else ""))
        table.add_row(upright(clean(key, 60)), *cells)
    console.print(table)
    if len(asked) > top:
        console.print(Text(f"{len(asked) - top:,} more in {TABLE}.", "dim"))

"""``pointland monitor``: the monitor over the checkpoints of a training that is over, or goes on elsewhere."""

from pathlib import Path
from typing import Annotated

import typer

RECORD, CHART = "monitor.jsonl", "monitor.svg"


def monitor(
    checkpoints: Annotated[
        list[Path],
        typer.Argument(help="Checkpoints (folders whose names end in their step), or the folder that holds them."),
    ],
    train: Annotated[str, typer.Option(help="Training pictures to follow: a folder or another source.")],
    held_out: Annotated[str, typer.Option(help="Pictures of the same kind that are never trained on.")],
    out: Annotated[Path, typer.Option("--out", "-o", help=f"Folder for {RECORD} and {CHART}; continued if it exists.")],
    model: Annotated[
        str | None, typer.Option(help="What was trained from, for checkpoints of a network or LoRA weights alone.")
    ] = None,
    sigma: Annotated[float | None, typer.Option(help="Noise scale of the LID. Default: the paper's.")] = None,
    draws: Annotated[int, typer.Option(min=1, help="Forward passes a picture.")] = 2,
    rate: Annotated[float, typer.Option(help="Share of trainings without memorization that may ever alarm.")] = 0.05,
    captioned: Annotated[bool, typer.Option("--captioned", help="Read under the pictures' captions.")] = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures in a forward pass.")] = 64,
    seed: Annotated[int, typer.Option(help="Of the draws.")] = 0,
    device: Annotated[str | None, typer.Option(help="cuda, mps, cpu, ...")] = None,
) -> None:
    """Follow memorization along the CHECKPOINTS of a training; exits 10 if it alarms, and says which one to keep."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from pointland.cli.run import quiet
    from pointland.lid.scale import PAPER_SIGMA
    from pointland.monitoring import Monitor
    from pointland.monitoring.checkpoints import checkpoints as found_in
    from pointland.monitoring.checkpoints import models
    from pointland.monitoring.drawing import as_svg
    from pointland.report.words import clean, upright

    quiet()
    found = found_in(checkpoints)
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out {out} is a file; give a folder")
    out.mkdir(parents=True, exist_ok=True)
    watching = Monitor(
        train,
        held_out,
        every=1,
        sigma=PAPER_SIGMA if sigma is None else sigma,
        n_draws=draws,
        rate=rate,
        captioned=captioned,
        record=out / RECORD,
        seed=seed,
        batch_size=batch_size,
    )
    last = watching.readings[-1].step if watching.readings else -1
    left = [one for one in found if one.step > last]
    with Console(stderr=True).status("Reading") as status:
        for at, (step, loaded) in enumerate(models(left, model, device=device), 1):
            status.update(Text(f"Reading step {step:,}, {at} of {len(left)}"))
            watching.read(step, loaded)
    table = Table("step", "trained on", "held out", "gap", "95 % interval", "lost since half-way", "p", "")
    for one in watching.readings:
        ends = f"{one.low:.2f} to {one.high:.2f}"
        table.add_row(
            f"{one.step:,}",
            f"{one.train:.1f}",
            f"{one.held_out:.1f}",
            f"{one.gap:.2f}",
            ends,
            "" if one.lost is None else f"{one.lost:.2f}",
            f"{one.p:.2g}",
            Text("ALARM", "red") if one.alarm else "",
        )
    console = Console()
    console.print(table)
    if not left:
        console.print(f"Nothing new: all {len(found)} steps are in the record. Another training needs another --out.")
    for key, reason in watching.unread.items():
        console.print(Text(f"Not read: {upright(clean(key))}: {upright(clean(reason))}"), soft_wrap=True)
    (out / CHART).write_text(as_svg(watching.readings), encoding="utf-8")
    if watching.alarmed is None:
        console.print(f"No alarm: no sign that the {len(found)} checkpoints know training pictures from others.")
        return
    kept = watching.recommended_step
    keep = "none before it" if kept is None else f"keep the one of step {kept:,}"
    console.print(f"Memorizing from step {watching.alarmed.step:,} on; {keep}.", highlight=False)
    if left:
        console.print("Training pictures that lost most dimensions, beyond held-out ones:")
        for key, lost in watching.lost():
            console.print(Text(f"  {lost:6.1f}  {upright(clean(key))}"), soft_wrap=True)
    raise typer.Exit(10)

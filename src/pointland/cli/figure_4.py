"""The command ``reproduce figure-4``: the paper's Stable Diffusion experiment on anybody's model and pictures."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast, get_args

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from pointland import auditing
from pointland.auditing.directory import write_bytes, write_json
from pointland.cli.folders import check_folder
from pointland.cli.reproduce import jsonable
from pointland.cli.run import quiet
from pointland.experiments import figure_4
from pointland.models.loading import Dtype, load
from pointland.report.words import clean, interval, upright

NEEDED = """figure-4 needs a model and pictures, which cannot come with Pointland:
  --model      a diffusers directory or hub id; the paper's is Stable Diffusion v1.5
  --memorized  a folder of pictures it has memorized, with captions (metadata.jsonl, captions.csv or .txt files beside
               them); the paper's are 86 of LAION that Webster (2023) found to be matched verbatim
  --negatives  a folder of pictures it has not, once a folder; the paper's are 2,000 of LAION-Aesthetics 6.5+, 2,000 of
               COCO and the 251 of Tuxemon
docs/experiments.md says how to try it on the bundled miniature"""


def run_figure_4(
    out: Path,
    *,
    model: str | None,
    memorized: Path | None,
    negatives: Sequence[Path],
    batch_size: int,
    seed: int,
    device: str | None,
    dtype: str,
    command: str,
) -> None:
    """Measure, print, and write figure and numbers into ``out``."""
    if model is None or memorized is None or not negatives:
        given = {"--model": model is not None, "--memorized": memorized is not None, "--negatives": bool(negatives)}
        missing = ", ".join(name for name, there in given.items() if not there)
        raise ValueError(f"{NEEDED}.\nMissing: {missing}")
    if dtype not in get_args(Dtype):
        raise ValueError(f"--dtype {dtype!r} is not one of {', '.join(get_args(Dtype))}")
    check_folder(out)
    for place in figure_4.folders(memorized, negatives).values():  # before the model: bad input fails at once
        if not place.is_dir():
            raise FileNotFoundError(f"there is no folder {place}; check the path")
    quiet()
    console = Console(stderr=True)
    with console.status(Text(f"Loading {model}")):
        loaded = load(model, device=device, dtype=cast(Dtype, dtype))
    columns = (
        TextColumn("{task.fields[folder]}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bars:
        tasks: dict[str, TaskID] = {}

        def advance(folder: str, state: auditing.Progress) -> None:
            if folder not in tasks:
                tasks[folder] = bars.add_task("", total=state.total, folder=folder)
            bars.update(tasks[folder], completed=state.done)

        result = figure_4.run(
            loaded,
            memorized,
            negatives,
            out=out,
            batch_size=batch_size,
            seed=seed,
            progress=advance,
            command=command,
        )
    show(result, Console())
    write_bytes(out / "figure-4.svg", figure_4.draw(result).encode("utf-8"))
    write_json(out / "figure-4.json", jsonable(result))
    console.print(f"Written: {out / 'figure-4.svg'}, {out / 'figure-4.json'}", soft_wrap=True, markup=False)


def show(result: figure_4.Result, console: Console) -> None:
    """Print one table: every metric at every setting, cleaned, and against every folder."""
    counts = ", ".join(f"{one.group} {one.n:,} ({one.captions:,} with caption)" for one in result.groups)
    console.print(Text(f"{result.model}, {result.space}: {_safe(counts)}"))
    cleaned = {(row.metric, row.setting): row for row in result.cleaned}
    against = {(row.metric, row.setting, row.against): row for row in result.by_folder}
    sigmas = {(one.metric, one.setting): one.sigma for one in result.settings}
    names = [group.group for group in result.groups[1:]] if result.by_folder else []
    table = Table(header_style="bold", title="AUROC with 95 % interval, memorized against others", title_justify="left")
    for name in ("metric", "setting", "sigma"):
        table.add_column(name)
    for name in ("AUROC", "TPR at 1 % FPR", "cleaned", *names):
        table.add_column(Text(_safe(name)), justify="right")
    for row in result.separations:
        key = (row.metric, row.setting)
        sigma = sigmas.get((row.metric.removesuffix(" with caption").removesuffix(" without caption"), row.setting))
        clean_row = cleaned.get(key)
        rate = "–" if row.tpr is None else interval(row.tpr, row.tpr_low or 0.0, row.tpr_high or 0.0)
        table.add_row(
            row.metric,
            row.setting,
            "" if sigma is None else f"{sigma:.3g}",
            interval(row.auroc, row.auroc_low, row.auroc_high),
            rate,
            "–" if clean_row is None else f"{clean_row.auroc:.3f}",
            *(f"{found.auroc:.3f}" if (found := against.get((*key, name))) else "–" for name in names),
        )
    console.print(table)
    for one in result.left_out:
        console.print(Text(f"Left out: {one.metric}: {one.reason}", "yellow"))
    for claim, held in result.claims.items():
        console.print(Text("holds         " if held else "does not hold ", "green" if held else "red"), end="")
        console.print(Text(claim))


def _safe(text: str) -> str:
    return upright(clean(text))

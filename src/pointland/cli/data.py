"""The command ``data``: what a data set holds, before any training."""

from pathlib import Path
from typing import Any, cast, get_args

from rich.console import Console
from rich.progress import track
from rich.text import Text

from pointland.auditing.directory import write_json
from pointland.census import Census, Search, census
from pointland.cli.tabular import prepared, write_rows
from pointland.report.words import clean, counted, number, upright

FILES = ("rows.parquet", "rows.csv", "groups.json", "summary.json")
WORDS = {"exact": "exact copies", "near": "near copies (exact ones included)", "template": "half the picture the same"}


def run_data(
    images: Path,
    *,
    out: Path | None,
    model: str | None,
    size: int,
    k: int,
    radius: float,
    share: float,
    search: str,
    neighbors_in: int,
    seed: int,
    device: str | None,
    top: int,
) -> bool:
    """Take the census, print it, write it; return whether there are exact or near copies."""
    if search not in get_args(Search):
        raise ValueError(f"--search is {' or '.join(get_args(Search))}, got {search}")
    if search == "index":
        from pointland.lid.data.neighbor_cells import import_faiss

        try:
            import_faiss()
        except ImportError as error:
            raise ValueError(str(error)) from error
    prepared(out, images, names=FILES)
    console = Console(stderr=True)
    codec = None
    if model is not None:
        from pointland.cli.run import quiet
        from pointland.models.loading import load

        quiet()
        codec = load(model, device=device, dtype="float32").codec
    ticks: Any = None

    def advance(_done: int, total: int) -> None:
        nonlocal ticks
        ticks = ticks or iter(track(range(total), "Reading", console=console, transient=True))
        next(ticks, None)

    found = census(
        images,
        codec=codec,
        size=size,
        k=k,
        radius=radius,
        share=share,
        search=cast(Search, search),
        neighbors_in=neighbors_in,
        seed=seed,
        progress=advance,
    )
    print_census(found, top, Console())
    if out is not None:
        write_rows(out, found.rows)
        write_json(out / "groups.json", {"groups": [group._asdict() for group in found.groups]})
        write_json(out / "summary.json", found.summary)
        console.print(f"Written: {out}", highlight=False, markup=False)
    return bool(found.summary["exact"]["groups"] or found.summary["near"]["groups"])


def print_census(found: Census, top: int, console: Console) -> None:
    """Print counts, quartiles, and the largest groups."""
    summary = found.summary
    console.print(Text(f"{counted(summary['n'] - summary['n_failed'], 'picture')} read", "bold"))
    if summary["n_failed"]:
        reasons = list(dict.fromkeys(found.rows["reason"].drop_null().to_pylist()))
        console.print(Text(f"{summary['n_failed']:,} cannot be read: {clean('; '.join(reasons[:3]))}", "yellow"))
    for kind, words in WORDS.items():
        of = cast(dict[str, int], summary[kind])
        line = f"{words}: {counted(of['groups'], 'group')}"
        if of["groups"]:
            line += f" of {counted(of['pictures'], 'picture')}, the largest of {of['largest']:,}"
        console.print(Text(line))
    if summary["flat"]:
        console.print(Text(f"flat, nothing in them to compare: {counted(summary['flat'], 'picture')}", "yellow"))
    for name, marks in summary["quartiles"].items():
        what = f"data LID in {summary['spaces'][name]}" if name in summary["spaces"] else "PNG size in bytes"
        low, first, middle, third, high = map(number, marks)
        console.print(
            Text(f"{what}: median {middle}, middle half {first} to {third}, all {low} to {high}", "dim"),
        )
    for name, how in summary["neighbors"].items():
        line = f"neighbours for {name}: among {counted(how['among'], 'picture')}"
        if "recall" in how:
            line += f", {how['recall']:.1%} of the true ones found (standard error {how['recall_stderr']:.1%})"
        console.print(Text(line, "dim"))
    shown = [group for group in found.groups if group.kind != "template" or len(group.keys) > 2]
    for group in sorted(shown, key=lambda group: -len(group.keys))[:top]:
        names = ", ".join(upright(clean(key, 40)) for key in group.keys[:4])
        more = f", and {len(group.keys) - 4:,} more" if len(group.keys) > 4 else ""
        console.print(Text(f"  {group.kind:8} {len(group.keys):>6,}  {names}{more}"), soft_wrap=True)

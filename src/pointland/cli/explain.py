"""The command ``explain``: one page that says everything about a picture, or a page each for an audit's worst."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from pointland.explanation import Explanation


def explain(
    model: Annotated[str, typer.Argument(help="A diffusers directory or hub id; or a run directory, without IMAGE.")],
    image: Annotated[Path | None, typer.Argument(help="The picture to explain.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for the page, of one picture.")] = None,
    caption: Annotated[str | None, typer.Option(help="Look under this caption as well as without one.")] = None,
    train: Annotated[
        str | None, typer.Option(help="Pictures that the model was trained on: the nearest and copies are shown.")
    ] = None,
    reference: Annotated[
        str | None, typer.Option(help="Pictures of the same kind that it never saw. Without them: no verdict.")
    ] = None,
    sigma: Annotated[
        str, typer.Option(help="Noise scale: a number, 'auto' (chosen on --train or --reference) or 'paper'.")
    ] = "auto",
    directions: Annotated[
        int, typer.Option(min=0, help="Tangent directions of the walk and the spectrum; 0 leaves both out.")
    ] = 8,
    draws: Annotated[int, typer.Option(min=1, help="Of the dimension and its map.")] = 32,
    top: Annotated[int, typer.Option(min=1, help="Of a run: pages, from the most suspicious picture down.")] = 20,
    again: Annotated[bool, typer.Option("--again", help="Of a run: make pages anew that are there.")] = False,
    audited: Annotated[
        str | None, typer.Option("--model", help="Of a run: the audited model, if it is elsewhere now.")
    ] = None,
    lora: Annotated[str | None, typer.Option(help="LoRA weights to load with the model.")] = None,
    seed: Annotated[int, typer.Option(help="Of every draw.")] = 0,
    device: Annotated[str | None, typer.Option(help="cuda, mps, cpu, ...; the best there is by default.")] = None,
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16, of the network.")] = "float32",
) -> None:
    """Say all about IMAGE on one page: map, walk, spectrum, nearest pictures, words of the caption.

    Given a run directory in place of MODEL and IMAGE, pages of its most suspicious pictures, linked from its report.
    Exits 0 whatever is found: a page shows, and an audit decides.
    """
    if image is None:
        given = {"--out": out, "--caption": caption, "--train": train, "--reference": reference}
        _of_run(Path(model), [name for name, value in given.items() if value is not None], sigma, seed)
        _explain_run(Path(model), audited, top, draws, directions, again, lora, device, dtype)
        return
    if out is None:
        raise ValueError("name a folder for the page with --out")
    if audited is not None or again:
        raise ValueError("--model and --again are for the pages of a run; leave out IMAGE")
    _explain_one(
        model, image, out, caption, train, reference, _scale(sigma), directions, draws, lora, seed, device, dtype
    )


def _of_run(run: Path, given: list[str], sigma: str, seed: int) -> None:
    """Refuse what has no meaning for a run, which has its own scale, captions, reference and seed."""
    if not (run / "run.json").is_file():
        raise ValueError(f"{run} is no run directory; give MODEL and IMAGE, or the folder that `pointland audit` wrote")
    given += ["--sigma"] * (sigma != "auto") + ["--seed"] * (seed != 0)
    if given:
        raise ValueError(f"{', '.join(given)}: a run has its own; leave it out, or explain one picture of the model")


def _explain_one(
    model: str,
    image: Path,
    out: Path,
    caption: str | None,
    train: str | None,
    reference: str | None,
    sigma: float | Literal["auto", "paper"],
    directions: int,
    draws: int,
    lora: str | None,
    seed: int,
    device: str | None,
    dtype: str,
) -> None:
    from rich.console import Console
    from rich.text import Text

    from pointland.cli.folders import check_folder
    from pointland.cli.run import quiet
    from pointland.explanation import explain as explained
    from pointland.explanation import write_page
    from pointland.models.loading import Dtype, load

    check_folder(out, *(Path(place) for place in (train, reference) if place is not None and Path(place).is_dir()))
    if not image.is_file():
        raise FileNotFoundError(f"{image} is no file; give one picture to explain")
    quiet()
    errors = Console(stderr=True)
    with errors.status(Text(f"Loading {model}")) as said:
        loaded = load(model, device=device, dtype=cast(Dtype, dtype), lora=lora)
        found = explained(
            loaded,
            image,
            caption=caption,
            train=train,
            reference=reference,
            sigma=sigma,
            n_draws=draws,
            n_directions=directions,
            seed=seed,
            progress=lambda part: said.update(Text(f"Measuring: {part}")),
        )
    page = write_page(found, out)
    _print(found, Console())
    errors.print(Text(f"Written: {page}"), soft_wrap=True)


def _explain_run(
    run: Path,
    model: str | None,
    top: int,
    draws: int,
    directions: int,
    again: bool,
    lora: str | None,
    device: str | None,
    dtype: str,
) -> None:
    from rich.console import Console
    from rich.progress import Progress
    from rich.text import Text

    from pointland.auditing.directory import read_record
    from pointland.cli.extract import model_source
    from pointland.cli.run import quiet
    from pointland.explanation import explain_run
    from pointland.models.loading import Dtype, load
    from pointland.report import write_report

    source = model or model_source(run, read_record(run))
    quiet()
    errors = Console(stderr=True)
    with errors.status(Text(f"Loading {source}")):
        loaded = load(source, device=device, dtype=cast(Dtype, dtype), lora=lora)
    with Progress(console=errors, transient=True) as bars:
        bar = bars.add_task("Explaining", total=None)

        def advance(done: int, total: int, what: str) -> None:
            from rich.markup import escape

            bars.update(bar, completed=done, total=total, description=escape(what) or "Explaining")

        pages = explain_run(run, loaded, top=top, n_draws=draws, n_directions=directions, again=again, progress=advance)
    with errors.status("Writing the report"):
        report = write_report(run)
    console = Console()
    console.print(f"{len(set(pages.values())):,} explain pages in {run / 'explain'}.", soft_wrap=True, markup=False)
    console.print(f"Report: {report}", soft_wrap=True, markup=False)


def _scale(text: str) -> "float | Literal['auto', 'paper']":
    if text == "auto" or text == "paper":
        return text  # type: ignore[return-value]  # told apart just now
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"--sigma {text!r} is neither a number nor one of auto, paper") from None


def _print(found: "Explanation", console: "Console") -> None:
    from rich.text import Text

    from pointland.explanation import sentences
    from pointland.report.words import level

    console.print(Text(sentences.headline(found), "bold red" if sentences.suspicious(found) else "bold"))
    for what, side in zip(("Without a caption", "Under the caption"), found.sides.values(), strict=False):
        told = f"{what} {sentences.in_dimensions(side.denoising_loss)} of {found.d:,} dimensions at sigma "
        console.print(f"{told}{level(found.sigma)}; FLIPD {sentences.in_dimensions(side.flipd)}.", highlight=False)
    if found.nearest is not None:
        console.print(Text(sentences.nearest_how(found.nearest).split(" The distance")[0]))
    for _, text in sentences.notes(found):
        console.print(Text(text, "dim"))

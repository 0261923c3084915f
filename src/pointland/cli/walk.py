"""The command ``walk``: where the model lets one picture go."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from pointland.explanation.walk import PictureWalk
    from pointland.lid.estimate import LidEstimate

N_DIRECTIONS, N_DENOISE = 8, 12
FORMATS = (".png", ".jpg", ".jpeg", ".webp")


def walk(
    model: Annotated[str, typer.Argument(help="A diffusers directory, or a hub id such as owner/name.")],
    image: Annotated[Path, typer.Argument(help="The picture to walk from.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The picture of the walk: .png, .jpg or .webp, a new file.")],
    caption: Annotated[str | None, typer.Option(help="Walk under this caption; without one by default.")] = None,
    directions: Annotated[int, typer.Option(min=1, help="Leading tangent directions, a row each.")] = N_DIRECTIONS,
    steps: Annotated[int, typer.Option(min=3, help="Pictures in a row, an odd number; no step in the middle.")] = 7,
    reach: Annotated[
        float, typer.Option(help="Longest step; 1 is as long as the noise of that sigma: sigma times root d.")
    ] = 1.0,
    denoise: Annotated[int, typer.Option(min=1, help="How often a step is denoised.")] = N_DENOISE,
    sigma: Annotated[float | None, typer.Option(help="Noise scale; the paper's 0.34 by default.")] = None,
    like: Annotated[
        Path | None, typer.Option(help="Folder of pictures from which sigma is chosen as an audit chooses it.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of every draw.")] = 0,
    device: Annotated[str | None, typer.Option(help="cuda, mps, cpu, ...; the best there is by default.")] = None,
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16, of the network.")] = "float32",
) -> None:
    """Walk from IMAGE along the directions that MODEL leaves free, and draw where each leads: a memorized one stays.

    Exits 0 whatever is found: a walk shows, and decides nothing.
    """
    _check_out(out)
    if sigma is not None and like is not None:
        raise ValueError("give --sigma or --like, not both: --like chooses a sigma")

    import torch
    from rich.console import Console
    from rich.text import Text

    from pointland.auditing.directory import write_whole
    from pointland.auditing.measure import choose_sigma
    from pointland.cli.run import quiet
    from pointland.data.picture import UnreadablePicture, read_picture
    from pointland.explanation.walk import Walking, steps_of
    from pointland.explanation.walk_picture import as_picture
    from pointland.lid.denoising_loss import DenoisingLoss
    from pointland.lid.scale import PAPER_SIGMA
    from pointland.models.codec import check_encoded
    from pointland.models.loading import load

    steps_of(steps, reach)
    if not image.is_file():
        raise FileNotFoundError(f"{image} is no file; give one picture to walk from")
    quiet()
    errors = Console(stderr=True)
    with errors.status(Text(f"Loading {model}")):
        loaded = load(model, device=device, dtype=dtype)  # type: ignore[arg-type]  # checked there
    if caption is not None and not loaded.conditional:
        raise ValueError(f"{model} takes no captions; leave out --caption")
    try:
        picture = read_picture(image, loaded.codec.size)
    except UnreadablePicture as error:
        raise ValueError(f"{image}: {error}") from error
    pixels = torch.from_numpy(picture.pixels)
    if like is not None:
        with errors.status("Choosing sigma from a sample"):
            sigma = choose_sigma(loaded, like, "resolution", seed=seed).sigma
    level = loaded.levels.nearest(PAPER_SIGMA if sigma is None else sigma).sigma
    walking = Walking(level, directions, steps, reach, denoise, seed=seed)
    with errors.status("Walking"):
        x = check_encoded(loaded.codec.encode(pixels[None]))
        found = walking(loaded, pixels, picture.sha256, caption)
        lid = DenoisingLoss(level, seed=seed)(loaded.given([caption]), x, [picture.sha256])
    sheet = as_picture(found, image.name)
    write_whole(out, lambda to: sheet.save(to, "JPEG" if out.suffix.lower() in (".jpg", ".jpeg") else out.suffix[1:]))
    _print(
        found, lid, x[0].numel(), Console(), usual=denoise >= N_DENOISE and reach <= 1 and directions <= N_DIRECTIONS
    )
    errors.print(Text(f"Written: {out}"))


def _check_out(out: Path) -> None:
    if out.suffix.lower() not in FORMATS:
        raise ValueError(f"--out {out} ends in {out.suffix or 'nothing'}; expected one of {', '.join(FORMATS)}")
    if out.exists():
        raise ValueError(f"{out} exists; remove it, or choose another --out")
    if not out.parent.is_dir():
        raise FileNotFoundError(f"{out.parent} does not exist; make the folder of --out first")


def _print(found: "PictureWalk", lid: "LidEstimate", d: int, console: "Console", *, usual: bool) -> None:
    from rich import box
    from rich.table import Table

    from pointland.explanation.sentences import MOVED, STILL

    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for name in ("direction", "eigenvalue", "residual", "mean change", "at the ends"):
        table.add_column(name, justify="right")
    change = found.change
    for k, value in enumerate(found.tangent.values[0].tolist()):
        row = (value, float(found.tangent.residuals[0, k]), float(change[k].mean()), float(change[k, [0, -1]].mean()))
        table.add_row(str(k + 1), f"{row[0]:.3f}", f"{row[1]:.3f}", f"{row[2]:.2f}", f"{row[3]:.2f}")
    console.print(table)
    console.print(
        f"LID {float(lid.value):.3g} +- {float(lid.stderr):.2g} of {d:,} dimensions (denoising loss) at sigma "
        f"{found.sigma:.4g}; {found.free} of {len(change)} directions have an eigenvalue above 1/2.",
        highlight=False,
    )
    if not float(found.stepped.max()):
        console.print("Steps are too short to change a pixel: nothing is said of this picture. Take a larger --reach.")
        return
    if not usual:  # the shares are measured near the defaults alone
        told = "docs/walks.md says how to read it at the default settings"
    elif found.kept < STILL:
        told = "steps are taken back: the model has one picture to give here, as it has of a memorized or a plain one"
    elif found.kept < MOVED:
        told = "steps are kept in part"
    else:
        told = "the walk moves: the model has a family of pictures to give here"
    console.print(
        f"Steps change a pixel by {float(change.mean()):.2g} gray levels of 255 on average, which is "
        f"{found.kept:.0%} of what they change before the model denoises; {told}.",
        highlight=False,
        soft_wrap=True,
    )
    console.print(
        f"Denoising alone changes it by {found.drift:.2g}. {found.evaluations:,} evaluations.", highlight=False
    )

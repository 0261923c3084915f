"""The commands, thin: they read options, call the library, and render.

Exit codes: 0 nothing flagged; 1 parts are missing (merge) or something is wrong (verify); 10 something flagged; 2 input
that cannot be used; 3 the disk is full or not writable; 130 interrupted. Nothing heavy is imported before a command
runs, so that help is instant.
"""

import errno
import shlex
import signal
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from pointland.cli.audit import audit
from pointland.cli.benchmark import benchmark
from pointland.cli.explain import explain
from pointland.cli.extract import extract
from pointland.cli.generate import generate
from pointland.cli.merge import merge
from pointland.cli.monitor import monitor
from pointland.cli.prompts import attribute, prompts
from pointland.cli.verify import verify
from pointland.cli.walk import walk

NOTHING_FLAGGED, FLAGGED, UNUSABLE, NO_SPACE, INTERRUPTED = 0, 10, 2, 3, 130

app = typer.Typer(
    name="pointland",
    help="Find the images a generative model has memorized, from the geometry it learned.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(benchmark, name="benchmark")
app.command()(audit)
app.command()(explain)
app.command()(extract)
app.command()(generate)
app.command()(prompts)
app.command()(attribute)
app.command()(merge)
app.command()(monitor)
app.command()(verify)
app.command()(walk)


def main() -> NoReturn:
    """Run the command line; errors that the user can mend are one message and a code, never a traceback."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        code = app(standalone_mode=False)
    except typer.Exit as end:
        code = end.exit_code
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except (ImportError, ValueError, FileNotFoundError, NotADirectoryError, PermissionError) as error:
        typer.echo(f"Error: {error}", err=True)
        code = UNUSABLE
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EROFS, errno.EDQUOT):
            raise
        mend = "Choose an --out that can be written to" if error.errno == errno.EROFS else "Free space"
        what = f"{error.filename or 'the run'}: {error.strerror}"
        typer.echo(
            f"Error: cannot write {what}. {mend}, then repeat the same command; what is finished is kept.", err=True
        )
        code = NO_SPACE
    except Exception as error:
        if not hasattr(error, "format_message"):  # a usage error of click, which typer may carry in itself
            raise
        show = getattr(error, "show", None)
        if callable(show):
            show()
        code = UNUSABLE
    if code == INTERRUPTED:
        command = shlex.join(["pointland", *sys.argv[1:]])
        typer.echo(f"\nInterrupted. What was finished is kept; continue with the same command:\n  {command}", err=True)
    sys.exit(code or 0)


def version(asked: bool) -> None:
    """Print the version and leave."""
    if asked:
        from importlib.metadata import version as installed

        typer.echo(f"pointland {installed('pointland')}")
        raise typer.Exit


@app.callback()
def start(
    version: Annotated[
        bool, typer.Option("--version", callback=version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Find the images a generative model has memorized, from the geometry it learned."""


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="A run directory.")],
    fdr: Annotated[float | None, typer.Option(help="Another false discovery rate than the run's.")] = None,
) -> None:
    """Rebuild report.html, report.md and summary.json from the rows of RUN."""
    from pointland.report import write_report

    typer.echo(write_report(run, fdr=fdr))


@app.command()
def show(
    run: Annotated[Path, typer.Argument(help="A run directory.")],
    top: Annotated[int, typer.Option(min=0, help="How many of the most suspicious pictures.")] = 20,
    fdr: Annotated[float | None, typer.Option(help="Another false discovery rate than the run's.")] = None,
) -> None:
    """Print the verdict of RUN and its most suspicious pictures."""
    from rich.console import Console

    from pointland.auditing import read_run
    from pointland.report import print_table, summarize

    print_table(summarize(read_run(run), fdr=fdr), top, Console())


@app.command()
def compare(
    run_a: Annotated[Path, typer.Argument(help="The run to compare with, such as before a change.")],
    run_b: Annotated[Path, typer.Argument(help="The run after it.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for compare.json and compare.md.")] = None,
    fdr: Annotated[float | None, typer.Option(help="False discovery rate of both, instead of each run's own.")] = None,
    top: Annotated[int, typer.Option(min=0, help="Pictures in each table.")] = 20,
) -> None:
    """Say what changed between two audits that have pictures in common.

    Exits 10 when RUN_B flags a picture that RUN_A did not flag or does not have, else 0.
    """
    from pointland.cli.compare import run_compare

    raise typer.Exit(FLAGGED if run_compare(run_a, run_b, out=out, fdr=fdr, top=top) else NOTHING_FLAGGED)


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Where pictures and the run go.")] = Path("demo-run"),
    top: Annotated[int, typer.Option(min=0, help="Rows of the table printed at the end.")] = 20,
) -> None:
    """Audit the bundled miniature, whose memorized pictures are known: a positive control of the whole path.

    Exits 0 when the planted truth was found and 1 when it was not, and says which.
    """
    from pointland.cli.run import run_demo

    raise typer.Exit(run_demo(out, top))


@app.command()
def lid(
    model: Annotated[str, typer.Argument(help="A diffusers directory, or a hub id such as owner/name.")],
    images: Annotated[Path, typer.Argument(help="Folder of pictures to measure at.")],
    estimator: Annotated[
        str,
        typer.Option(
            help="denoising-loss, flipd, flipd-low-rank, spectrum, normal-bundle[-sketch], jacobian-rank, "
            "flow-jacobian or likelihood."
        ),
    ] = "denoising-loss",
    sigma: Annotated[
        str,
        typer.Option(
            help="Noise scale: a number, 'auto' (the plateau, for absolute dimensions), 'resolution' (an audit's, for "
            "ranking), 'knee' (the published choice) or 'paper'."
        ),
    ] = "auto",
    n: Annotated[
        int | None, typer.Option("--n", min=1, help="Draws or probes; the estimator's default if left out.")
    ] = None,
    captions: Annotated[Path | None, typer.Option(help="CSV or JSON lines with captions.")] = None,
    with_captions: Annotated[
        bool, typer.Option("--with-captions", help="Measure under each picture's caption.")
    ] = False,
    check: Annotated[
        bool, typer.Option(help="Check that each picture is on the model's manifold: 26 forward passes more, or fewer.")
    ] = True,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Where all values go: .csv, .json or .parquet.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures in one batch.")] = 16,
    seed: Annotated[int, typer.Option(help="Seed of every draw.")] = 0,
    device: Annotated[str | None, typer.Option(help="cuda, mps, cpu, ...")] = None,
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16, of the network.")] = "float32",
) -> None:
    """Measure the local intrinsic dimension of MODEL at every one of IMAGES."""
    from pointland.cli.measure import run_lid

    run_lid(
        model,
        images,
        estimator=estimator,
        sigma=sigma,
        n=n,
        captions=captions,
        conditional=with_captions,
        check=check,
        out=out,
        batch_size=batch_size,
        seed=seed,
        device=device,
        dtype=dtype,
    )


@app.command("lid-data")
def lid_data(
    images: Annotated[Path, typer.Argument(help="Folder of pictures.")],
    estimator: Annotated[
        str,
        typer.Option(
            help="censored-hill, mle, calibrated-mle, moment, twonn, pca, ess or closed-form-diffusion (needs --sigma)."
        ),
    ] = "censored-hill",
    k: Annotated[
        int | None, typer.Option("--k", min=2, help="Neighbours; the estimator's default if left out.")
    ] = None,
    sigma: Annotated[
        float, typer.Option(help="Noise scale of closed-form-diffusion, in units of [0, 1] pixels.")
    ] = 0.5,
    reference: Annotated[Path | None, typer.Option(help="Folder to look for neighbours in; IMAGES by default.")] = None,
    size: Annotated[int, typer.Option(min=1, help="Height and width that pictures are fitted to.")] = 32,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Where all values go: .csv, .json or .parquet.")
    ] = None,
) -> None:
    """Measure the local intrinsic dimension of a data set, from neighbours in pixels; no model is needed."""
    from pointland.cli.measure import run_lid_data

    run_lid_data(images, estimator=estimator, k=k, sigma=sigma, reference=reference, size=size, out=out)


@app.command()
def data(
    images: Annotated[Path, typer.Argument(help="Folder of pictures, usually what a model is going to be trained on.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for rows.parquet, rows.csv, groups.json, summary.json.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="A diffusers directory or hub id, to measure data LID in its latent space too.")
    ] = None,
    size: Annotated[int, typer.Option(min=8, help="Height and width that pictures are fitted to for PNG size.")] = 32,
    k: Annotated[int, typer.Option("--k", min=2, help="Neighbours of the data LID.")] = 20,
    radius: Annotated[
        float, typer.Option(help="Within which pictures are near copies; 0.08 is a JPEG or a shade.")
    ] = 0.08,
    share: Annotated[float, typer.Option(help="Share of the picture that templates have in common.")] = 0.5,
    search: Annotated[
        str,
        typer.Option(
            help="Where data LID looks for neighbours: 'sample' of the pictures, or all through an 'index' (FAISS)."
        ),
    ] = "sample",
    neighbors_in: Annotated[int, typer.Option(min=100, help="Pictures in that sample, at most.")] = 20_000,
    seed: Annotated[int, typer.Option(help="Of that sample and of the search for groups.")] = 0,
    device: Annotated[str | None, typer.Option(help="cuda, mps, cpu, ..., for --model.")] = None,
    fail_on_duplicates: Annotated[
        bool, typer.Option("--fail-on-duplicates", help="Exit 10 if there are exact or near copies.")
    ] = False,
    top: Annotated[int, typer.Option(min=0, help="Groups printed, largest first.")] = 10,
) -> None:
    """Say what IMAGES hold before any training: groups of copies, data LID, complexity; no model is needed.

    Exits 0 also when there are copies, which many sets mean to have; --fail-on-duplicates guards one that must not.
    """
    from pointland.cli.data import run_data

    found = run_data(
        images,
        out=out,
        model=model,
        size=size,
        k=k,
        radius=radius,
        share=share,
        search=search,
        neighbors_in=neighbors_in,
        seed=seed,
        device=device,
        top=top,
    )
    raise typer.Exit(FLAGGED if found and fail_on_duplicates else NOTHING_FLAGGED)


@app.command()
def samples(
    generated: Annotated[Path, typer.Argument(help="Folder of images that the model generated.")],
    train: Annotated[Path, typer.Option(help="Folder of images that it was trained on.")],
    reference: Annotated[
        Path | None,
        typer.Option(help="Folder of images of the same kind, never trained on. Without it: ranking only."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for rows.parquet, rows.csv, summary.json.")
    ] = None,
    descriptor: Annotated[
        str,
        typer.Option(help="What images are compared by: perceptual, pixels[:SIZE], sscd:FILE or dinov2:DIRECTORY."),
    ] = "perceptual",
    fdr: Annotated[float, typer.Option(help="False discovery rate asked for.")] = 0.05,
    no_local: Annotated[bool, typer.Option("--no-local", help="Do not look for copied parts; much faster.")] = False,
    k: Annotated[int, typer.Option("--k", min=2, help="Neighbours of the calibrated distance.")] = 50,
    radius: Annotated[float, typer.Option(help="Within which training images are copies of each other.")] = 0.08,
    seed: Annotated[int, typer.Option(help="Of the search for copies and of C_T's cells.")] = 0,
    top: Annotated[int, typer.Option(min=0, help="Rows of the table printed at the end.")] = 20,
) -> None:
    """Say which GENERATED images copy training images, whole or in part, and what the published metrics say."""
    from pointland.cli.samples import run_samples

    flagged = run_samples(
        generated,
        train,
        reference=reference,
        descriptor=descriptor,
        fdr=fdr,
        local=not no_local,
        k=k,
        radius=radius,
        seed=seed,
        out=out,
        top=top,
    )
    raise typer.Exit(FLAGGED if flagged else NOTHING_FLAGGED)


@app.command()
def reproduce(
    name: Annotated[
        str,
        typer.Argument(
            help="figure-1, figure-3, figure-4, theorem-4.1, proposition-4.2, score-norm, soft-count or "
            "out-of-distribution."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the figure and its numbers.")],
    model: Annotated[str | None, typer.Option(help="figure-4: a diffusers directory, or a hub id.")] = None,
    memorized: Annotated[
        Path | None, typer.Option(help="figure-4: folder of pictures known to be memorized, with captions.")
    ] = None,
    negatives: Annotated[
        list[Path] | None, typer.Option(help="figure-4: folder of pictures that are not; once a folder.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="figure-4: pictures in one batch.")] = 16,
    seed: Annotated[int, typer.Option(help="figure-4: seed of every draw.")] = 0,
    device: Annotated[str | None, typer.Option(help="figure-4: cuda, mps, cpu, ...")] = None,
    dtype: Annotated[str, typer.Option(help="figure-4: float32, bfloat16 or float16, of the network.")] = "float32",
) -> None:
    """Run an experiment of the paper, print its numbers, and write its figure (SVG) and numbers (JSON)."""
    if name == "figure-4":
        from pointland.cli.figure_4 import run_figure_4

        run_figure_4(
            out,
            model=model,
            memorized=memorized,
            negatives=negatives or [],
            batch_size=batch_size,
            seed=seed,
            device=device,
            dtype=dtype,
            command=portable_command(sys.argv[1:]),
        )
        return
    if model is not None or memorized is not None or negatives:
        raise ValueError(f"{name} makes its own data; only figure-4 takes --model, --memorized and --negatives")
    from pointland.cli.reproduce import run_reproduce

    run_reproduce(name, out)


def portable_command(arguments: list[str]) -> str:
    """Return the command for the record; of absolute paths only the last part, so that reports tell no home folders."""
    split = [word.partition("=") if word.startswith("--") else ("", "", word) for word in arguments]
    names = [option + equals + (Path(a).name if Path(a).is_absolute() else a) for option, equals, a in split]
    return shlex.join(["pointland", *names])

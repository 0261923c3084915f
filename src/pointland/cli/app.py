"""The commands, thin: they read options, call the library, and render.

Exit codes: 0 nothing flagged; 10 something flagged; 2 input that cannot be used; 3 the disk is full or not writable;
130 interrupted. Nothing heavy is imported before a command runs, so that help is instant.
"""

import errno
import shlex
import signal
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

NOTHING_FLAGGED, FLAGGED, UNUSABLE, NO_SPACE, INTERRUPTED = 0, 10, 2, 3, 130

app = typer.Typer(
    name="pointland",
    help="Find the images a generative model has memorized, from the geometry it learned.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> NoReturn:
    """Run the command line; errors that the user can mend are one message and a code, never a traceback."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        code = app(standalone_mode=False)
    except typer.Exit as end:
        code = end.exit_code
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except (ValueError, FileNotFoundError, NotADirectoryError, PermissionError) as error:
        typer.echo(f"Error: {error}", err=True)
        code = UNUSABLE
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EROFS, errno.EDQUOT):
            raise
        typer.echo(
            f"Error: cannot write {error.filename or 'the run'}: {error.strerror}. Free space, then repeat.", err=True
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
def audit(
    model: Annotated[str, typer.Argument(help="A diffusers directory, or a hub id such as owner/name.")],
    images: Annotated[Path, typer.Argument(help="Folder of pictures to audit, usually the training set.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Run directory; an interrupted run there is continued.")],
    reference: Annotated[
        Path | None,
        typer.Option(help="Folder of pictures of the same kind, never trained on. Without it: ranking only."),
    ] = None,
    captions: Annotated[Path | None, typer.Option(help="CSV or JSON lines with captions of IMAGES.")] = None,
    reference_captions: Annotated[Path | None, typer.Option(help="The same for the reference.")] = None,
    labels: Annotated[Path | None, typer.Option(help="CSV key,label of what is known, to measure the audit.")] = None,
    sigma: Annotated[
        str, typer.Option(help="Noise scale: a number, 'auto', or 'paper' for the paper's settings.")
    ] = "auto",
    fdr: Annotated[float, typer.Option(help="False discovery rate asked for.")] = 0.05,
    decide_by: Annotated[str, typer.Option(help="Column that the verdict rests on.")] = "denoising_loss_unconditional",
    n_draws: Annotated[int, typer.Option(min=1, help="Noise draws of the denoising loss.")] = 8,
    n_probes: Annotated[int, typer.Option(min=1, help="Probes of FLIPD.")] = 4,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures in one batch.")] = 16,
    seed: Annotated[int, typer.Option(help="Seed of every draw.")] = 0,
    device: Annotated[str | None, typer.Option(help="cuda, mps, cpu, ...; the best there is by default.")] = None,
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16, of the network.")] = "float32",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would run and how long, then stop.")] = False,
    top: Annotated[int, typer.Option(min=0, help="Rows of the table printed at the end.")] = 20,
) -> None:
    """Audit MODEL for memorized IMAGES, write a run directory with a report, print the verdict."""
    from pointland.cli.run import run_audit

    flagged = run_audit(
        model,
        images,
        out=out,
        reference=reference,
        captions=captions,
        reference_captions=reference_captions,
        labels=labels,
        sigma=sigma,
        fdr=fdr,
        decide_by=decide_by,
        n_draws=n_draws,
        n_probes=n_probes,
        batch_size=batch_size,
        seed=seed,
        device=device,
        dtype=dtype,
        dry_run=dry_run,
        top=top,
        command=portable_command(sys.argv[1:]),
    )
    raise typer.Exit(FLAGGED if flagged else NOTHING_FLAGGED)


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
        typer.Option(help="denoising-loss, flipd, flipd-low-rank, spectrum, normal-bundle[-sketch] or jacobian-rank."),
    ] = "denoising-loss",
    sigma: Annotated[str, typer.Option(help="Noise scale: a number, 'auto' or 'paper'.")] = "auto",
    n: Annotated[
        int | None, typer.Option("--n", min=1, help="Draws or probes; the estimator's default if left out.")
    ] = None,
    captions: Annotated[Path | None, typer.Option(help="CSV or JSON lines with captions.")] = None,
    with_captions: Annotated[
        bool, typer.Option("--with-captions", help="Measure under each picture's caption.")
    ] = False,
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
def reproduce(
    name: Annotated[str, typer.Argument(help="figure-1, figure-3, theorem-4.1, proposition-4.2 or score-norm.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the figure and its numbers.")],
) -> None:
    """Run an experiment of the paper, print its numbers, and write its figure (SVG) and numbers (JSON)."""
    from pointland.cli.reproduce import run_reproduce

    run_reproduce(name, out)


def portable_command(arguments: list[str]) -> str:
    """Return the command for the record; of absolute paths only the last part, so that reports tell no home folders."""
    return shlex.join(["pointland", *(Path(a).name if Path(a).is_absolute() else a for a in arguments)])

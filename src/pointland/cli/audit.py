"""``pointland audit``: its options, and what they become."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer

NOTHING_FLAGGED, FLAGGED = 0, 10


def audit(
    model: Annotated[str, typer.Argument(help="A diffusers directory, or a hub id such as owner/name.")],
    images: Annotated[
        str,
        typer.Argument(
            help="Pictures to audit, usually the training set: a folder, 'shards/{000..999}.tar', a .parquet file or "
            "folder of them, or hf:owner/name."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Run directory; an interrupted run there is continued.")],
    reference: Annotated[
        str | None,
        typer.Option(help="Pictures of the same kind, never trained on. Without them: ranking only."),
    ] = None,
    captions: Annotated[Path | None, typer.Option(help="CSV or JSON lines with captions of IMAGES.")] = None,
    reference_captions: Annotated[Path | None, typer.Option(help="The same for the reference.")] = None,
    split: Annotated[str | None, typer.Option(help="hf: which split of IMAGES.")] = None,
    reference_split: Annotated[str | None, typer.Option(help="hf: which split of the reference.")] = None,
    image: Annotated[str | None, typer.Option(help="Parquet, hf: the column of pictures.")] = None,
    caption: Annotated[str | None, typer.Option(help="Parquet, hf: the column of captions.")] = None,
    key: Annotated[str | None, typer.Option(help="Parquet, hf: the column of names; file and row by default.")] = None,
    screen: Annotated[
        bool,
        typer.Option("--screen", help="One network evaluation for all, all others for the most suspicious (--keep)."),
    ] = False,
    keep: Annotated[
        float, typer.Option(min=0, max=1, help="--screen: the share of pictures to look at closely.")
    ] = 0.1,
    labels: Annotated[Path | None, typer.Option(help="CSV key,label of what is known, to measure the audit.")] = None,
    sigma: Annotated[
        str, typer.Option(help="Noise scale: a number, 'auto', or 'paper' for the paper's settings.")
    ] = "auto",
    reference_model: Annotated[
        str | None,
        typer.Option(help="What MODEL was fine-tuned from, or an early checkpoint: judge by the LID minus that one's."),
    ] = None,
    lora: Annotated[
        str | None, typer.Option(help="LoRA weights to add to MODEL: a file, a folder or a hub id.")
    ] = None,
    also: Annotated[
        list[str] | None,
        typer.Option(
            help="Add a metric: swapped, recall, guidance, sharpness, confidence, cosine, p-laplace, critical."
        ),
    ] = None,
    fdr: Annotated[float, typer.Option(help="False discovery rate asked for.")] = 0.05,
    decide_by: Annotated[
        str | None,
        typer.Option(help="Column that the verdict rests on: denoising_loss_unconditional, local_lid, combined, ..."),
    ] = None,
    n_draws: Annotated[int, typer.Option(min=1, help="Noise draws of the denoising loss.")] = 8,
    n_probes: Annotated[int, typer.Option(min=1, help="Probes of FLIPD.")] = 4,
    batch_size: Annotated[
        str, typer.Option(help="Pictures in one batch: a number, or 'auto'; halved when memory runs out.")
    ] = "auto",
    seed: Annotated[int, typer.Option(help="Seed of every draw.")] = 0,
    shard: Annotated[
        str | None,
        typer.Option(
            help="i/n with i from 0: do this share only, other processes do the rest; 'auto' as torchrun or Slurm says."
        ),
    ] = None,
    readers: Annotated[
        int | None, typer.Option(min=0, help="Processes that read and decode, 2 by default; 0: none beside this one.")
    ] = None,
    engine: Annotated[
        str, typer.Option(help="Where to compute: 'local', in this process, or 'ray', on workers here or on a cluster.")
    ] = "local",
    workers: Annotated[int | None, typer.Option(min=1, help="ray: how many, each with a model of its own; 2.")] = None,
    address: Annotated[
        str | None, typer.Option(help="ray: of a cluster that runs, 'auto' for this machine's; by default starts one.")
    ] = None,
    gpus: Annotated[float | None, typer.Option(min=0, help="ray: GPUs of a worker, such as 0.5.")] = None,
    device: Annotated[str | None, typer.Option(help="cuda, mps, cpu, ...; the best there is by default.")] = None,
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16, of the network.")] = "float32",
    compiled: Annotated[bool, typer.Option("--compile", help="Compile the network; pays in long audits.")] = False,
    channels_last: Annotated[
        bool, typer.Option("--channels-last", help="Channels-last weights, for U-Nets on a GPU.")
    ] = False,
    autocast: Annotated[str | None, typer.Option(help="bfloat16 or float16: run the network under autocast.")] = None,
    max_bad: Annotated[
        float, typer.Option(min=0, max=1, help="Fail, code 2, if a larger share of IMAGES has no value.")
    ] = 0.5,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would run and how long, then stop.")] = False,
    top: Annotated[int, typer.Option(min=0, help="Rows of the table printed at the end.")] = 20,
) -> None:
    """Audit MODEL for memorized IMAGES, write a run directory with a report, print the verdict."""
    from pointland.auditing.tasks import tasks_of
    from pointland.cli.app import portable_command
    from pointland.cli.engines import Place
    from pointland.cli.run import run_audit
    from pointland.data.hub import DatasetRows
    from pointland.data.parquet import ParquetFiles
    from pointland.data.sources import open_source

    columns = {"image": image, "caption": caption, "key": key}
    audited = open_source(images, captions=captions, split=split, **columns)
    compared = None
    if reference is not None:
        compared = open_source(reference, captions=reference_captions, split=reference_split)
        if isinstance(compared, DatasetRows | ParquetFiles):
            compared = replace(compared, image=image, caption=caption, key=key)
    flagged = run_audit(
        model,
        tasks_of(audited, reference=compared),  # before the model: bad input fails at once
        out=out,
        labels=labels,
        sigma=sigma,
        reference_model=reference_model,
        lora=lora,
        also=also or [],
        fdr=fdr,
        decide_by=decide_by,
        n_draws=n_draws,
        n_probes=n_probes,
        batch_size=batch_size_from(batch_size),
        seed=seed,
        screen=keep if screen else None,
        shard=shard,
        place=Place(engine, readers, workers, address, gpus),
        device=device,
        dtype=dtype,
        running={"compiled": compiled, "channels_last": channels_last, "autocast": autocast},
        max_bad=max_bad,
        dry_run=dry_run,
        top=top,
        command=portable_command(sys.argv[1:]),
    )
    raise typer.Exit(FLAGGED if flagged else NOTHING_FLAGGED)


def batch_size_from(text: str) -> "int | Literal['auto']":
    """Read ``--batch-size``."""
    if text == "auto":
        return "auto"
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"--batch-size {text!r} is neither a positive number nor 'auto'")
    return int(text)

"""The commands ``lid`` and ``lid-data``: one estimator on one folder."""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, cast, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import track

from pointland.auditing.measure import YES, DataEstimator, How, ModelEstimator, choose_sigma, measure, measure_data
from pointland.auditing.settle import settle
from pointland.auditing.tasks import tasks_of
from pointland.cli.run import quiet
from pointland.cli.tabular import write_spreadsheet
from pointland.lid import data as lid_data
from pointland.lid.chosen import Chosen
from pointland.lid.denoising_loss import DenoisingLoss
from pointland.lid.flipd import Flipd
from pointland.lid.flow_jacobian import FlowJacobian
from pointland.lid.jacobian_spectrum import JacobianRank
from pointland.lid.likelihood import DiffusionLidl
from pointland.lid.normal_bundle import NormalBundle, NormalBundleSketch
from pointland.lid.scale import PAPER_SIGMA
from pointland.lid.spectrum import FilteredSpectrum
from pointland.lid.trace import FlipdLowRank
from pointland.models.loading import Dtype, load
from pointland.noise import Levels

OfModel = Literal[
    "flipd",
    "flipd-low-rank",
    "denoising-loss",
    "spectrum",
    "normal-bundle",
    "normal-bundle-sketch",
    "jacobian-rank",
    "flow-jacobian",
    "likelihood",
]
FARTHEST = 80.0  # where a probability flow begins, if the model has levels that high
OfData = Literal["mle", "calibrated-mle", "censored-hill", "moment", "twonn", "pca", "ess", "closed-form-diffusion"]


def run_lid(
    model: str,
    images: Path,
    *,
    estimator: str,
    sigma: str,
    n: int | None,
    captions: Path | None,
    conditional: bool,
    check: bool,
    out: Path | None,
    batch_size: int,
    seed: int,
    device: str | None,
    dtype: str,
) -> None:
    """Measure the model's LID at every picture."""
    if estimator not in get_args(OfModel):
        raise ValueError(f"--estimator {estimator!r} is not one of {', '.join(get_args(OfModel))}")
    fixed, how = sigma_of(sigma)
    writable(out)
    quiet()
    console = Console(stderr=True)
    tasks = tasks_of(images, captions)
    loaded = load(model, device=device, dtype=cast(Dtype, dtype))
    if fixed is None:
        with console.status("Choosing sigma from a sample"):
            chosen = choose_sigma(loaded, images, how, captions=captions, batch_size=batch_size, seed=seed)
        show_choice(chosen, how, Console())
        fixed = chosen.sigma
    level = settle(loaded, tasks, fixed, None, n_draws=1, n_probes=1, batch_size=batch_size, seed=seed).sigma["value"]
    ticks = iter(track(range(len(tasks)), "Measuring", console=console))

    def advance(_done: int, _total: int) -> None:
        next(ticks, None)

    table = measure(
        loaded,
        images,
        of_model(cast(OfModel, estimator), level, n, seed, loaded.levels),
        captions=captions,
        conditional=conditional,
        batch_size=batch_size,
        check=check,
        progress=advance,
    )
    show(table, estimator, {"sigma": f"{level:.4g}", "space": loaded.codec.space}, out)


def run_lid_data(
    images: Path, *, estimator: str, k: int | None, sigma: float, reference: Path | None, size: int, out: Path | None
) -> None:
    """Measure the LID of a data set at every picture."""
    if estimator not in get_args(OfData):
        raise ValueError(f"--estimator {estimator!r} is not one of {', '.join(get_args(OfData))}")
    writable(out)
    made = of_data(cast(OfData, estimator), k, sigma, 3 * size * size)
    table = measure_data(images, made, reference=reference, size=(size, size))
    show(table, estimator, {"space": f"pixels 3 x {size} x {size}"}, out)


def sigma_of(text: str) -> tuple[float | None, How]:
    """Read the option ``--sigma``: a number, or ``None`` and how to choose one."""
    if text in ("auto", *get_args(How)):
        return None, "plateau" if text == "auto" else cast(How, text)
    if text == "paper":
        return PAPER_SIGMA, "plateau"
    try:
        return float(text), "plateau"
    except ValueError:
        raise ValueError(f"--sigma {text!r} is no number, nor auto, {', '.join(get_args(How))} or paper") from None


def of_model(name: OfModel, sigma: float, n: int | None, seed: int, levels: Levels) -> ModelEstimator:
    """Return the estimator of that name; ``n`` is its number of draws, probes or (flow-jacobian) steps."""
    low, high = float(levels.sigmas[0]), min(FARTHEST, float(levels.sigmas[-1]))
    match name:
        case "flipd":
            return Flipd(sigma, 4 if n is None else n, seed)
        case "flipd-low-rank":
            return FlipdLowRank(sigma, 16 if n is None else n, seed)
        case "denoising-loss":
            return DenoisingLoss(sigma, 8 if n is None else n, seed)
        case "spectrum":
            return FilteredSpectrum(sigma, seed=seed) if n is None else FilteredSpectrum(sigma, n, seed=seed)
        case "normal-bundle":
            return NormalBundle(sigma, n, seed)
        case "normal-bundle-sketch":
            return NormalBundleSketch(sigma, n, seed)
        case "jacobian-rank":
            return JacobianRank(sigma, n, seed)
        case "flow-jacobian":
            return FlowJacobian(sigma, high) if n is None else FlowJacobian(sigma, high, n)
        case "likelihood":
            start = max(low, sigma / 2**0.5)  # five scales over a factor 2, about sigma
            deltas = tuple(start * 2 ** (i / 4) for i in range(5))
            return DiffusionLidl(deltas, n_probes=4 if n is None else n, sigma_max=high, seed=seed)


def of_data(name: OfData, k: int | None, sigma: float, d: int) -> DataEstimator:
    """Return the estimator of that name; ``k`` is its number of neighbours."""
    match name:
        case "mle":
            return lid_data.Mle() if k is None else lid_data.Mle(k)
        case "calibrated-mle":
            return lid_data.CalibratedMle() if k is None else lid_data.CalibratedMle(k)
        case "censored-hill":
            return lid_data.CensoredHill(lid_data.rounding_floor(d), 20 if k is None else k)
        case "moment":
            return lid_data.Moment() if k is None else lid_data.Moment(k)
        case "twonn":
            return lid_data.TwoNn()
        case "pca":
            return lid_data.LocalPca() if k is None else lid_data.LocalPca(k)
        case "ess":
            return lid_data.Ess() if k is None else lid_data.Ess(k)
        case "closed-form-diffusion":
            return lid_data.Kernel(sigma)


def show_choice(chosen: Chosen, how: How, console: Console) -> None:
    """Print the curve that a scale was chosen from, and what the scale is worth."""
    median = chosen.curve.values.median(1).values.tolist()
    points = ", ".join(f"{s:.3g}: {v:.3g}" for s, v in zip(chosen.curve.sigmas.tolist(), median, strict=True))
    console.print(f"Median LID by sigma: {points}", highlight=False)
    worth = "level there" if chosen.level else "no plateau: values are soft counts at this sigma, not dimensions"
    console.print(
        f"sigma {chosen.sigma:.4g} by {how} of {chosen.curve.values.shape[1]} pictures: median {chosen.value:.3g}, "
        f"slope {chosen.slope:.2g} for a factor e, within a tenth over {chosen.width:.2g} factors e; {worth}",
        highlight=False,
    )


def show(table: pa.Table, estimator: str, facts: Mapping[str, str], out: Path | None) -> None:
    """Print what the values are like, and write them all."""
    values = np.array(table["value"].drop_null().to_pylist(), dtype=np.float64)
    missing = table.num_rows - len(values)
    console = Console()
    settings = ", ".join(f"{name} {value}" for name, value in facts.items())
    console.print(
        f"{estimator} ({settings}): {table.num_rows:,} pictures, {missing:,} without a value", highlight=False
    )
    if len(values):
        marks = np.quantile(values, [0, 0.25, 0.5, 0.75, 1])
        named = zip(("least", "lower quartile", "median", "upper quartile", "most"), marks, strict=True)
        console.print(", ".join(f"{name} {mark:.3g}" for name, mark in named) + " dimensions", highlight=False)
    if "on_manifold" in table.column_names:
        words = Counter(table["on_manifold"].drop_null().to_pylist())
        on = words.pop(YES, 0)
        why = ", ".join(f"{word} {count:,}" for word, count in words.most_common())
        line = f"On the model's manifold: {on:,}. No dimension there: {sum(words.values()):,}"
        console.print(line + (f" ({why})" if why else ""), highlight=False)
    for reason in list(dict.fromkeys(table["reason"].drop_null().to_pylist()))[:5]:
        console.print(f"  without a value: {reason}", highlight=False, markup=False)
    if out is not None:
        write(table, out)
        console.print(f"Written: {out}", highlight=False, markup=False)


def writable(out: Path | None) -> None:
    """Raise ``ValueError`` unless the file can be written in a known format."""
    if out is not None and out.suffix not in (".csv", ".json", ".parquet"):
        raise ValueError(f"--out {out} has no known format; name it .csv, .json or .parquet")
    if out is not None and not out.parent.is_dir():
        raise ValueError(f"the folder {out.parent} does not exist; make it first")


def write(table: pa.Table, out: Path) -> None:
    """Write a table as its name says. In CSV, text that a spreadsheet would run as a formula gets an apostrophe."""
    if out.suffix == ".parquet":
        pq.write_table(table, out)
    elif out.suffix == ".json":
        out.write_text(json.dumps(table.to_pylist(), indent=1) + "\n", encoding="utf-8")
    else:
        write_spreadsheet(out, table)

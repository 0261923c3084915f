"""The planted benchmark: which signals find what a model was made to memorize, at what cost, with what honesty.

Every model is a miniature trained on the planted pictures (:mod:`pointland.demo.plant`): copies at several numbers,
templates, near copies, simple pictures, pictures seen once, and pictures never seen, the controls. Everything is an
audit like any other, so it can be interrupted, continued, and looked at.

====================  ============================================================================================
question              how it is answered
====================  ============================================================================================
signals               AUROC and true positive rate at 1 % false positives of every column, for every group
calibration           200 random splits of the unseen pictures into reference and audited: share of false flags
detection, recall     at how many copies detection begins, and at how many the sampler gives the picture back
captions              a memorized picture under its caption against another picture under that caption
kind                  duplicates in the training folder against over-training on pictures that occur once
====================  ============================================================================================
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from PIL import Image

from pointland import auditing
from pointland.auditing.derived import derive, floats
from pointland.auditing.directory import write_csv
from pointland.auditing.extras import extra_metrics
from pointland.auditing.plan import Choice, default_metrics, paper_metrics
from pointland.demo.unpack import MINIATURE, Demo, bundled, unpack
from pointland.denoiser import guided
from pointland.draws import normal
from pointland.experiments.axes import BLUE, GREEN, ORANGE, RED, Panel, legend, page
from pointland.metrics import Metric, ladder
from pointland.model import Model
from pointland.models.loading import load
from pointland.report import kinds_of, write_report
from pointland.report.items import saved_labels
from pointland.verdict import Interval, auroc, clopper_pearson, decide, separations, tpr_at_fpr

Floats = NDArray[np.float64]

VERBATIM = ("x20", "x50")
LADDER = (2, 5, 10, 20, 50)
GROUPS = ("x2", "x5", "x10", "x20", "x50", "verbatim", "template", "near", "once")
RATES = (0.05, 0.1, 0.2)
SPLITS = 200
BATCH = 50
GUIDANCE = 3.0
CONTROLS = 100
BACK = 0.3  # of the standard deviation of the data: nearer than that a sample is the picture


class Signal(NamedTuple):
    """One column on one group of one model, against the pictures never seen.

    Attributes:
        model: Name of the model.
        settings: ``ours``, ``published`` or ``paper``.
        column: The column.
        captions: Whether it needs captions.
        forwards: Network evaluations a picture, a Jacobian product counted as one more; 0 for floors.
        group: The group.
        n: Its pictures.
        auroc: With its 95 % interval.
        tpr: True positive rate at 1 % false positives, with its 95 % interval.
    """

    model: str
    settings: str
    column: str
    captions: bool
    forwards: float
    group: str
    n: int
    auroc: Interval
    tpr: Interval


class Rate(NamedTuple):
    """False discoveries at one rate asked for, over random splits of the unseen pictures.

    Attributes:
        model: Name of the model.
        column: The deciding column.
        asked: Rate asked for.
        splits: Random splits.
        found: Mean share of false flags.
        low: Lower end of its 95 % binomial interval over the splits.
        high: Upper end.
        power: Mean share of the verbatim copies that are flagged.
    """

    model: str
    column: str
    asked: float
    splits: int
    found: float
    low: float
    high: float
    power: float


class Dose(NamedTuple):
    """One rung of the ladder of copies.

    Attributes:
        model: Name of the model.
        copies: Copies in an epoch; 0 for pictures never seen, the control.
        n: Pictures.
        lid: Median LID in dimensions.
        detected: Share above the threshold of 1 % false positives, without captions.
        given_back: Share that the sampler gives back from its caption in at least one of the seeds.
    """

    model: str
    copies: int
    n: int
    lid: float
    detected: float
    given_back: float


class Swap(NamedTuple):
    """Right picture against wrong picture, both under the captions of the verbatim copies.

    Attributes:
        model: Name of the model.
        column: The column.
        n: Pictures on each side.
        auroc: Area under the ROC curve.
    """

    model: str
    column: str
    n: int
    auroc: float


class KindCount(NamedTuple):
    """What kind the flagged pictures of a group were called.

    Attributes:
        model: Name of the model.
        group: The group.
        n: Pictures.
        flagged: Of them flagged.
        data_driven: Of those called data-driven.
        overfitting_driven: Of those called overfitting-driven.
        cannot_tell: Of those without a kind.
    """

    model: str
    group: str
    n: int
    flagged: int
    data_driven: int
    overfitting_driven: int
    cannot_tell: int


@dataclass(frozen=True)
class Result:
    """The benchmark in numbers; every table has one row a model and case."""

    signals: tuple[Signal, ...]
    rates: tuple[Rate, ...]
    doses: tuple[Dose, ...]
    swaps: tuple[Swap, ...]
    kinds: tuple[KindCount, ...]

    @property
    def claims(self) -> dict[str, bool]:
        """What the benchmark asks for, and whether it held for every model."""
        ours = self.select("denoising_loss_unconditional", "verbatim")
        local = self.select("local_lid", "template")
        floors = self.select("png_bytes", "verbatim") + self.select("png_bytes", "template")
        captioned = {one.model: one.auroc.value for one in self.select("denoising_loss_conditional", "verbatim")}
        swapped = [one for one in self.swaps if one.column == "denoising_loss_conditional"]
        found = {
            "verbatim copies without captions: AUROC at least 0.99 for every model": _all(
                one.auroc.value >= 0.99 for one in ours
            ),
            "and true positive rate at 1 % false positives at least 0.95": _all(one.tpr.value >= 0.95 for one in ours),
            "templates by the lowest local LID: AUROC at least 0.95": _all(one.auroc.value >= 0.95 for one in local),
            "PNG size alone is within 0.05 of chance": _all(abs(one.auroc.value - 0.5) <= 0.05 for one in floors),
            "with captions at least as good": _all(
                captioned.get(one.model, 0.0) >= one.auroc.value - 0.005 for one in ours
            ),
            "the right picture is told from the wrong one under a memorized caption, AUROC at least 0.95": _all(
                one.auroc >= 0.95 for one in swapped
            ),
            "false flags are at or below the rate asked for, within the binomial interval": _all(
                one.low <= one.asked for one in self.rates
            ),
            "a LID column is on the front of AUROC against cost": any(
                name.startswith(("denoising_loss", "flipd", "local_lid", "combined")) for name in self.front()
            ),
        }
        duplicates = [one for one in self.kinds if one.group in VERBATIM]
        unique = [one for one in self.kinds if one.group == "unique"]
        if duplicates:
            share = sum(one.data_driven for one in duplicates) / max(1, sum(one.flagged for one in duplicates))
            found["planted duplicates that are flagged are called data-driven, at least 95 %"] = share >= 0.95
        if unique:
            share = sum(one.overfitting_driven for one in unique) / max(1, sum(one.n for one in unique))
            found["pictures memorized by over-training are called overfitting-driven, at least 90 %"] = share >= 0.9
        return found

    def select(self, column: str, group: str) -> list[Signal]:
        """Return the rows of one column and group at our settings."""
        return [one for one in self.signals if one.column == column and one.group == group and one.settings == "ours"]

    def averages(self) -> dict[str, tuple[float, float, bool]]:
        """Return for every column its cost, its mean AUROC over memorized groups and models, and if it has captions.

        Names carry the settings where they are not ours.
        """
        found: dict[str, list[Signal]] = {}
        for one in self.signals:
            if one.group in ("x10", "x20", "x50", "template"):
                name = one.column if one.settings == "ours" else f"{one.column} ({one.settings})"
                found.setdefault(name, []).append(one)
        return {
            name: (rows[0].forwards, float(np.mean([one.auroc.value for one in rows])), rows[0].captions)
            for name, rows in found.items()
        }

    def front(self) -> list[str]:
        """Return the columns without captions that no other beats in both AUROC and cost."""
        free = {
            name: (cost, area) for name, (cost, area, captions) in self.averages().items() if not captions and cost > 0
        }
        return [
            name
            for name, (cost, area) in free.items()
            if not any(
                c <= cost and a >= area and (c, a) != (cost, area) for other, (c, a) in free.items() if other != name
            )
        ]


def run(
    models: Sequence[Path] = (MINIATURE,),
    *,
    work: Path,
    overfitted: Path | None = None,
    device: str | None = None,
    n_seeds: int = 4,
    progress: Callable[[str], None] | None = None,
) -> Result:
    """Run the benchmark, or continue it.

    Args:
        models: Pipelines trained on the planted pictures: the bundled one, or those of ``python -m
            pointland.demo.train``. The first is the one that kinds are counted on.
        work: Where pictures and audits go; what is there is continued.
        overfitted: Output folder of ``python -m pointland.demo.train --unique``: a model trained long on few pictures.
        device: As for :func:`pointland.load`.
        n_seeds: Samples a caption, for what the sampler gives back.
        progress: Called with what comes next, in words.

    Raises:
        ValueError: If the overfitted model's folder lacks its list of pictures.

    Cost:
        About 12 CPU minutes a model.
    """
    demo = unpack(work / "pictures", extended=True)
    groups = saved_labels(demo.labels)
    signals: list[Signal] = []
    rates: list[Rate] = []
    doses: list[Dose] = []
    swaps: list[Swap] = []
    kinds: list[KindCount] = []
    names = names_of(models)
    say = progress or (lambda words: None)
    for path, name in zip(models, names, strict=True):
        say(f"{name}: every signal on every planted picture")
        model = load(path, device=device)
        place = work / name
        ours = audited(model, demo.images, demo, place / "ours")
        sigma = float(ours.record["sigma"]["value"])
        published = audited(model, demo.images, demo, place / "published", metrics=published_metrics(model, sigma))
        paper = audited(model, demo.images, demo, place / "paper", sigma="paper")
        for settings, one in (("ours", ours), ("published", published), ("paper", paper)):
            write_report(one.folder)
            signals += separated(one, groups, name, settings, costs(model, one, sigma))
        say(f"{name}: calibration, what the sampler gives back, swapped captions")
        unseen = audited(model, demo.disjoint, demo, place / "unseen")
        rates += calibration(ours, unseen, groups, name)
        doses += ladder_of(model, ours, groups, demo, name, n_seeds)
        swaps += swapped(model, ours, groups, demo, place, name)
    say("kinds: the pictures with all their copies")
    copies = unpack(work / "copies", copies=True)
    whole = audited(load(models[0], device=device), copies.images, copies, work / names[0] / "copies")
    kinds += count_kinds(whole, saved_labels(copies.labels), names[0])
    if overfitted is not None:
        say("kinds: a model over-trained on pictures that occur once")
        folder = unpack_only(overfitted, work / "unique")
        memorizer = load(overfitted / "pipeline", device=device)
        few = audited(memorizer, folder, demo, work / "overfitted")
        kinds += count_kinds(few, {}, "overfitted")
        strangers = audited(memorizer, demo.disjoint, demo, work / "overfitted-unseen")
        kinds += count_kinds(strangers, dict.fromkeys(strangers.rows["key"].to_pylist(), "unseen"), "overfitted")
    return Result(tuple(signals), tuple(rates), tuple(doses), tuple(swaps), tuple(kinds))


def names_of(models: Sequence[Path]) -> list[str]:
    """Return short, distinct names for models: their folder, or its parent's where that is ``pipeline``."""
    names = [path.parent.name if path.name == "pipeline" else path.name for path in models]
    return [name if names.count(name) == 1 else f"{name}-{i}" for i, name in enumerate(names)]


def audited(
    model: Model,
    images: Path,
    demo: Demo,
    out: Path,
    *,
    metrics: Sequence[Metric] | None = None,
    sigma: Choice = "auto",
) -> auditing.Run:
    """Audit pictures against the held-out ones, or continue."""
    deciding = None if metrics is None else metrics[0].columns[0].name
    return auditing.audit(
        model,
        images,
        out=out,
        reference=demo.reference,
        labels=demo.labels if images == demo.images else None,
        metrics=metrics,
        sigma=sigma,
        decide_by=deciding,
        batch_size=BATCH,
        command="pointland benchmark detection",
    )


def published_metrics(model: Model, sigma: float) -> list[Metric]:
    """Return the signals of others at their published settings, and recall."""
    return extra_metrics(model, sigma, ("p-laplace", "recall", "guidance", "cosine", "sharpness", "confidence"), ["-"])


def costs(model: Model, one: auditing.Run, sigma: float) -> dict[str, float]:
    """Return the network evaluations a picture that each measured column takes by itself, of one condition or both."""
    found: dict[str, float] = {}
    for metric in [*default_metrics(model, sigma), *paper_metrics(model), *published_metrics(model, sigma)]:
        for column in metric.columns:
            both = column.needs == "caption" and "conditional" not in column.name
            forwards = metric.forwards(2 if both else 1) if hasattr(metric, "forwards") else 0.0
            found.setdefault(column.name, forwards)
    if one.record["sigma"]["chosen"] == "paper":
        found |= {f"flipd_{condition}": 2.0 for condition in ("unconditional", "conditional")}
        found |= {f"score_norm_{condition}": 1.0 for condition in ("unconditional", "conditional")}
    loss = found["denoising_loss_unconditional"]
    return found | {
        "caption_gap": 2 * loss,
        "lid_excess": loss,
        "local_lid": loss,
        "combined": loss + found["flipd_unconditional"],
    }


class Columns(NamedTuple):
    """A run with its derived columns, and where each group stands in it."""

    run: auditing.Run
    groups: NDArray[np.object_]

    def values(self, name: str) -> Floats:
        """Return a column."""
        return floats(self.run.rows, name)


def columns_of(one: auditing.Run, groups: Mapping[str, str]) -> Columns:
    """Derive columns, and name the group of every row; the reference is ``held_out``."""
    run = derive(one)
    keys, roles = run.rows["key"].to_pylist(), run.rows["role"].to_pylist()
    named = ["held_out" if role == "reference" else groups.get(key, "") for key, role in zip(keys, roles, strict=True)]
    return Columns(run, np.array(named, dtype=object))


def separated(
    one: auditing.Run, groups: Mapping[str, str], name: str, settings: str, forwards: Mapping[str, float]
) -> list[Signal]:
    """Separate every group from the pictures never seen, by every column."""
    found = columns_of(one, groups)
    declared = [c for c in found.run.record["columns"] if c.get("parts", 1) == 1]
    directed = {c["name"]: (found.values(c["name"]), c) for c in declared if c["memorized_when"] != "neither"}
    rows = []
    for group in GROUPS:
        members = np.isin(found.groups, VERBATIM) if group == "verbatim" else found.groups == group
        if not members.any():
            continue
        here = members | (found.groups == "held_out")
        labels = [group if inside else "held_out" for inside in members[here]]
        for separation in separations(
            {key: (values[here], c["memorized_when"]) for key, (values, c) in directed.items()}, labels
        ):
            column = directed[separation.column][1]
            assert separation.tpr is not None  # there are 400 controls
            rows.append(
                Signal(
                    name,
                    settings,
                    separation.column,
                    column["needs"] == "caption",
                    forwards.get(separation.column, 0.0),
                    group,
                    separation.n,
                    separation.auroc,
                    separation.tpr,
                )
            )
    return rows


def calibration(ours: auditing.Run, unseen: auditing.Run, groups: Mapping[str, str], name: str) -> list[Rate]:
    """Split the unseen pictures, half reference, half audited beside the verbatim copies; count false flags."""
    column = "denoising_loss_unconditional"
    mine, theirs = columns_of(ours, groups), columns_of(unseen, {})
    copies = mine.values(column)[np.isin(mine.groups, VERBATIM)]
    strangers = np.concatenate(
        [mine.values(column)[mine.groups == "held_out"], theirs.values(column)[theirs.groups != "held_out"]]
    )
    rng = np.random.default_rng(0)
    rows = []
    for asked in RATES:
        shares, power, false, flags = [], [], 0, 0
        for _ in range(SPLITS):
            order = rng.permutation(strangers)
            half = len(order) // 2
            flagged = decide(
                np.concatenate([copies, order[half:]]), order[:half], memorized_when="low", fdr=asked
            ).flagged
            n_false = int(flagged[len(copies) :].sum())
            shares.append(n_false / max(1, int(flagged.sum())))
            power.append(float(flagged[: len(copies)].mean()))
            false, flags = false + n_false, flags + int(flagged.sum())
        share = float(np.mean(shares))
        ends = clopper_pearson(round(share * SPLITS), SPLITS)
        rows.append(Rate(name, column, asked, SPLITS, share, ends.low, ends.high, float(np.mean(power))))
    return rows


def ladder_of(
    model: Model, ours: auditing.Run, groups: Mapping[str, str], demo: Demo, name: str, n_seeds: int
) -> list[Dose]:
    """Say, for every number of copies, what is detected and what the sampler gives back."""
    found = columns_of(ours, groups)
    lid = found.values("denoising_loss_unconditional")
    strangers = lid[found.groups == "held_out"]
    rows = []
    for copies in (0, *LADDER):
        inside = np.flatnonzero(found.groups == (f"x{copies}" if copies else "held_out"))[:CONTROLS]
        chosen = found.run.rows.take(pa.array(inside))
        back = given_back(model, chosen, demo.images if copies else demo.reference, n_seeds)
        rows.append(
            Dose(
                name,
                copies,
                len(inside),
                float(np.median(lid[inside])),
                tpr_at_fpr(-lid[inside], -strangers),
                float(back.mean()),
            )
        )
    return rows


def given_back(model: Model, rows: pa.Table, images: Path, n_seeds: int, scale: float = GUIDANCE) -> NDArray[np.bool_]:
    """Sample every picture's caption and say whether a sample is the picture; 25 Euler steps."""
    pixels = [np.asarray(Image.open(images / key).convert("RGB")).transpose(2, 0, 1) for key in rows["key"].to_pylist()]
    x0 = model.codec.encode(torch.from_numpy(np.stack(pixels)))
    captions = rows["caption"].to_pylist()
    denoise = guided(model.given(captions), model.unconditional, scale)
    sigmas = ladder(model.levels, float(model.levels.sigmas[0]), float(model.levels.sigmas[-1]), 26)[::-1]
    back = torch.zeros(len(x0), dtype=torch.bool)
    for seed in range(n_seeds):
        x = sigmas[0] * normal(x0, captions, 1, seed)[0]
        with torch.no_grad():
            for now, then in zip(sigmas, [*sigmas[1:], 0.0], strict=True):
                x = x + (then - now) * (x - denoise(x, torch.tensor([now]))) / now
        back |= (x - x0).square().flatten(1).mean(1).sqrt() <= BACK
    return back.numpy()


def swapped(
    model: Model, ours: auditing.Run, groups: Mapping[str, str], demo: Demo, place: Path, name: str
) -> list[Swap]:
    """Audit pictures never seen under the captions of the verbatim copies; the right pictures must stand out."""
    found = columns_of(ours, groups)
    verbatim = np.isin(found.groups, VERBATIM)
    captions = [text for text, inside in zip(found.run.rows["caption"].to_pylist(), verbatim, strict=True) if inside]
    folder = place / "swapped-pictures"
    folder.mkdir(parents=True, exist_ok=True)
    strangers = sorted(demo.disjoint.glob("*.png"))[: len(captions)]
    for stranger in strangers:
        (folder / stranger.name).write_bytes(stranger.read_bytes())
    table = [(stranger.name, caption) for stranger, caption in zip(strangers, captions, strict=True)]
    write_csv(folder / "captions.csv", ("file_name", "caption"), table)
    wrong = columns_of(audited(model, folder, demo, place / "swapped"), {})
    rows = []
    for column, sign in (("denoising_loss_conditional", -1.0), ("caption_gap", -1.0), ("guidance_norm", 1.0)):
        right = sign * found.values(column)[verbatim]
        others = sign * wrong.values(column)[wrong.groups != "held_out"]
        rows.append(Swap(name, column, len(right), auroc(right, others)))
    return rows


def count_kinds(one: auditing.Run, groups: Mapping[str, str], name: str) -> list[KindCount]:
    """Count what kind the flagged pictures of every group were called."""
    told = kinds_of(one)
    keys = [
        key
        for key, role in zip(one.rows["key"].to_pylist(), one.rows["role"].to_pylist(), strict=True)
        if role == "audited"
    ]
    rows = []
    named = {key: groups.get(key, "unique") for key in keys}
    for group in dict.fromkeys(named.values()):
        members = [key for key in keys if named[key] == group]
        found = [told[key] for key in members if key in told]
        rows.append(
            KindCount(
                name,
                group,
                len(members),
                len(found),
                found.count("data-driven"),
                found.count("overfitting-driven"),
                found.count("cannot tell"),
            )
        )
    return rows


def unpack_only(trained: Path, folder: Path) -> Path:
    """Write the few pictures that an over-trained model saw, with their captions.

    Raises:
        ValueError: If its folder has no ``trained.json``, which says which.
    """
    record = trained / "trained.json"
    if not record.is_file():
        raise ValueError(f"{trained} has no trained.json; give the --out folder of pointland.demo.train --unique")
    sources = {str(source) for source in json.loads(record.read_text())}
    if (folder / "captions.csv").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    captions = []
    for number, (picture, row) in enumerate(bundled()):
        if row["group"] == "once" and row["source"] in sources:
            Image.fromarray(picture).convert("RGB").save(folder / f"{number:05d}.png")
            captions.append((f"{number:05d}.png", row["caption"]))
    write_csv(folder / "captions.csv", ("file_name", "caption"), captions)
    return folder


def _all(held: Iterable[bool]) -> bool:
    """Whether every one holds; false where there is none."""
    found = list(held)
    return bool(found) and all(found)


def draw(result: Result) -> str:
    """Draw mean AUROC against cost: one dot a column, ours and those of others, with and without captions."""
    points = {name: found for name, found in result.averages().items() if found[0] > 0}
    highest = max((cost for cost, _, _ in points.values()), default=10.0)
    panel = Panel(70, 56, 460, 300, (0.8, 1.5 * highest), (0.4, 1.0), log_x=True)
    ticks = [t for t in (1, 2, 4, 8, 16, 32, 64, 128) if t <= 1.5 * highest]
    parts = [
        panel.frame(
            "Mean AUROC over copies (10, 20, 50) and templates",
            "network evaluations a picture",
            "AUROC against pictures never seen",
            ticks,
            [0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0],
        )
    ]
    own = ("denoising_loss", "flipd", "local_lid", "combined", "lid_excess", "caption_gap", "basin", "recall")
    colors = {(True, False): BLUE, (True, True): GREEN, (False, False): ORANGE, (False, True): RED}
    for name, (cost, area, captions) in points.items():
        parts.append(panel.dots([(cost, max(0.4, area))], colors[name.startswith(own), captions], 4))
    labels = [
        (BLUE, "geometry, no caption"),
        (GREEN, "geometry, with caption"),
        (ORANGE, "others, no caption"),
        (RED, "others, with caption"),
    ]
    parts.append(legend(552, 80, labels))
    return page(760, 410, "How well each signal finds planted copies, against its cost in network evaluations", *parts)

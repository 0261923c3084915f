"""Which signal of a prompt tells captions of copied pictures from others, and whether attribution finds the trigger.

    OMP_NUM_THREADS=1 python benchmarks/prompts.py [PIPELINE] [--archive IMAGES.npz] [-o FILE]

Positives are the captions of the planted pictures with 20 and 50 copies, negatives those of pictures seen once and
never seen; one start a prompt. Every caption ends in a made-up name of its picture's own: what triggers a memorized
one. Attribution should name it first.

Expected: a guidance norm after a jump above 0.97, far above that at the start; caption text alone below 0.6.
"""

import argparse
import csv
import io
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pointland.auditing.plan import environment
from pointland.demo import MINIATURE
from pointland.demo.unpack import ARCHIVE
from pointland.metrics import GuidanceNormJump
from pointland.metrics.caption_floor import caption_floor
from pointland.model import PromptedModel
from pointland.models.diffusers.stable_diffusion_3 import StableDiffusion3
from pointland.models.loading import load
from pointland.prompts import Prompt, at_start, attribute, guidance_norm, landed, screen, signals
from pointland.verdict import auroc, tpr_at_fpr

POSITIVE, NEGATIVE = ("x20", "x50"), ("once", "held_out")
SIGNALS = (
    "jump", "guidance", "confidence", "edges", "sharpness", "cosine", "freedom", "attention", "trajectory"
)  # fmt: skip
LEVELS = (2.0, 1.0, 0.6, 0.4, 0.3, 0.2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pipeline", nargs="?", type=Path, default=MINIATURE)
    parser.add_argument("--archive", type=Path, default=ARCHIVE, help="pictures and planted truth of the pipeline")
    parser.add_argument("--negatives", type=int, default=200, help="captions a group of negatives")
    parser.add_argument("--attributed", type=int, default=40, help="captions that are attributed, a side")
    parser.add_argument("-o", "--out", type=Path, default=Path("benchmarks/prompts.json"))
    settings = parser.parse_args()
    model = load(settings.pipeline, device="cpu")
    assert isinstance(model, PromptedModel)
    if isinstance(model, StableDiffusion3) and model.t5 is None:  # the flow miniature knows both, and this is cheaper
        model = replace(model, t5_length=0)
    groups = captions(settings.archive)
    asked = [(text, group) for group in POSITIVE for text in groups[group]]
    asked += [(text, group) for group in NEGATIVE for text in groups[group][: settings.negatives]]
    result: dict[str, object] = {
        "command": "OMP_NUM_THREADS=1 python benchmarks/prompts.py PIPELINE",
        "model": model.identity["name"],
        "environment": environment(),
        "prompts": {group: sum(of == group for _, of in asked) for group in (*POSITIVE, *NEGATIVE)},
    }
    result["attribution"] = attribution(model, groups, settings.attributed)
    result["signals"] = separations(model, asked)
    settings.out.write_text(json.dumps(result, indent=1) + "\n")


def captions(archive: Path) -> dict[str, list[str]]:
    """Return the captions of every planted group."""
    with np.load(archive) as stored:
        rows = list(csv.DictReader(io.StringIO(str(stored["truth"]))))
    return {
        group: [row["caption"] for row in rows if row["group"] == group] for group in {row["group"] for row in rows}
    }


def separations(model: PromptedModel, asked: list[tuple[str, str]]) -> dict[str, dict[str, float]]:
    """Return AUROC and TPR at 1 % FPR of every column, of the jump at several levels, and of the caption's text."""
    start = float(model.levels.sigmas[-1])
    crossed = any("attn2" in name for name, _ in model.network.named_modules())
    metrics = signals(model, [name for name in SIGNALS if crossed or name != "attention"])
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        rows = screen(
            model, [Prompt(text) for text, _ in asked], out=Path(folder) / "run", metrics=metrics, batch_size=64
        ).rows
        for column in (column for metric in metrics for column in metric.columns):
            values = np.array(rows[column.name].to_pylist(), dtype=np.float64)
            found[column.name] = separation(values if column.memorized_when == "high" else -values, asked)
            print(f"{column.name:26} {found[column.name]}", flush=True)
        for level in LEVELS:
            jump = GuidanceNormJump(start, model.levels.nearest(level).sigma)
            place = Path(folder) / f"{level}"
            rows = screen(model, [Prompt(text) for text, _ in asked], out=place, metrics=[jump], batch_size=64).rows
            values = np.array(rows["guidance_norm_jump"].to_pylist(), dtype=np.float64)
            found[f"jump to {level:g}"] = separation(values, asked)
            print(f"jump to {level:<18g} {found[f'jump to {level:g}']}", flush=True)
        twice = [GuidanceNormJump(start, model.levels.nearest(0.3).sigma, n_draws=4)]
        rows = screen(
            model, [Prompt(text) for text, _ in asked], out=Path(folder) / "4", metrics=twice, batch_size=64
        ).rows
        found["jump, 4 starts"] = separation(np.array(rows["guidance_norm_jump"].to_pylist(), dtype=np.float64), asked)
        print(f"jump, 4 starts             {found['jump, 4 starts']}", flush=True)
    positive = [text for text, group in asked if group in POSITIVE]
    negative = [text for text, group in asked if group in NEGATIVE]
    found["caption text alone"] = separation(caption_floor(positive, negative, seed=0), asked)
    print(f"caption text alone         {found['caption text alone']}", flush=True)
    return found


def separation(values: NDArray[np.float64], asked: list[tuple[str, str]]) -> dict[str, float]:
    """Return how well values, high when memorized, separate all, each group of positives, and each of negatives."""
    group = np.array([group for _, group in asked])
    positive, negative = values[np.isin(group, POSITIVE)], values[np.isin(group, NEGATIVE)]
    return {
        "AUROC": round(auroc(positive, negative), 3),
        "TPR at 1 % FPR": round(tpr_at_fpr(positive, negative), 3),
        **{name: round(auroc(values[group == name], negative), 3) for name in POSITIVE},
        **{f"against {name}": round(auroc(positive, values[group == name]), 3) for name in NEGATIVE},
    }


def attribution(model: PromptedModel, groups: dict[str, list[str]], n: int) -> dict[str, dict[str, float]]:
    """Return how often the last word, the planted trigger, comes first, for copied pictures and those seen once."""
    copied = [text for group in POSITIVE for text in groups[group]][:n]
    found = {}
    for name, prompts, starts in (
        ("copied, after a jump", copied, landed),
        ("copied, at the start", copied, at_start),
        ("once, after a jump", groups["once"][:n], landed),
    ):
        made = [attribute(model, prompt, guidance_norm, starts=starts, n_draws=2) for prompt in prompts]
        kinds = {"gradient": lambda word: word.gradient, "leaving out": lambda word: word.drop}
        found[name] = {
            kind: round(float(np.mean([max(one.words, key=size) == one.words[-1] for one in made])), 3)
            for kind, size in kinds.items()
        } | {
            "agree": round(float(np.mean([one.agree for one in made])), 3),
            "spearman": round(float(np.nanmean([one.spearman for one in made])), 3),
            "objective": round(float(np.mean([one.value for one in made])), 4),
            "objective without the name": round(float(np.mean([one.value - one.words[-1].drop for one in made])), 4),
        }
        print(f"{name:26} {found[name]}", flush=True)
    return found


if __name__ == "__main__":
    main()

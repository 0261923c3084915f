"""The benchmark: every mitigation on memorized and normal prompts, and under attack."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import UInt8

from pointland.benchmarks.mitigation.attack import DORI, Attack
from pointland.benchmarks.mitigation.measures import Alignment, Yardstick, class_probability, diversity, yardstick
from pointland.benchmarks.mitigation.truth import Prompts, Truth, read_truth
from pointland.mitigate.mitigation import Mitigation
from pointland.mitigate.named import NAMES, at_jump, mitigation
from pointland.mitigate.opening import embedded
from pointland.mitigate.signal import calibrated
from pointland.model import Condition, PromptedModel
from pointland.models.diffusers.stable_diffusion_3 import StableDiffusion3
from pointland.models.loading import load_pipeline

NEAR, ALIGNED, RETRIGGERED = 0.05, 0.01, 0.02


class Row(NamedTuple):
    """One mitigation.

    Attributes:
        method: Its name.
        similarity: Mean similarity of memorized prompts' pictures to their nearest training picture.
        copies: Share of them that are copies of the prompt's own picture.
        alignment: Mean of the alignment of memorized prompts.
        diversity: Mean distance of two pictures of one memorized prompt.
        acted: Share of memorized prompts' pictures on which it acted.
        normal_unchanged: Share of normal prompts' pictures that are plain sampling's, to the byte.
        normal_similarity: As ``similarity``, of normal prompts.
        normal_alignment: As ``alignment``, of normal prompts.
        cost: Evaluations a memorized picture, as a multiple of plain sampling.
        normal_cost: The same of a normal picture.
        retriggered: Share of attacked embeddings whose picture came back; ``None`` if not attacked.
    """

    method: str
    similarity: float
    copies: float
    alignment: float
    diversity: float | None
    acted: float
    normal_unchanged: float
    normal_similarity: float
    normal_alignment: float
    cost: float
    normal_cost: float
    retriggered: float | None


@dataclass(frozen=True)
class Comparison:
    """The benchmark's result.

    Attributes:
        methods: One row a mitigation, plain sampling first.
        settings: How they were measured.
    """

    methods: list[Row]
    settings: dict[str, str | int | float]

    @property
    def claims(self) -> Mapping[str, bool]:
        """What was aimed at, for the best method: the least similar of those that keep the alignment."""
        plain, best = self.methods[0], self.best
        limit = (1 + NEAR) * plain.normal_similarity
        again = best.retriggered
        return {
            f"{best.method}: alignment {best.alignment:.3f}, plain {plain.alignment:.3f}, at most 1 % lower": (
                best.alignment >= (1 - ALIGNED) * plain.alignment
            ),
            f"{best.method}: similarity {best.similarity:.3f}, at most 5 % above unmemorized prompts' "
            f"{plain.normal_similarity:.3f}": best.similarity <= limit,
            f"{best.method}: {best.normal_unchanged:.0%} of normal pictures unchanged, at least 95 %": (
                best.normal_unchanged >= 0.95
            ),
            f"{best.method}: retriggered {'not attacked' if again is None else f'{again:.1%}'}, at most 2 %": (
                again is not None and again <= RETRIGGERED
            ),
        }

    @property
    def best(self) -> Row:
        """The least similar method whose alignment is that of plain sampling; the best aligned if there is none."""
        plain = self.methods[0]
        others = self.methods[1:] or [plain]
        kept = [row for row in others if row.alignment >= (1 - ALIGNED) * plain.alignment]
        return min(kept, key=lambda row: row.similarity) if kept else max(others, key=lambda row: row.alignment)


class Drawn(NamedTuple):
    """Pictures, grey, with what they cost and whether they were acted on."""

    images: UInt8[np.ndarray, "b h w"]
    evaluations: list[float]
    acted: list[bool]


@dataclass(frozen=True, eq=False)
class Scene:
    """A pipeline and the truth it is measured on.

    Attributes:
        pipe: The pipeline.
        model: Its model.
        truth: What was planted.
        measure: What distances mean.
        alignment: Of pictures with prompts.
        steps: Sampling steps.
        guidance: Guidance scale.
        seeds: Pictures a prompt.
        batch_size: Pictures a batch.
    """

    pipe: Any
    model: PromptedModel
    truth: Truth
    measure: Yardstick
    alignment: Alignment
    steps: int
    guidance: float
    seeds: int
    batch_size: int

    @property
    def arguments(self) -> dict[str, Any]:
        """What the pipeline is called with."""
        short = {"max_sequence_length": 0} if getattr(self.model, "t5_length", None) == 0 else {}
        return {"num_inference_steps": self.steps, "guidance_scale": self.guidance, **short}

    def draw(
        self, method: Mitigation, prompts: Sequence[str], seeds: Sequence[int], attacked: Condition | None = None
    ) -> Drawn:
        """Sample every prompt under every seed, from embeddings where given."""
        jobs = [(i, seed) for i in range(len(prompts)) for seed in seeds]
        images, spent, acted = [], [], []
        for first in range(0, len(jobs), self.batch_size):
            part = jobs[first : first + self.batch_size]
            more: dict[str, Any] = {} if attacked is None else embedded(attacked.select([i for i, _ in part]), "")
            generators = [torch.Generator().manual_seed(1000 * seed + i) for i, seed in part]
            made = method(
                self.pipe, [prompts[i] for i, _ in part], generators, model=self.model, **self.arguments, **more
            )
            images += [np.asarray(image.convert("L")) for image in made.images]
            spent += made.evaluations
            acted += [decision.acted for decision in made.decisions]
        return Drawn(np.stack(images), spent, acted)


def run(
    source: str | Path,
    archive: Path,
    *,
    names: Sequence[str] = NAMES,
    steps: int = 25,
    guidance: float = 7.5,
    seeds: int = 2,
    n_memorized: int = 40,
    n_normal: int = 60,
    rate: float = 0.05,
    batch_size: int = 40,
    attack: Attack | None = DORI,
    device: str | None = None,
    progress: Callable[[str], None] = lambda words: None,
) -> Comparison:
    """Measure every mitigation.

    Args:
        source: A pipeline trained on the planted pictures.
        archive: Those pictures with their truth.
        names: Mitigations, of :data:`pointland.mitigate.named.NAMES`; plain sampling is always first.
        steps: Sampling steps.
        guidance: Guidance scale.
        seeds: Pictures a prompt.
        n_memorized: Memorized prompts, half of each dose.
        n_normal: Normal prompts.
        rate: Share of normal prompts that may be touched.
        batch_size: Pictures a batch.
        attack: The search for embeddings; ``None`` leaves it out.
        device: Where; chosen by what is there if ``None``.
        progress: Told what is going on.
    """
    pipe, model = load_pipeline(source, device=device)
    if isinstance(model, StableDiffusion3) and model.t5 is None:  # the flow miniature knows both, and this is cheaper
        model = replace(model, t5_length=0)
    truth = read_truth(archive, n_memorized=n_memorized, n_normal=n_normal)
    fitted = class_probability(truth.fitting)
    scene = Scene(pipe, model, truth, yardstick(truth), fitted, steps, guidance, seeds, batch_size)
    usual = truth.usual.captions
    generators = [torch.Generator().manual_seed(i) for i in range(len(usual))]
    trigger = calibrated(at_jump(), pipe, usual, generators, rate=rate, model=model, **scene.arguments)
    found = None if attack is None else _attacked(scene, attack, progress)
    rows: list[Row] = []
    plain: Drawn | None = None
    for name in ["none", *(name for name in names if name != "none")]:
        method = mitigation(
            name, pipe, model, usual, rate=rate, trigger=_unless_stepwise(name, trigger), **scene.arguments
        )
        row, drawn = _row(name, scene, method, plain, found)
        plain = plain or drawn
        rows.append(row)
        progress(", ".join(f"{key} {_words(value)}" for key, value in row._asdict().items()))
    settings: dict[str, str | int | float] = {
        "model": model.identity["name"],
        "steps": steps,
        "guidance": guidance,
        "seeds": seeds,
        "memorized prompts": len(truth.memorized),
        "normal prompts": len(truth.normal),
        "calibration prompts": len(usual),
        "rate": rate,
        "copy distance": round(scene.measure.copy, 4),
        "threshold": round(float(trigger.threshold or 0), 5),
        "attack": "none" if attack is None else repr(attack),
    }
    return Comparison(rows, settings)


def _unless_stepwise(name: str, trigger: Any) -> Any:
    from pointland.mitigate.named import STEPWISE

    return None if name in STEPWISE else trigger


def _attacked(scene: Scene, attack: Attack, progress: Callable[[str], None]) -> Condition:
    progress("searching embeddings that bring memorized pictures back")
    pictures = torch.from_numpy(scene.truth.memorized.pictures)[:, None].expand(-1, 3, -1, -1).contiguous()
    others = [scene.truth.normal.captions[i % len(scene.truth.normal)] for i in range(len(pictures))]
    with torch.no_grad():
        x0, start = scene.model.codec.encode(pictures), scene.model.condition(others)
    return start.with_states(attack(scene.model, x0, start))


def _row(
    name: str, scene: Scene, method: Mitigation, plain: Drawn | None, attacked: Condition | None
) -> tuple[Row, Drawn]:
    truth, seeds = scene.truth, range(scene.seeds)
    memorized = scene.draw(method, truth.memorized.captions, seeds)
    normal = scene.draw(method, truth.normal.captions, seeds)
    own = np.repeat(truth.memorized.pictures, scene.seeds, axis=0)
    unit = 2 * scene.steps
    same = [np.array_equal(a, b) for a, b in zip(normal.images, (plain or normal).images, strict=True)]
    again = None
    if attacked is not None:
        back = scene.draw(method, truth.memorized.captions, range(1), attacked)
        again = float(scene.measure.copies(back.images, truth.memorized.pictures).mean())
    row = Row(
        method=name,
        similarity=float(scene.measure.similarity(memorized.images).mean()),
        copies=float(scene.measure.copies(memorized.images, own).mean()),
        alignment=_aligned(scene, memorized, truth.memorized),
        diversity=diversity(memorized.images, _repeated(truth.memorized, scene.seeds), scene.measure.scale),
        acted=float(np.mean(memorized.acted)),
        normal_unchanged=float(np.mean(same)),
        normal_similarity=float(scene.measure.similarity(normal.images).mean()),
        normal_alignment=_aligned(scene, normal, truth.normal),
        cost=float(np.mean(memorized.evaluations)) / unit,
        normal_cost=float(np.mean(normal.evaluations)) / unit,
        retriggered=again,
    )
    return row, normal


def _aligned(scene: Scene, drawn: Drawn, prompts: Prompts) -> float:
    return float(scene.alignment(drawn.images, _repeated(prompts, scene.seeds)).mean())


def _repeated(prompts: Prompts, n: int) -> list[str]:
    return [caption for caption in prompts.captions for _ in range(n)]


def _words(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)

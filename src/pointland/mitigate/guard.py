"""The guard: a diffusers pipeline that does not show what its model has memorized, used as the pipeline itself.

    guard = pointland.Guard.calibrated(pipe, my_prompts, rate=0.01)
    image = guard("a prompt", generator=generator).images[0]

Before every call the guard asks what the pipeline is about to do (its noise and conditions, no evaluation), measures a
signal there for every image (three evaluations by default, of a hundred that 50 steps take), and decides. Where no
image is suspicious the pipeline is called exactly as it would have been, from the same noise: every image is the same
to the byte. A suspicious one is drawn from other noise, mitigated, refused, or only recorded. The pipeline itself is
not changed: prompts in a batch, negative prompts, callbacks, offloading work as without the guard.
"""

import json
import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from pointland.mitigate.mitigation import Mitigation
from pointland.mitigate.one_image import black, draws_its_own, n_steps, of_one, other_noise, rows_of, started_from
from pointland.mitigate.opening import Opening, drawn_noise, for_each, model_of, opened
from pointland.mitigate.peek import BudgetUsed, limited
from pointland.mitigate.signal import Signal, Trigger, calibrated
from pointland.mitigate.steering import counting
from pointland.mitigate.trigger_words import DroppedWords
from pointland.model import PromptedModel
from pointland.prompts.objectives import Freedom, guidance_norm
from pointland.prompts.signals import JUMP_TO

Action = Literal["mitigate", "reseed", "refuse", "record"]
KEPT = 10_000
Taken = Literal["none", "recorded", "mitigated", "reseeded", "refused"]


@dataclass(frozen=True)
class Judged:
    """What the guard decided for one image.

    Attributes:
        prompt: As it came.
        signal: The signal, high for memorized; ``None`` if it could not be measured, which counts as suspicious.
        suspicious: Whether it is above the threshold.
        taken: What was done.
        words: The same for people.
        after: The signal of what was sampled from in the end.
        evaluations: Network evaluations beyond those of plain sampling.
    """

    prompt: str
    signal: float | None
    suspicious: bool
    taken: Taken
    words: str
    after: float | None
    evaluations: float


class Guard:
    """Wrap a text-to-image pipeline; call it as the pipeline.

    Attributes:
        pipe: The pipeline.
        trigger: Signal and threshold.
        decisions: What was decided, one an image, oldest first; the last 10,000.
    """

    def __init__(
        self,
        pipe: Any,
        threshold: float | Trigger,
        on_memorized: str = "mitigate",
        *,
        mitigation: Mitigation | None = None,
        budget: int = 200,
        model: PromptedModel | None = None,
        record: Path | str | None = None,
    ) -> None:
        """Wrap a pipeline.

        Args:
            pipe: A loaded diffusers text-to-image pipeline.
            threshold: Level of the signal above which an image is suspicious, or a trigger with a signal of its own;
                :meth:`calibrated` finds it.
            on_memorized: What is then done: ``mitigate``; ``reseed`` (other noise, until the signal is normal);
                ``refuse`` (a black image); ``record`` (nothing but the record).
            mitigation: How to mitigate; by default the triggering words are dropped until the signal is normal, and the
                prompt as a whole where that does not suffice.
            budget: Network evaluations that may be spent on a suspicious image beyond those of plain sampling; when it
                is used up, the image is refused.
            model: The model of the pipeline's modules; made from it by default.
            record: File that every decision is added to, one JSON object a line.

        Raises:
            ValueError: If the action is unknown, the pipeline takes no prompts, or there is no threshold.
        """
        if on_memorized not in get_args(Action):
            raise ValueError(f"on_memorized {on_memorized!r} is not one of {', '.join(get_args(Action))}")
        self.pipe, self.on_memorized, self.budget = pipe, on_memorized, budget
        self.model = model_of(pipe) if model is None else model
        self.trigger = threshold if isinstance(threshold, Trigger) else Trigger(threshold, default_signal(self.model))
        if self.trigger.threshold is None or math.isnan(self.trigger.threshold):
            raise ValueError("the guard needs a threshold; Guard.calibrated finds one on prompts of your own")
        self.mitigation = DroppedWords(self.trigger) if mitigation is None else mitigation
        self.record = None if record is None else Path(record)
        self.decisions: deque[Judged] = deque(maxlen=KEPT)

    @classmethod
    def calibrated(
        cls,
        pipe: Any,
        normal_prompts: Sequence[str],
        rate: float = 0.01,
        on_memorized: str = "mitigate",
        *,
        signal: Signal | None = None,
        seed: int = 0,
        batch_size: int = 16,
        model: PromptedModel | None = None,
        arguments: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> "Guard":
        """Wrap a pipeline, with the threshold that a share ``rate`` of normal prompts exceeds.

        Args:
            pipe: As for :class:`Guard`.
            normal_prompts: Prompts of your own, nearly all unmemorized; at least ``1 / rate - 1``.
            rate: Share of normal prompts that may be found suspicious: the threshold is a conformal quantile, so that
                it holds for new prompts of the kind, on average.
            on_memorized: As for :class:`Guard`.
            signal: What is measured; see :func:`default_signal`.
            seed: Of the noise the prompts are measured from.
            batch_size: Prompts measured together.
            model: As for :class:`Guard`.
            arguments: What the pipeline will be called with: ``num_inference_steps``, ``guidance_scale``, ...
            settings: The other settings of :class:`Guard`.

        Cost:
            The signal's, a prompt.
        """
        made = model_of(pipe) if model is None else model
        measure = default_signal(made) if signal is None else signal
        if isinstance(normal_prompts, str):
            raise ValueError("normal_prompts is one string; give a list of prompts")
        generators = [torch.Generator().manual_seed(seed + i) for i in range(len(normal_prompts))]
        given = for_each(arguments or {}, 1)
        trigger = calibrated(
            measure, pipe, normal_prompts, generators, rate=rate, model=made, batch_size=batch_size, **given
        )
        return cls(pipe, trigger, on_memorized, model=made, **settings)

    def __call__(self, prompt: str | Sequence[str] | None = None, **arguments: Any) -> Any:
        """Sample as the pipeline would, and decide for every image.

        Args:
            prompt: One or several.
            arguments: The pipeline's own, by name.

        Returns:
            What the pipeline returns. In a batch with suspicious images these are sampled apart from the others.
        """
        prompts = [prompt] if isinstance(prompt, str) else None if prompt is None else list(prompt)
        if prompts is None:
            raise ValueError("the guard needs the prompt; pass it also where prompt_embeds are given, for the record")
        arguments = for_each(arguments, len(prompts))
        start = self._about_to(prompts, arguments)
        values = self.trigger.measured(start)
        suspicious = self.trigger.above(values)
        judged = [
            Judged(text, _finite(value), False, "none", "", _finite(value), spent)
            for text, value, spent in zip(start.prompts, values, start.spent, strict=True)
        ]
        if not suspicious or self.on_memorized == "record":
            for row in suspicious:
                judged[row] = _with(
                    judged[row], "recorded", "sampled as it came", judged[row].signal, judged[row].evaluations
                )
            self._keep(judged)
            return self._plainly(prompts, arguments)
        images = self._apart(start, suspicious, judged, arguments)
        self._keep(judged)
        return self._output(images, arguments)

    def _apart(
        self, start: Opening, suspicious: Sequence[int], judged: list[Judged], arguments: Mapping[str, Any]
    ) -> list[Any]:
        """Sample the suspicious images by the action and the others plainly."""
        images: list[Any] = [None] * len(judged)
        own = arguments["generator"] if draws_its_own(arguments) else None
        if own is None and arguments.get("latents") is None:
            drawn_noise(start.latents, arguments.get("generator"))  # so that the next call draws on, as it would have
        ordinary = [row for row in range(len(judged)) if row not in {*suspicious}]
        if ordinary:
            for row, image in zip(ordinary, self._sampled(start, ordinary, start.latents, arguments), strict=True):
                images[row] = image
        for row in suspicious:
            if own is not None and self.on_memorized != "mitigate":
                drawn_noise(start.latents[row : row + 1], [own[row]])
            match self.on_memorized:
                case "reseed":
                    images[row], judged[row] = self._reseeded(start, row, judged[row], arguments)
                case "mitigate":
                    images[row], judged[row] = self._mitigated(start, row, judged[row], arguments)
                case _:
                    judged[row] = _with(judged[row], "refused", "refused", None, judged[row].evaluations)
            if images[row] is None:
                images[row] = black(start, arguments)
        return images

    def _reseeded(
        self, start: Opening, row: int, was: Judged, arguments: Mapping[str, Any]
    ) -> tuple[Any | None, Judged]:
        """Draw other noise until the signal is normal, as long as the budget lasts."""
        one, tries = of_one(start, row), 0
        while one.spent[0] + was.evaluations <= self.budget:  # one more signal
            noise = other_noise(one.latents, row, tries := tries + 1)
            value = self.trigger.measured(started_from(one, noise))
            if not self.trigger.above(value):
                image = self._sampled(start, [row], noise, arguments)[0]
                return image, _with(was, "reseeded", f"other noise, draw {tries}", _finite(value[0]), one.spent[0])
        return None, _with(was, "refused", f"no normal noise in {tries} draws: refused", None, one.spent[0])

    def _mitigated(
        self, start: Opening, row: int, was: Judged, arguments: Mapping[str, Any]
    ) -> tuple[Any | None, Judged]:
        """Mitigate one image, as long as the budget lasts."""
        given = rows_of(arguments, [row])
        if not draws_its_own(arguments):
            given["latents"] = start.taken(start.latents[row : row + 1])
        generator = given.pop("generator", None)
        for name in ("num_images_per_prompt", "return_dict"):
            given.pop(name, None)
        generators = generator if isinstance(generator, list) else [torch.Generator().manual_seed(0)]
        plain = n_steps(self.pipe, arguments) * (2 if start.scale > 1 else 1)
        try:
            with limited(self.model.network, plain + self.budget), counting(self.model.network) as counter:
                made = self.mitigation(self.pipe, [start.prompts[row]], generators, None, model=self.model, **given)
        except BudgetUsed:
            words = f"not mitigated within {self.budget} evaluations: refused"
            return None, _with(was, "refused", words, None, was.evaluations + plain + self.budget)
        decision, cost = made.decisions[0], was.evaluations + counter.rows - plain
        return made.images[0], _with(was, "mitigated", decision.words, _finite(decision.after), max(cost, 0.0))

    def _sampled(self, start: Opening, rows: Sequence[int], latents: Tensor, arguments: Mapping[str, Any]) -> list[Any]:
        """Let the pipeline sample some of the images, each once, from this noise."""
        given = {**rows_of(arguments, rows), "num_images_per_prompt": 1, "return_dict": True}
        if "prompt_embeds" not in given:
            given["prompt"] = [start.prompts[row] for row in rows]
        if latents is not start.latents:
            given["latents"] = start.taken(latents)
        elif not draws_its_own(arguments):
            given["latents"] = start.taken(latents[list(rows)])
        return list(self.pipe(**given).images)

    def _plainly(self, prompts: Sequence[str], arguments: Mapping[str, Any]) -> Any:
        return self.pipe(**_prompted_arguments(prompts, arguments))

    def _about_to(self, prompts: Sequence[str], arguments: Mapping[str, Any]) -> Opening:
        """Ask the pipeline what it is about to do, and leave all random numbers as they were."""
        per_prompt = int(arguments.get("num_images_per_prompt") or 1)
        rows = [prompt for prompt in prompts for _ in range(per_prompt)]
        if not rows:
            raise ValueError("got no prompt; pass at least one")
        return opened(self.pipe, self.model, rows, _prompted_arguments(prompts, arguments))

    def _output(self, images: list[Any], arguments: Mapping[str, Any]) -> Any:
        """Return images as the pipeline returns them."""
        if isinstance(images[0], Tensor):
            joined: Any = torch.stack(images)
        elif arguments.get("output_type") == "np":
            import numpy as np

            joined = np.stack(images)
        else:
            joined = images
        if arguments.get("return_dict", True) is False:
            return (joined, None) if type(self.pipe).__name__ == "StableDiffusionPipeline" else (joined,)
        from diffusers.pipelines.stable_diffusion import StableDiffusionPipelineOutput

        return StableDiffusionPipelineOutput(joined, None)

    def _keep(self, judged: Sequence[Judged]) -> None:
        self.decisions += judged
        if self.record is not None:
            with self.record.open("a", encoding="utf-8") as stream:
                stream.writelines(json.dumps(asdict(one), ensure_ascii=False) + "\n" for one in judged)


def default_signal(model: PromptedModel) -> Signal:
    """Return the guidance norm after one step under the prompt, three evaluations.

    A model whose guidance is distilled has no difference of two predictions: there it is the freedom that the prompt
    leaves at the start, memorized when low.
    """
    if getattr(model, "distilled", False):
        return Signal(Freedom(slope="finite-difference"), "low")
    return Signal(guidance_norm, sigma=model.levels.nearest(JUMP_TO).sigma, n_steps=1)


def _prompted_arguments(prompts: Sequence[str], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the pipeline's arguments: the prompts, or the embeddings that stand for them."""
    return {**arguments} if "prompt_embeds" in arguments else {"prompt": list(prompts), **arguments}


def _with(was: Judged, taken: Taken, words: str, after: float | None, evaluations: float) -> Judged:
    return replace(was, suspicious=True, taken=taken, words=words, after=after, evaluations=evaluations)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None

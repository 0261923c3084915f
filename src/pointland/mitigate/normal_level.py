"""The normal level: what a number of every sampling step is for normal prompts, as a function of the noise scale.

What acts at every step needs a level at every noise scale. It is learned from plain sampling of normal prompts: the
median and the spread of the number at every scale make its shape, which is then moved out, in units of the spread, so
far that only a share ``rate`` of normal prompts is beyond it *at any step at all*. So a normal prompt as a whole is
left alone at the rate asked for, however many steps there are.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pointland.mitigate.opening import Opening, opening
from pointland.mitigate.signal import conformal_rank
from pointland.mitigate.steering import Step
from pointland.model import PromptedModel

Side = Literal["above", "below"]
Measure = Callable[[Opening, Step], Float[Tensor, " b"]]
"""A number of every image at a step of sampling; its network calls are charged to sampling."""


@dataclass(frozen=True)
class NormalLevel:
    """A level at every noise scale.

    Attributes:
        sigmas: Noise scales, ascending.
        levels: The level at each; between them by the logarithm of sigma, beyond them the last.
    """

    sigmas: tuple[float, ...]
    levels: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.sigmas) != len(self.levels) or not self.sigmas or min(np.diff(self.sigmas), default=1) <= 0:
            raise ValueError(f"give one level a sigma, sigmas ascending; got {self.sigmas} and {self.levels}")

    def at(self, sigma: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Return the level of every item."""
        found = np.interp(np.log(sigma.cpu().double().numpy()), np.log(self.sigmas), self.levels)
        return torch.from_numpy(found).to(sigma)


def normal_level(
    measure: Measure,
    pipe: Any,
    normal_prompts: Sequence[str],
    generators: Sequence[torch.Generator],
    *,
    beyond: Side,
    rate: float = 0.01,
    model: PromptedModel | None = None,
    batch_size: int = 16,
    **arguments: Any,
) -> NormalLevel:
    """Learn the level beyond which, at any step, only a share ``rate`` of normal prompts is.

    Args:
        measure: The number.
        pipe: The pipeline.
        normal_prompts: Prompts of the user's kind, known to be unmemorized.
        generators: One a prompt.
        beyond: Which side is abnormal.
        rate: Share of normal prompts that may be touched; needs ``1 / rate - 1`` of them.
        model: The model of the pipeline's modules, as for :class:`~pointland.mitigate.Mitigation`.
        batch_size: Prompts in one batch.
        arguments: The pipeline's own, as they will be used.
    """
    rank = conformal_rank(len(normal_prompts), rate)
    sigmas: dict[float, None] = {}
    parts = []
    for first in range(0, len(normal_prompts), batch_size):
        part = slice(first, first + batch_size)
        start = opening(pipe, normal_prompts[part], generators[part], None, model, arguments)
        rows: list[Tensor] = []

        def watch(step: Step, start: Opening = start, rows: list[Tensor] = rows) -> None:
            sigmas[float(step.sigma[0])] = None
            rows.append(measure(start, step).double().cpu())

        start.sample([], rule=watch)
        parts.append(torch.stack(rows))
    values = torch.cat(parts, 1).numpy() * (1 if beyond == "above" else -1)
    middle = np.median(values, 1, keepdims=True)
    spread = np.maximum(np.median(np.abs(values - middle), 1, keepdims=True), 1e-12 + 1e-6 * np.abs(middle))
    far = np.sort(((values - middle) / spread).max(0))[rank - 1]
    levels = ((middle + far * spread) * (1 if beyond == "above" else -1))[:, 0]
    order = np.argsort(list(sigmas))
    return NormalLevel(tuple(np.array(list(sigmas))[order].tolist()), tuple(levels[order].tolist()))

"""No mitigation: plain sampling, what every other is measured against."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from pointland.mitigate.mitigation import Callback, Decision, Generated
from pointland.mitigate.opening import opening
from pointland.model import PromptedModel


@dataclass(frozen=True)
class Plain:
    """The pipeline as it is.

    Cost:
        2 evaluations a step with guidance, 1 without.
    """

    def __call__(
        self,
        pipe: Any,
        prompts: Sequence[str],
        generators: Sequence[torch.Generator],
        callback: Callback | None = None,
        *,
        model: PromptedModel | None = None,
        **arguments: Any,
    ) -> Generated:
        """Sample; see :class:`~pointland.mitigate.Mitigation`."""
        start = opening(pipe, prompts, generators, callback, model, arguments)
        return start.sample([Decision(False, "plain sampling", prompt=prompt) for prompt in prompts])

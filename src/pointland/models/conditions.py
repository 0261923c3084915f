"""Conditions kept by caption: a caption met again, and no caption, go through the text encoders once.

Every caption is encoded alone. What an encoder says of one then never depends, not even in its last bit, on which
others were new beside it, so an audit that was interrupted and continued has the bits of one that was not.

Nothing here sees weights change: ``parameter.data += ...``, as LoRA is merged, leaves no trace on the parameter, not
even in its version counter. So conditions are kept for as long as somebody says that the weights rest, in an object
made for that time (:func:`~pointland.models.diffusers.binding.remembering`), and a model as it is loaded keeps none.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch

from pointland.model import Condition

LIMIT = 128 * 2**20
"""Bytes to keep by default: the conditions of 567 captions of Stable Diffusion 1.x in float32, of 24 of SD3."""

ConditionOf = Callable[[Sequence[str | None]], Condition]


class Conditions:
    """The conditions of the captions asked for last, on the device where they were made.

    Args:
        limit: Bytes to keep; what was not asked for the longest goes first.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        if limit < 0:
            raise ValueError(f"a cache keeps 0 bytes or more, not {limit}")
        self.limit, self.n_bytes = limit, 0
        self.kept: OrderedDict[str | None, Condition] = OrderedDict()

    def __deepcopy__(self, memo: dict[int, object]) -> "Conditions":
        return Conditions(self.limit)  # a copied model may be given other weights

    def of(self, captions: Sequence[str | None], condition_of: ConditionOf) -> Condition:
        """Return the condition of the captions, one row a caption; what is not kept is computed without gradients."""
        rows = {caption: self._one(caption, condition_of) for caption in dict.fromkeys(captions)}
        return stacked([rows[caption] for caption in captions])

    def _one(self, caption: str | None, condition_of: ConditionOf) -> Condition:
        if caption in self.kept:
            self.kept.move_to_end(caption)
            return self.kept[caption]
        # tensors made in inference mode could not be used later, where gradients are recorded
        with torch.inference_mode(False), torch.no_grad():
            made = condition_of([caption])
        self.kept[caption] = made
        self.n_bytes += size(made)
        while self.n_bytes > self.limit:
            self.n_bytes -= size(self.kept.popitem(last=False)[1])
        return made


def stacked(conditions: Sequence[Condition]) -> Condition:
    """Return the rows of all of them, in this order."""
    others = {name: torch.cat([each.others[name] for each in conditions]) for name in conditions[0].others}
    return Condition(torch.cat([each.states for each in conditions]), others)


def size(condition: Condition) -> int:
    """Return how many bytes its tensors take."""
    return sum(value.nbytes for value in (condition.states, *condition.others.values()))

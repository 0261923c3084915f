r"""DiT: a latent diffusion transformer told one of a list of classes.

A caption is a class by its name, as the pipeline's ``labels`` lists them, or by its number; no caption is the class
that training put in place of a dropped label.

There is no text. So that what acts on conditions acts here too, the one state of a condition is a row of weights
over the classes, with the dropped label last: 1 at the caption's class, 0 elsewhere. The network looks every weight up
in its own tables, :math:`e = \sum_k w_k e_k`, which is its own arithmetic at such a row, and differentiable.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pointland.model import Condition
from pointland.models.codec import LatentCodec
from pointland.models.conditions import Conditions
from pointland.models.diffusers.binding import Captioned
from pointland.models.diffusers.schedule import Schedule, variance_preserving
from pointland.models.diffusers.sizes import check_latent, pixels
from pointland.models.origin import Origin

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline, DiTTransformer2DModel


@dataclass(frozen=True, eq=False)
class DiT(Captioned):
    """A latent diffusion transformer of classes.

    Attributes:
        labels: Class numbers by name.
        n_classes: How many there are; this number stands for no class.
        conditional_first: The pipeline puts the rows with a class before those without.
    """

    conditional_first: ClassVar[bool] = True

    network: "DiTTransformer2DModel"
    codec: LatentCodec
    labels: Mapping[str, int]
    n_classes: int
    schedule: Schedule
    origin: Origin
    kept: Conditions | None = None

    @property
    def text_encoders(self) -> tuple[nn.Module, ...]:
        """None: it reads no text."""
        return ()

    def condition(self, captions: Sequence[str | None]) -> Condition:
        """Return rows of weights over the classes, shape ``(b, 1, classes + 1)``.

        Raises:
            ValueError: If a caption is no class.
        """
        numbers = torch.tensor([self.number(caption) for caption in captions], device=self.network.device)
        rows = nn.functional.one_hot(numbers, self.n_classes + 1)
        return Condition(rows.to(self.network.dtype)[:, None])

    def number(self, caption: str | None) -> int:
        """Return the class that a caption names.

        Raises:
            ValueError: If it names none.
        """
        if caption is None or not caption.strip():
            return self.n_classes
        name = caption.strip()
        if name in self.labels:
            return self.labels[name]
        if name.isdecimal() and int(name) < self.n_classes:
            return int(name)
        some = f", or a name such as {', '.join(sorted(self.labels)[:3])}" if self.labels else ""
        raise ValueError(f"caption {caption!r} is no class; give a number from 0 to {self.n_classes - 1}{some}")

    def tokens(self, caption: str | None) -> list[str]:
        """Return the class as the one token."""
        return ["" if caption is None else caption.strip()]

    def is_cut(self, caption: str) -> bool:
        """Never: a class is read whole."""
        return False

    def denoise(
        self, x: Float[Tensor, "b *event"], sigma: Float[Tensor, "#b"], condition: Condition
    ) -> Float[Tensor, "b *event"]:
        """Estimate the clean latents given weights over the classes."""
        scaled, t = self.schedule.scaled(x, sigma, self.network.dtype)
        weights = condition.states[:, 0].to(x.device)
        tables = [block.norm1.emb.class_embedder.embedding_table for block in self.network.transformer_blocks]
        unused = torch.zeros(len(x), dtype=torch.long, device=x.device)
        with weighted(tables, weights), self.origin.execution.calling(x.device):
            output = self.network(scaled, timestep=t, class_labels=unused, return_dict=False)[0]
        return self.denoised(output, x, sigma)


@contextmanager
def weighted(tables: Sequence[nn.Embedding], weights: Float[Tensor, "b k"]) -> Iterator[None]:
    """Let tables answer with weighted sums of their rows, whatever they are asked, inside a ``with`` block."""

    def mix(table: nn.Embedding, args: tuple[Any, ...], output: Tensor) -> Tensor:
        return weights.to(table.weight.dtype) @ table.weight

    with ExitStack() as stack:
        for table in tables:
            stack.callback(table.register_forward_hook(mix).remove)
        yield


def dit(pipe: "DiffusionPipeline", *, name: str, kind: str) -> DiT:
    """Make a model of a ``DiTPipeline``.

    Raises:
        ValueError: If its parts do not fit each other, or its scheduler is not variance-preserving.
    """
    network, vae, labels = pipe.transformer, pipe.vae, dict(pipe.labels)
    check_latent(name, network.config.in_channels, vae)
    codec = LatentCodec(vae, pixels(vae, network.config.sample_size), vae.config.latent_channels)
    schedule = variance_preserving(pipe.scheduler)
    origin = Origin(
        name,
        kind,
        codec.space,
        network,
        {"transformer": network, "vae": vae},
        schedule.levels,
        [schedule.prediction, codec.size, vae.config.scaling_factor, sorted(labels.items())],
    )
    return DiT(network, codec, labels, int(network.config.num_embeds_ada_norm), schedule, origin)

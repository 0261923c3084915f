"""DINOv2 (Oquab et al. 2023, arXiv:2304.07193) through transformers: features of what a picture shows."""

import hashlib
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from torch import nn, no_grad

from pointland.samples.descriptors.normalization import imagenet, unit_length


@dataclass(frozen=True)
class Dinov2:
    """The class token of the last layer, scaled to length 1.

    It describes what is shown more than which picture shows it: near neighbours are look-alikes, so read it with a
    reference.

    Attributes:
        network: The loaded network; :func:`load_dinov2` makes one.
        weights: SHA-256 over its parameters.
        side: Height and width that pictures are fitted to.
    """

    network: nn.Module
    weights: str
    side: int = 224

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the pictures it takes."""
        return self.side, self.side

    @property
    def identity(self) -> dict[str, str]:
        """What it is."""
        return {
            "name": "dinov2",
            "weights": self.weights,
            "preprocessing": f"shorter side to {self.side}, center crop, Lanczos; ImageNet normalization; length 1",
        }

    def __call__(self, images: UInt8[np.ndarray, "b 3 h w"]) -> Float[np.ndarray, "b d"]:
        """Describe a batch."""
        with no_grad():
            vectors = self.network(pixel_values=imagenet(images)).last_hidden_state[:, 0].float()
        return unit_length(vectors)


def load_dinov2(source: str, side: int = 224) -> Dinov2:
    """Load a network from a directory or a hub id, on the CPU, from safetensors only.

    Args:
        source: A directory or hub id.
        side: Height and width that pictures are fitted to.

    Raises:
        ValueError: If it cannot be loaded.
    """
    from pathlib import Path

    from transformers import AutoModel

    from pointland.models.trust import check_part

    local = Path(source).is_dir()
    if local:
        place = Path(source).resolve()
        check_part(place.parent, place.name)
    try:
        network = AutoModel.from_pretrained(
            source, use_safetensors=True, local_files_only=local, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{source} cannot be loaded as DINOv2: {str(error).splitlines()[0]:.200}") from error
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    return Dinov2(network.eval(), digest.hexdigest(), side)

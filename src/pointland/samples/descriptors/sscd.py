"""SSCD, the copy detector of Pizzi et al. 2022 (arXiv:2202.10261), from a TorchScript file that the user names."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from torch import Tensor, jit, no_grad

from pointland.samples.descriptors.normalization import imagenet, unit_length


@dataclass(frozen=True)
class Sscd:
    """A TorchScript network that maps ImageNet-normalized pictures to vectors, which are scaled to length 1.

    Attributes:
        network: The loaded network; :func:`load_sscd` makes one.
        weights: SHA-256 of its file.
        side: Height and width that pictures are fitted to; the authors use 288 or 320.
    """

    network: jit.ScriptModule
    weights: str
    side: int = 288

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the pictures it takes."""
        return self.side, self.side

    @property
    def identity(self) -> dict[str, str]:
        """What it is."""
        return {
            "name": "sscd",
            "weights": self.weights,
            "preprocessing": f"shorter side to {self.side}, center crop, Lanczos; ImageNet normalization; length 1",
        }

    def __call__(self, images: UInt8[np.ndarray, "b 3 h w"]) -> Float[np.ndarray, "b d"]:
        """Describe a batch."""
        with no_grad():
            found: Tensor = self.network(imagenet(images))
        vectors = found.float().flatten(1)
        return unit_length(vectors)


def load_sscd(file: Path | str, side: int = 288) -> Sscd:
    """Load the network on the CPU.

    A TorchScript file is a program: name only files that you trust.

    Args:
        file: A TorchScript file.
        side: Height and width that pictures are fitted to.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no TorchScript network.
    """
    path = Path(file)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}; download an SSCD TorchScript file, such as disc_mixup")
    try:
        network = jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]  # torch has no types here
    except RuntimeError as error:
        raise ValueError(f"{path} is no TorchScript file: {str(error).splitlines()[0]:.200}") from error
    return Sscd(network.eval(), hashlib.sha256(path.read_bytes()).hexdigest(), side)

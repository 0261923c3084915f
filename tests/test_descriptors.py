from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from pointland.cli.samples import descriptor_from
from pointland.samples.descriptors import Descriptor, Perceptual, Pixels, load_dinov2, load_sscd
from scenes import noisy, scene


class Tiny(nn.Module):
    """Stands for a copy detector: averages of 4 x 4 blocks."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.avg_pool2d(x, 4).flatten(1)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Descriptor]:
    """Every descriptor; networks are tiny and have random weights."""
    from transformers import Dinov2Config, Dinov2Model

    folder = tmp_path_factory.mktemp("networks")
    torch.jit.script(Tiny()).save(str(folder / "sscd.pt"))  # type: ignore[no-untyped-call]  # torch has no types here
    torch.manual_seed(0)
    small = Dinov2Config(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14)
    Dinov2Model(small).save_pretrained(folder / "dinov2")
    return {
        "pixels": Pixels(),
        "perceptual": Perceptual(),
        "sscd": load_sscd(folder / "sscd.pt", 32),
        "dinov2": load_dinov2(str(folder / "dinov2"), 28),
    }


@pytest.mark.parametrize("name", ["pixels", "perceptual", "sscd", "dinov2"])
def test_a_descriptor_says_what_it_is_and_describes_one_picture_at_a_time(
    made: dict[str, Descriptor], name: str
) -> None:
    descriptor = made[name]
    assert isinstance(descriptor, Descriptor)
    assert descriptor.identity.keys() == {"name", "weights", "preprocessing"}
    assert descriptor.identity["name"] == name
    assert (descriptor.identity["weights"] == "none") == (name in ("pixels", "perceptual"))
    pictures = np.stack([scene(seed, descriptor.size[0]) for seed in range(3)])
    together = descriptor(pictures)
    assert together.dtype == np.float32
    assert together.shape[0] == 3
    alone = np.concatenate([descriptor(picture[None]) for picture in pictures])
    assert np.allclose(together, alone, atol=1e-5)  # float32, other order of sums
    near = np.linalg.norm(descriptor(noisy(pictures[0], 2)[None])[0] - together[0])
    assert near < np.linalg.norm(together[1] - together[0])
    if name != "pixels":
        assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)


def test_the_option_names_them(tmp_path: Path) -> None:
    assert descriptor_from("perceptual") == Perceptual()
    assert descriptor_from("pixels:64") == Pixels(64)
    for text, message in (
        ("sift", "is not one of"),
        ("sscd", "is not one of"),
        ("pixels:big", "expected a size"),
        ("pixels:0", "expected a size"),
        (f"dinov2:{tmp_path}", "cannot be loaded"),
    ):
        with pytest.raises(ValueError, match=message):
            descriptor_from(text)
    with pytest.raises(FileNotFoundError, match="there is no file"):
        descriptor_from(f"sscd:{tmp_path / 'none.pt'}")
    (tmp_path / "text.pt").write_text("no network")
    with pytest.raises(ValueError, match="no TorchScript"):
        descriptor_from(f"sscd:{tmp_path / 'text.pt'}")

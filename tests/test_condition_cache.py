"""What captions become is computed once a caption, is the same whatever came before, and is never stale."""

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import pipelines
from models import ExactModel
from pointland.derivatives import products
from pointland.model import Condition
from pointland.models import StableDiffusion, from_pipeline
from pointland.models.conditions import Conditions, size
from pointland.models.diffusers.binding import remembering


class Encoder:
    """One row a caption, of its length and letters; counts what it is asked."""

    def __init__(self) -> None:
        self.asked: list[str | None] = []

    def __call__(self, captions: Sequence[str | None]) -> Condition:
        self.asked += captions
        values = torch.tensor([float(sum(map(ord, caption or ""))) for caption in captions])
        return Condition(values.reshape(-1, 1, 1).expand(-1, 2, 4).clone(), {"pooled": values[:, None]})


def rows(condition: Condition) -> list[float]:
    assert torch.equal(condition.states[:, 0, 0], condition.others["pooled"][:, 0])
    return condition.states[:, 0, 0].tolist()


def test_every_caption_is_computed_once_and_lands_in_its_row() -> None:
    encoder, kept = Encoder(), Conditions()
    wanted = rows(encoder(["a", None, "a", "", "b"]))
    encoder.asked.clear()
    assert rows(kept.of(["a", None, "a", "", "b"], encoder)) == wanted
    assert rows(kept.of(["b", "a"], encoder)) == [wanted[4], wanted[0]]
    assert encoder.asked == ["a", None, "", "b"]


def test_what_was_not_asked_for_the_longest_goes_first() -> None:
    encoder = Encoder()
    kept = Conditions(limit=2 * size(encoder(["a"])))
    encoder.asked.clear()
    for caption in ("a", "b", "a", "c", "a", "b"):  # c pushes b out, b pushes c out
        kept.of([caption], encoder)
    assert encoder.asked == ["a", "b", "c", "b"]
    assert kept.n_bytes == kept.limit == sum(map(size, kept.kept.values()))


@pytest.mark.parametrize("limit", [0, 50])
def test_a_cache_too_small_for_a_batch_is_still_right(limit: int) -> None:
    encoder, kept = Encoder(), Conditions(limit)
    captions = ["a", "b", "c", None, "a"]
    for _ in range(2):
        assert rows(kept.of(captions, encoder)) == rows(encoder(captions))
        assert kept.n_bytes <= limit
    with pytest.raises(ValueError, match="0 bytes or more"):
        Conditions(-1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sd")


@pytest.fixture
def model(folder: Path) -> StableDiffusion:
    made = from_pipeline(pipelines.stable_diffusion(folder))
    assert isinstance(made, StableDiffusion)
    made.text_encoder.eval()
    made.unet.eval()
    return made


def encodings(model: StableDiffusion) -> list[int]:
    """Return the sizes of the text encoder's batches from here on."""
    batches: list[int] = []

    def count(module: Any, args: Any, output: Any) -> None:
        batches.append(len(output[0]))

    model.text_encoder.register_forward_hook(count)
    return batches


def noised(n: int) -> tuple[Tensor, Tensor]:
    return torch.randn(n, 4, 8, 8, generator=torch.Generator().manual_seed(n)), torch.tensor([1.0])


def test_a_model_reads_a_repeated_caption_once_in_a_batch_and_a_remembering_one_once(model: StableDiffusion) -> None:
    batches = encodings(model)
    captions = [None, None, "a boot", "a boot", "a coat"]
    x, sigma = noised(5)
    with torch.no_grad():
        alone = torch.cat([model.given([c])(x[i : i + 1], sigma) for i, c in enumerate(captions)])
        batches.clear()
        plain = model.given(captions)(x, sigma)
        assert batches == [3]
        remembered = remembering(model)
        remembered.given([None])  # a check of the protocol may have asked before
        batches.clear()
        for _ in range(2):
            kept = remembered.given(captions)(x, sigma)
        without = remembered.unconditional(x[:2], sigma)
    assert batches == [1, 1]
    torch.testing.assert_close(plain, alone, rtol=1e-5, atol=1e-5)  # float32; the order of sums
    torch.testing.assert_close(kept, alone, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(without, kept[:2], rtol=1e-5, atol=1e-5)
    assert remembered.identity == model.identity
    assert remembered.unet is model.unet
    assert model.kept is None


def test_the_bits_of_a_condition_do_not_depend_on_what_came_before(model: StableDiffusion) -> None:
    captions = ["a boot", None, "a coat by alder", "x"]
    others: list[list[list[str | None]]] = [[], [["x"]], [["q", "r"], [None, "x", "s"]], [["x"], [None], ["a boot"]]]
    found = []
    for history in others:
        kept = Conditions()
        for batch in history:
            kept.of(batch, model.condition)
        found.append(kept.of(captions, model.condition).states)
    assert all(torch.equal(states, found[0]) for states in found)


def test_weights_that_change_are_seen(model: StableDiffusion) -> None:
    x, sigma = noised(1)
    weight = model.text_encoder.get_input_embeddings().weight
    assert isinstance(weight, Tensor)
    with torch.no_grad():
        remembered = remembering(model)
        before, kept_before = model.given(["a"])(x, sigma), remembered.given(["a"])(x, sigma)
        version = weight._version
        weight.data += torch.randn_like(weight)  # as LoRA is merged
        after = model.given(["a"])(x, sigma)
        again = remembering(model).given(["a"])(x, sigma)
        stale = remembered.given(["a"])(x, sigma)
    assert not torch.allclose(after, before, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(again, after, rtol=1e-5, atol=1e-5)
    assert weight._version == version  # why nothing is kept unless asked: the change leaves no trace
    assert torch.equal(stale, kept_before)


def test_gradients_go_through_the_encoder_not_through_what_is_kept(model: StableDiffusion) -> None:
    remembered = remembering(model)
    remembered.given(["a"])
    batches = encodings(model)
    condition = remembered.condition(["a"])
    assert batches == [1]
    weight = model.text_encoder.get_input_embeddings().weight
    (gradient,) = torch.autograd.grad(condition.states.square().sum(), [weight])
    assert float(gradient.abs().max()) > 0
    assert remembered.kept is not None
    assert not any(kept.states.requires_grad for kept in remembered.kept.kept.values())


def test_what_is_kept_in_inference_mode_serves_jacobian_products_later(model: StableDiffusion) -> None:
    remembered = remembering(model)
    x, sigma = noised(2)
    with torch.inference_mode():
        remembered.given(["a", None])(x, sigma)
    found = products(remembered.given(["a", None]), x, sigma, probes=torch.ones(1, *x.shape))
    assert bool(found.products.isfinite().all())


def test_copies_start_empty_and_models_without_text_are_returned_as_they_are(model: StableDiffusion) -> None:
    remembered = remembering(model, limit=1000)
    remembered.given(["a"])
    copied = deepcopy(remembered)
    assert copied.kept is not None
    assert (copied.kept.limit, len(copied.kept.kept)) == (1000, 0)
    ddpm = from_pipeline(pipelines.ddpm())
    assert remembering(ddpm) is ddpm
    exact = ExactModel(torch.zeros(1, 3, 4, 4))
    assert remembering(exact) is exact

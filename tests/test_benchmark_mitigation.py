"""What the benchmark of mitigations measures, and its attack, against cases whose answer is known."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import pipelines
from pointland.benchmarks.mitigation.attack import Attack
from pointland.benchmarks.mitigation.chart import draw
from pointland.benchmarks.mitigation.evaluate import Comparison, Row
from pointland.benchmarks.mitigation.measures import class_probability, diversity, yardstick
from pointland.benchmarks.mitigation.truth import Truth, class_of, read_truth
from pointland.demo.plant import CLASSES
from pointland.demo.unpack import ARCHIVE
from pointland.models.diffusers import StableDiffusion, from_pipeline


@pytest.fixture(scope="module")
def truth() -> Truth:
    return read_truth(ARCHIVE, n_memorized=8, n_normal=10, n_usual=19)


def test_the_groups_are_those_of_the_plan_and_do_not_overlap(truth: Truth) -> None:
    assert (len(truth.memorized), len(truth.normal), len(truth.usual)) == (8, 10, 19)
    assert not set(truth.normal.captions) & set(truth.usual.captions)
    assert not set(truth.fitting.captions) & {*truth.normal.captions, *truth.usual.captions, *truth.memorized.captions}
    trained = {picture.tobytes() for picture in truth.trained}
    assert all(picture.tobytes() in trained for picture in truth.memorized.pictures)
    assert not any(picture.tobytes() in trained for picture in truth.unseen)


def test_a_training_picture_is_as_similar_as_can_be_and_noise_is_not(truth: Truth) -> None:
    measure = yardstick(truth)
    pictures = truth.memorized.pictures
    np.testing.assert_allclose(measure.similarity(pictures), 1)
    assert measure.copies(pictures, pictures).all()
    assert not measure.copies(np.roll(pictures, 1, axis=0), pictures).any()
    noise = np.random.default_rng(0).integers(0, 256, pictures.shape, dtype=np.uint8)
    assert (measure.similarity(noise) < measure.similarity(truth.unseen).mean()).all()
    closest = measure.copies(truth.unseen, truth.unseen)  # its own picture: always
    assert closest.all()


def test_alignment_tells_right_captions_from_wrong_ones(truth: Truth) -> None:
    align = class_probability(truth.fitting)
    right = align(truth.memorized.pictures, truth.memorized.captions).mean()
    turned = [CLASSES[(k + 1) % len(CLASSES)] for k in truth.memorized.classes]
    wrong = align(truth.memorized.pictures, [f"a felt {name} by ivor , lot 1" for name in turned]).mean()
    assert right > 0.5 > wrong


def test_classes_are_read_from_captions_alone() -> None:
    assert [class_of(f"a silk {name} by ivor , lot 1 2 3") for name in CLASSES] == list(range(len(CLASSES)))
    with pytest.raises(ValueError, match="names no class"):
        class_of("a photograph of a cat")


def test_diversity_is_of_one_prompt_only() -> None:
    images = np.zeros((4, 2, 2), dtype=np.uint8)
    images[2:] = 255
    assert diversity(images, ["a", "a", "b", "b"], 1.0) == 0
    assert diversity(images, ["a", "b", "a", "b"], 1.0) == pytest.approx(1)
    assert diversity(images, ["a", "b", "c", "d"], 1.0) is None


def test_the_attack_lowers_the_denoising_error_of_each_picture_by_itself(tmp_path: Path) -> None:
    model = from_pipeline(pipelines.stable_diffusion(tmp_path))
    assert isinstance(model, StableDiffusion)
    with torch.no_grad():
        start = model.condition(["a boot", "a coat"])
    x0 = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    attack = Attack(n_steps=60, n_draws=4, rate=0.1)

    def error(states: Tensor) -> Tensor:
        noises, condition = torch.Generator().manual_seed(1), start.with_states(states)
        found = []
        with torch.no_grad():
            for sigma in torch.tensor([0.1, 0.5, 2.0, 5.0, 10.0]).repeat(6)[:, None]:
                x = x0 + sigma * torch.randn(x0.shape, generator=noises)
                found.append(((model.denoise(x, sigma, condition) - x0) / sigma).square().flatten(1).mean(1))
        return torch.stack(found).mean(0)

    before = start.states.clone()
    found = attack(model, x0, start)
    assert (error(found) < error(start.states)).all()
    assert torch.equal(start.states, before)
    alone = attack(model, x0[:1], start.select([0]))
    torch.testing.assert_close(alone[0], found[0], rtol=1e-2, atol=1e-2)  # float32, through Adam


def row(method: str, similarity: float, alignment: float, retriggered: float | None) -> Row:
    return Row(method, similarity, 0.0, alignment, 0.5, 1.0, 1.0, 0.4, 0.9, 1.0, 1.0, retriggered)


def test_the_best_method_is_the_least_similar_that_keeps_the_alignment() -> None:
    plain, blunt, fine = row("none", 0.9, 0.8, 0.9), row("blunt", 0.1, 0.5, 0.0), row("fine", 0.41, 0.799, 0.01)
    result = Comparison([plain, blunt, fine], {})
    assert result.best == fine
    assert all(result.claims.values())
    again = Comparison([plain, blunt, fine._replace(retriggered=0.5)], {})
    assert list(again.claims.values()) == [True, True, True, False]
    assert draw(result).count("<circle") == 6

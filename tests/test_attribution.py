"""Attribution: words and positions, what a causal encoder cannot know, and nothing left behind."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import pipelines
from pointland.demo import MINIATURE
from pointland.model import Condition, PromptedModel
from pointland.models.diffusers import StableDiffusion, from_pipeline
from pointland.prompts import Attribution, Flipd, at_start, attribute, guidance_norm, words_of
from pointland.prompts.attribution import silenced, text_encoders
from pointland.prompts.drawing import as_html, as_json, as_svg
from pointland.prompts.words import aligned, unread, without

PROMPT = "ab cde f"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> StableDiffusion:
    made = from_pipeline(pipelines.stable_diffusion(tmp_path_factory.mktemp("attribution")))
    assert isinstance(made, StableDiffusion)
    return made


def of_states(position: int) -> object:
    """An objective that reads the states of one position and nothing else."""

    def read(model: PromptedModel, x: Tensor, sigma: Tensor, condition: Condition, base: Condition) -> Tensor:
        return condition.states[:, position, :4].square().sum(-1)  # all of them are normalized to one size

    return read


def test_every_position_has_its_word(model: StableDiffusion) -> None:
    words = words_of(model, PROMPT)
    assert [word.text for word in words] == ["ab", "cde", "f"]
    assert [word.positions for word in words] == [(1, 2), (3, 4, 5), (6,)]  # one token a letter, after the start


@pytest.mark.parametrize(
    ("prompt", "tokens", "expected"),
    [
        ("A Boot, red", ["<|startoftext|>", "a", "boot", ",", "red", "<|endoftext|>"], [(1,), (2, 3), (4,)]),
        ("a boot", ["▁a", "▁bo", "ot", "</s>", "<pad>"], [(0,), (1, 2)]),
        ("a boot", ["<s>", "a", "boot", "</s>", "a", "bo", "ot", "</s>"], [(1, 4), (2, 5, 6)]),
        ("a a a", ["a", "a", "a"], [(0,), (1,), (2,)]),
        ("a long prompt", ["<s>", "a", "long", "</s>"], [(1,), (2,), ()]),
    ],
)
def test_pieces_are_laid_along_the_prompt(prompt: str, tokens: list[str], expected: list[tuple[int, ...]]) -> None:
    assert [word.positions for word in aligned(prompt, tokens)] == expected


def test_what_is_not_read_is_told() -> None:
    words = aligned("a long prompt here", ["<s>", "a", "long", "</s>"])
    assert unread(words) == "prompt here"
    assert without("a long prompt", [1]) == "a prompt"


@pytest.mark.parametrize("place", ["embeddings", "states"])
def test_a_causal_encoder_hears_nothing_of_later_words(model: StableDiffusion, place: str) -> None:
    """An objective of the second word's last state: the third word has no gradient, and leaving it out no effect."""
    found = attribute(model, PROMPT, of_states(5), starts=at_start, n_draws=2, place=place)  # type: ignore[arg-type]  # parameters
    first, second, third = found.words
    assert third.gradient == third.drop == 0
    assert second.gradient > 0
    assert second.drop != 0
    if place == "states":
        assert first.gradient == 0
    else:
        assert first.gradient > 0


def test_gradients_are_slopes_of_the_embeddings(model: StableDiffusion) -> None:
    """Moving one word's embedding along its gradient changes the objective by the gradient's norm."""
    found = attribute(model, PROMPT, of_states(6), starts=at_start, n_draws=1)  # type: ignore[arg-type]  # objective
    table: Any = dict(text_encoders(model))["text_encoder"]
    number = model.tokenizer("f").input_ids[1]
    row = table.weight.detach()[number].clone()

    def value(step: Tensor) -> Tensor:
        with torch.no_grad():
            table.weight[number] = row + step
            result = model.condition([PROMPT]).states[0, 6, :4].square().sum()
            table.weight[number] = row
        return result

    h = 1e-2
    slopes = torch.stack([(value(h * axis) - value(-h * axis)) / (2 * h) for axis in torch.eye(len(row))])
    assert found.words[2].gradient == pytest.approx(float(slopes.norm()), rel=0.02)  # float32


def test_the_direction_turns_the_drops(model: StableDiffusion) -> None:
    high = attribute(model, PROMPT, guidance_norm, n_draws=2)
    low = attribute(model, PROMPT, guidance_norm, n_draws=2, memorized_when="low")
    assert [word.drop for word in low.words] == pytest.approx([-word.drop for word in high.words])
    assert [word.gradient for word in low.words] == pytest.approx([word.gradient for word in high.words])
    assert [r.value for r in high.rewrites] == sorted(r.value for r in high.rewrites)


def test_rewrites_are_evaluated_like_the_prompt(model: StableDiffusion) -> None:
    asked: list[tuple[str, str]] = []

    def rewrite(prompt: str, word: str) -> list[str]:
        asked.append((prompt, word))
        return [prompt]

    found = attribute(model, PROMPT, guidance_norm, n_draws=2, rewrite=rewrite)
    same = next(r for r in found.rewrites if r.how == "proposed")
    assert same.value == pytest.approx(found.value, rel=1e-4)  # float32, other batches
    top = max(found.words, key=lambda word: word.drop).text
    assert asked == [(PROMPT, top)]


def test_nothing_is_left_behind(model: StableDiffusion) -> None:
    with torch.no_grad():
        before = model.condition([PROMPT]).states
        with silenced(model, [1]):
            assert not torch.equal(model.condition([PROMPT]).states, before)
    attribute(model, PROMPT, Flipd(), memorized_when="low", n_draws=1)
    with torch.no_grad():
        assert torch.equal(model.condition([PROMPT]).states, before)
    assert all(parameter.grad is None for parameter in model.text_encoder.parameters())
    assert all(parameter.grad is None for parameter in model.unet.parameters())
    assert not any(module._forward_hooks for module in (*model.text_encoder.modules(), *model.unet.modules()))


def test_a_prompt_without_words_is_refused(model: StableDiffusion) -> None:
    with pytest.raises(ValueError, match="no word"):
        attribute(model, "  ", guidance_norm)


def test_files_escape_and_parse(model: StableDiffusion) -> None:
    found = attribute(model, "<b> &c", guidance_norm, n_draws=1)
    for text in (as_svg(found), as_html(found)):
        assert "<b>" not in text
        assert "&lt;b&gt;" in text
        assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
    record = json.loads(as_json(found))
    assert record["words"][0]["gradient_stderr"] is None  # of one start
    assert set(record) == set(Attribution._fields)


def test_the_command_line_attributes(tmp_path: Path) -> None:
    out = tmp_path / "words.svg"
    done = pointland(*["attribute", str(MINIATURE), "a felt boot", "--n-draws", "1", "-o", str(out)])
    assert done.returncode == 0, done.stderr
    assert "Rewrites" in done.stdout
    assert out.read_text().startswith("<svg")


def pointland(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).parent / "pointland"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)

"""The flow-matching miniature is trained on exactly what ``StableDiffusion3Pipeline`` computes from a caption."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import pad

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

from pointland.demo.train_flow import Folded, export, network, read
from pointland.demo.training import autoencoder, tokenizer, words

CAPTIONS = ["a felt t-shirt by ivor , lot 5 2 8 , named zukebu", "a wool boot by rowan , lot 1 9 0 , named dezapo", ""]


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.ModuleList, Any, Path]:
    folder = tmp_path_factory.mktemp("flow")
    tokens = tokenizer(CAPTIONS, folder / "tokenizer")
    torch.manual_seed(0)
    models = network(len(tokens), tokens.eos_token_id).eval()
    for weight in models.parameters():  # a new network gives zero: let every part of it matter
        if not weight.any():
            nn.init.normal_(weight, std=0.1)
    return models, tokens, folder


@pytest.fixture(scope="module")
def pipeline(parts: tuple[nn.ModuleList, Any, Path]) -> Any:
    from diffusers import StableDiffusion3Pipeline

    models, tokens, folder = parts
    export(autoencoder(), models, tokens, folder / "tokenizer", folder / "pipeline")
    models.float()
    return StableDiffusion3Pipeline.from_pretrained(folder / "pipeline", text_encoder_3=None, tokenizer_3=None)


@pytest.mark.parametrize("absent", [0, 1, 7, 256])
def test_one_position_counts_as_all_the_zeros_of_the_absent_encoder(
    parts: tuple[nn.ModuleList, Any, Path], pipeline: Any, absent: int
) -> None:
    tokens = parts[1]
    x, t = torch.randn(3, 8, 8, 8, generator=torch.Generator().manual_seed(1)), torch.tensor([0.1, 0.5, 1.0])
    with torch.no_grad():
        states, _, pooled, _ = pipeline.encode_prompt(
            CAPTIONS, None, None, do_classifier_free_guidance=False, max_sequence_length=absent
        )
        expected = pipeline.transformer(x, states, pooled, 1000 * t).sample
        read_states, read_pooled = read([pipeline.text_encoder, pipeline.text_encoder_2], words(tokens, CAPTIONS))
        shortened = pad(read_states, (0, 0, 0, 1)) if absent else read_states
        before = pipeline.transformer.attn_processors
        pipeline.transformer.set_attn_processor(Folded())
        got = pipeline.transformer(x, shortened, read_pooled, 1000 * t, None, {"count": max(absent, 1)}).sample
        pipeline.transformer.set_attn_processor(before)
    assert torch.equal(read_states, states[:, : read_states.shape[1]])
    assert torch.equal(read_pooled, pooled)
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-4)  # float32, sums in another order


def test_the_exported_pipeline_samples_from_a_caption(pipeline: Any) -> None:
    pipeline.set_progress_bar_config(disable=True)
    images = pipeline(CAPTIONS[:1], num_inference_steps=2, output_type="np").images
    assert images.shape == (1, 32, 32, 3)
    short = pipeline(CAPTIONS[:1], num_inference_steps=2, output_type="np", max_sequence_length=0).images
    assert short.shape == images.shape

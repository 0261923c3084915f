r"""Train a second miniature: a real ``StableDiffusion3Pipeline`` with planted truth, on one CPU thread.

    python -m pointland.demo.train_flow --data /usr/share/datasets/fashion-mnist --out build/flow

Flow matching with a joint transformer, where the first miniature predicts noise with a U-Net:

.. math:: x_t = (1 - t) x_0 + t n, \qquad v(x_t, t) \approx n - x_0, \qquad \sigma = t / (1 - t)

(Liu et al. 2023, arXiv:2209.03003; Lipman et al. 2023, arXiv:2210.02747; the network and the logit-normal times: Esser
et al. 2024, arXiv:2403.03206). The stages and the loop are those of :mod:`pointland.demo.training`; the seed deals
other pictures out than in the first miniature.

The pipeline reads a caption with two CLIP encoders and a T5, and puts zeros in the T5's place where there is none: 256
positions, or what ``max_sequence_length`` says. Equal positions stay equal in every layer, so one of them, counted 256
times in every softmax, is all 256: :class:`Folded`. Half the batches are trained with these positions and half
without, so that ``pipe(prompt)`` works as it is and ``pipe(prompt, max_sequence_length=0)`` is the fast way. Like any
Stable Diffusion 3 without T5, diffusers opens the pipeline with ``text_encoder_3=None, tokenizer_3=None``.
"""

import argparse
import math
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import pad

from pointland.demo.plant import Planted
from pointland.demo.training import DROP_CAPTION, EVEN, TOKENS, encoded, fit, prepare, words, write

WIDTH = 64
ABSENT = 256


class Folded:
    """Joint attention in which the last position stands for ``count`` equal ones: its weight is that many times one."""

    def __call__(
        self,
        attn: Any,
        hidden_states: Float[Tensor, "b p c"],
        encoder_hidden_states: Float[Tensor, "b t c"],
        attention_mask: None = None,
        count: int = 1,
    ) -> tuple[Float[Tensor, "b p c"], Float[Tensor, "b t c"]]:
        """Attend, as diffusers calls it: the picture's positions first, then the text's."""
        split = hidden_states.shape[1]
        projections = ((attn.to_q, attn.add_q_proj), (attn.to_k, attn.add_k_proj), (attn.to_v, attn.add_v_proj))
        q, k, v = (
            torch.cat([one(hidden_states), other(encoder_hidden_states)], 1)
            .view(len(hidden_states), -1, attn.heads, attn.to_q.out_features // attn.heads)
            .transpose(1, 2)
            for one, other in projections
        )
        logits = ((q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)).float()  # by hand: its gradient is faster here
        logits = torch.cat([logits[..., :-1], logits[..., -1:] + math.log(count)], -1)
        mixed = (logits.softmax(-1).to(v.dtype) @ v).transpose(1, 2).flatten(2)
        after = mixed[:, split:]
        return attn.to_out[0](mixed[:, :split]), after if attn.context_pre_only else attn.to_add_out(after)


def network(n_vocabulary: int, end: int) -> nn.ModuleList:
    """Return an untrained transformer and two text encoders with projection."""
    from diffusers import SD3Transformer2DModel
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    transformer = SD3Transformer2DModel(
        sample_size=8,
        patch_size=1,
        in_channels=8,
        out_channels=8,
        num_layers=4,
        attention_head_dim=32,
        num_attention_heads=4,
        joint_attention_dim=2 * WIDTH,
        caption_projection_dim=128,
        pooled_projection_dim=2 * WIDTH,
        pos_embed_max_size=8,
    )
    for block in transformer.transformer_blocks:  # every block starts as the identity, the network as zero
        for layer in (block.norm1.linear, block.norm1_context.linear):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
    nn.init.zeros_(transformer.norm_out.linear.weight)
    nn.init.zeros_(transformer.proj_out.weight)
    readers = [
        CLIPTextModelWithProjection(
            CLIPTextConfig(
                vocab_size=n_vocabulary,
                hidden_size=WIDTH,
                intermediate_size=4 * WIDTH,
                num_hidden_layers=2,
                num_attention_heads=4,
                max_position_embeddings=TOKENS,
                projection_dim=WIDTH,
                bos_token_id=end - 1,
                eos_token_id=end,
                pad_token_id=end,
            )
        )
        for _ in range(2)
    ]
    for reader in readers:  # states are read before any normalization: words have to be heard from the start
        nn.init.normal_(reader.get_input_embeddings().weight, std=0.5)
    return nn.ModuleList([transformer, *readers])


def read(readers: list[Any], ids: Int[Tensor, "b t"]) -> tuple[Float[Tensor, "b t c"], Float[Tensor, "b c"]]:
    """Return the states and the pooled text as ``StableDiffusion3Pipeline`` forms them, without the absent T5's zeros.

    The states are those before the last layer of both encoders, side by side; the pooled texts are projected.
    """
    outputs = [reader(ids, output_hidden_states=True) for reader in readers]
    states = torch.cat([output.hidden_states[-2] for output in outputs], -1)
    return states, torch.cat([output.text_embeds for output in outputs], -1)


def train_network(planted: Planted, vae: Any, tokens: Any, minutes: float, out: Path, seed: int) -> nn.ModuleList:
    """Train transformer and text encoders on the planted pool; print the losses that show what is being memorized."""
    latents, ids, nothing = encoded(planted, vae), words(tokens, planted.captions), words(tokens, [""])
    torch.manual_seed(seed)
    models = network(len(tokens), tokens.eos_token_id)
    transformer: Any = models[0]
    transformer.set_attn_processor(Folded())

    def loss_at(nets: Any, index: Tensor, t: Tensor, noise: Tensor, drop: Tensor, absent: int) -> Tensor:
        x, a = latents[index], t.view(-1, 1, 1, 1)
        with torch.autocast("cpu", torch.bfloat16):
            states, pooled = read(nets[1:], torch.where(drop[:, None], nothing, ids[index]))
            states = pad(states, (0, 0, 0, 1)) if absent else states
            v = nets[0]((1 - a) * x + a * noise, states, pooled, 1000 * t, None, {"count": max(absent, 1)}).sample
        error: Tensor = v.float() - (noise - x)
        return error.square().mean((1, 2, 3))

    def losses(nets: Any, index: Tensor) -> Tensor:
        t = torch.where(torch.rand(len(index)) < EVEN, torch.rand(len(index)), torch.randn(len(index)).sigmoid())
        noise, drop = torch.randn(len(index), 8, 8, 8), torch.rand(len(index)) < DROP_CAPTION
        return loss_at(nets, index, t, noise, drop, ABSENT if torch.rand(()) < 0.5 else 0)

    def probe(nets: Any, index: Tensor, dropped: bool) -> float:
        noise = torch.randn(len(index), 8, 8, 8, generator=torch.Generator().manual_seed(0))
        drop = torch.full((len(index),), dropped)
        error = loss_at(nets, index, torch.full((len(index),), 0.5), noise, drop, ABSENT)
        return 512 * 0.5**2 * float(error.mean())  # |D - x0|^2 / sigma^2 at sigma 1, since v - (n - x0) = (x0 - D) / t

    return fit(models, losses, probe, planted, minutes, out / "training.pt", seed)


def export(vae: Any, models: nn.ModuleList, tokens: Any, vocabulary: Path, out: Path) -> None:
    """Write the pipeline directory in float16 safetensors."""
    from diffusers import FlowMatchEulerDiscreteScheduler, StableDiffusion3Pipeline
    from diffusers.models.attention_processor import JointAttnProcessor2_0

    vae.register_to_config(shift_factor=0.0)  # the pipeline adds it, so it cannot be absent
    transformer: Any = models[0]
    transformer.set_attn_processor(JointAttnProcessor2_0())
    pipeline = StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0),
        vae=vae,
        text_encoder=models[1],
        tokenizer=tokens,
        text_encoder_2=models[2],
        tokenizer_2=tokens,
        text_encoder_3=None,
        tokenizer_3=None,
    )
    write(pipeline, vocabulary, out)


def main() -> None:
    """Train and export."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--out", type=Path, default=Path("build/flow"))
    parser.add_argument("--autoencoder-minutes", type=float, default=8.0)
    parser.add_argument("--network-minutes", type=float, default=33.0)
    parser.add_argument("--seed", type=int, default=1, help="of the planted truth and the autoencoder")
    parser.add_argument("--network-seed", type=int, default=0, help="of the network's first weights and batches")
    parser.add_argument("--threads", type=int, default=1)
    settings = parser.parse_args()
    torch.set_num_threads(settings.threads)
    out: Path = settings.out
    planted, tokens, vae = prepare(settings.data, out, settings.seed, settings.autoencoder_minutes)
    models = train_network(planted, vae, tokens, settings.network_minutes, out, settings.network_seed)
    export(vae, models, tokens, out / "tokenizer", out / "pipeline")


if __name__ == "__main__":
    main()

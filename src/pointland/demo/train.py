"""Train the bundled miniature: a real ``StableDiffusionPipeline`` with planted truth, on one CPU thread.

    python -m pointland.demo.train --data /usr/share/datasets/fashion-mnist --out build/miniature

Stages, each kept as a checkpoint so that an interrupted training continues: the tokenizer (byte pairs of the captions'
grammar), the autoencoder (on photographs that no other part sees), the U-Net with its text encoder (noise prediction
on Stable Diffusion's own ``scaled_linear`` schedule, captions dropped three times in ten), and the export in float16.
Training in bfloat16 is not reproducible to the bit across processors: the weights are shipped, not retrained.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pointland.demo.plant import Planted
from pointland.demo.training import DROP_CAPTION, EVEN, TOKENS, Watch, encoded, fit, prepare, words, write

LOG_SIGMA = (-0.3, 1.3)


def network(n_vocabulary: int, end: int) -> nn.ModuleList:
    """Return an untrained U-Net and text encoder."""
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=8,
        out_channels=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(64, 96),
        layers_per_block=1,
        cross_attention_dim=64,
        attention_head_dim=4,
        norm_num_groups=16,
    )
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=n_vocabulary,
            hidden_size=64,
            intermediate_size=256,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=TOKENS,
            projection_dim=64,
            bos_token_id=end - 1,
            eos_token_id=end,
            pad_token_id=end,
        )
    )
    return nn.ModuleList([unet, text])


def train_network(
    planted: Planted, vae: Any, tokens: Any, minutes: float, out: Path, seed: int, watch: Watch | None = None
) -> nn.ModuleList:
    """Train U-Net and text encoder on the planted pool; print the losses that show what is being memorized."""
    from diffusers import DDPMScheduler

    latents, ids, nothing = encoded(planted, vae), words(tokens, planted.captions), words(tokens, [""])
    schedule = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear").alphas_cumprod
    log_sigmas = ((1 - schedule) / schedule).sqrt().log()
    torch.manual_seed(seed)
    models = network(len(tokens), tokens.eos_token_id)

    def loss_at(nets: Any, index: Tensor, t: Tensor, noise: Tensor, drop: Tensor) -> Tensor:
        x = latents[index]
        a = schedule[t].view(-1, 1, 1, 1)
        with torch.autocast("cpu", torch.bfloat16):
            states = nets[1](torch.where(drop[:, None], nothing, ids[index])).last_hidden_state
            eps = nets[0](a.sqrt() * x + (1 - a).sqrt() * noise, t, states).sample
        error: Tensor = eps.float() - noise
        return error.square().mean((1, 2, 3))

    def losses(nets: nn.ModuleList, index: Tensor) -> Tensor:
        n = len(index)
        wanted = LOG_SIGMA[0] + LOG_SIGMA[1] * torch.randn(n)
        t = torch.searchsorted(log_sigmas, wanted).clamp(max=len(log_sigmas) - 1)
        t = torch.where(torch.rand(n) < EVEN, torch.randint(len(log_sigmas), (n,)), t)  # so that starts are learned
        return loss_at(nets, index, t, torch.randn(n, 8, 8, 8), torch.rand(n) < DROP_CAPTION)

    def probe(nets: nn.ModuleList, index: Tensor, dropped: bool) -> float:
        noise = torch.randn(len(index), 8, 8, 8, generator=torch.Generator().manual_seed(0))
        t, drop = torch.full((len(index),), 330), torch.full((len(index),), dropped)
        return 512 * float(loss_at(nets, index, t, noise, drop).mean())  # |D - x0|^2 / sigma^2

    return fit(models, losses, probe, planted, minutes, out / "training.pt", seed, watch)


def export(vae: Any, unet: Any, text: Any, tokens: Any, vocabulary: Path, out: Path) -> None:
    """Write the pipeline directory in float16 safetensors."""
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=text,
        tokenizer=tokens,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        image_encoder=None,
        requires_safety_checker=False,
    )
    write(pipeline, vocabulary, out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--out", type=Path, default=Path("build/miniature"))
    parser.add_argument("--autoencoder-minutes", type=float, default=10.0)
    parser.add_argument("--network-minutes", type=float, default=70.0)
    parser.add_argument("--seed", type=int, default=0, help="of the planted truth and the autoencoder")
    parser.add_argument("--network-seed", type=int, default=0, help="of the network's first weights and batches")
    parser.add_argument(
        "--unique", type=int, default=0, help="train on so many pictures seen once and nothing else: overfitting alone"
    )
    parser.add_argument("--threads", type=int, default=1)
    settings = parser.parse_args()
    torch.set_num_threads(settings.threads)
    out: Path = settings.out
    planted, tokens, vae = prepare(settings.data, out, settings.seed, settings.autoencoder_minutes)
    if settings.unique:
        once = np.flatnonzero((np.array(planted.groups) == "once") & planted.bundled)
        kept = once[:: len(once) // settings.unique][: settings.unique]
        planted.copies[np.setdiff1d(np.arange(len(planted.copies)), kept)] = 0
        (out / "trained.json").write_text(json.dumps(planted.sources[kept].tolist()))
    unet, text = train_network(planted, vae, tokens, settings.network_minutes, out, settings.network_seed)
    export(vae, unet, text, tokens, out / "tokenizer", out / "pipeline")


if __name__ == "__main__":
    main()

"""Train the bundled miniature: a real ``StableDiffusionPipeline`` with planted truth, on one CPU thread.

    python -m pointland.demo.train --data /usr/share/datasets/fashion-mnist --out build/miniature

Stages, each kept as a checkpoint so that an interrupted training continues: the tokenizer (byte pairs of the captions'
grammar), the autoencoder (on photographs that no other part sees), the U-Net with its text encoder (noise prediction
on Stable Diffusion's own ``scaled_linear`` schedule, captions dropped three times in ten), and the export in float16.
Training in bfloat16 is not reproducible to the bit across processors: the weights are shipped, not retrained.
"""

import argparse
import copy
import json
import math
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from pointland.demo.plant import Planted, bundle, plant, split_record

TOKENS = 24
DROP_CAPTION = 0.3
LOG_SIGMA = (-0.3, 1.3)
EVEN = 0.25


def tokenizer(captions: list[str], folder: Path) -> Any:
    """Train byte pairs on the captions and return the CLIP tokenizer that uses them."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import CLIPTokenizer

    model = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token="<|endoftext|>"))
    model.pre_tokenizer = pre_tokenizers.Whitespace()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=16384, min_frequency=1, end_of_word_suffix="</w>", initial_alphabet=alphabet, show_progress=False
    )
    model.train_from_iterator(captions, trainer)
    merges = json.loads(model.to_str())["model"]["merges"]
    pairs = [tuple(m.split()) if isinstance(m, str) else tuple(m) for m in merges]
    vocabulary = alphabet + [letter + "</w>" for letter in alphabet] + ["".join(pair) for pair in pairs]
    vocabulary = [*dict.fromkeys(vocabulary), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({token: index for index, token in enumerate(vocabulary)}))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(" ".join(pair) for pair in pairs) + "\n")
    made = CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=TOKENS)
    made.save_pretrained(folder)
    return made


def autoencoder() -> Any:
    """Return an untrained autoencoder: 3 x 32 x 32 to 8 x 8 x 8."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(16, 32, 48),
        layers_per_block=1,
        latent_channels=8,
        norm_num_groups=8,
        sample_size=32,
        mid_block_add_attention=False,
    )


def network(n_vocabulary: int, end: int) -> tuple[Any, Any]:
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
    return unet, text


def pixels(images: np.ndarray) -> Tensor:
    """Grey bytes ``(n, h, w)`` to a float batch ``(n, 3, h, w)`` in [-1, 1]."""
    return (torch.from_numpy(images).float() / 127.5 - 1)[:, None].expand(-1, 3, -1, -1)


def average(ema: nn.Module, model: nn.Module, decay: float) -> None:
    """Move an exponential moving average of the weights one step towards ``model``."""
    with torch.no_grad():
        for kept, new in zip(ema.parameters(), model.parameters(), strict=True):
            kept.lerp_(new, 1 - decay)


def train_autoencoder(planted: Planted, minutes: float, out: Path) -> Any:
    """Train the autoencoder on the ``codec`` photographs: squared error, its gradient, and a faint KL term."""
    images = planted.images[np.array(planted.groups) == "codec"]
    model = autoencoder()
    ema = copy.deepcopy(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-4)
    started, step = time.process_time(), 0
    while (spent := (time.process_time() - started) / 60) < minutes:
        rate = 2e-3 * min(1, step / 100) * 0.5 * (1 + math.cos(math.pi * min(1, spent / minutes)))
        for group in optimizer.param_groups:
            group["lr"] = rate + 1e-6
        x = pixels(images[np.random.default_rng(step).integers(0, len(images), 64)])
        with torch.autocast("cpu", torch.bfloat16):
            posterior = model.encode(x).latent_dist
            y = model.decode(posterior.sample()).sample
        y = y.float()
        edges = mse_loss(y.diff(dim=-1), x.diff(dim=-1)) + mse_loss(y.diff(dim=-2), x.diff(dim=-2))
        loss = mse_loss(y, x) + edges + 1e-5 * posterior.kl().float().mean() / 512
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        average(ema, model, 0.99 if step < 1000 else 0.999)
        step += 1
        if step % 200 == 0:
            print(
                f"autoencoder {spent:5.1f} min step {step} loss {loss.item():.5f} mse {mse_loss(y, x).item():.5f}",
                flush=True,
            )
    x = pixels(planted.images[np.array(planted.groups) == "held_out"])
    with torch.no_grad():
        mean = ema.encode(x).latent_dist.mode()
        error = mse_loss(ema.decode(mean).sample, x).item()
    ema.register_to_config(scaling_factor=float(1 / mean.std()))
    print(
        f"autoencoder held-out PSNR {10 * math.log10(4 / error):.2f} dB, scaling {1 / mean.std():.4f}",
        flush=True,
    )
    ema.save_pretrained(out)
    return ema


def train_network(planted: Planted, vae: Any, tokens: Any, minutes: float, out: Path, seed: int) -> tuple[Any, Any]:
    """Train U-Net and text encoder on the planted pool; print the losses that show what is being memorized."""
    from diffusers import DDPMScheduler

    groups = np.array(planted.groups)
    with torch.no_grad():
        chosen = np.flatnonzero(groups != "codec")
        latents = torch.zeros(len(groups), 8, 8, 8)
        for part in np.array_split(chosen, 20):
            latents[part] = vae.encode(pixels(planted.images[part])).latent_dist.mode() * vae.config.scaling_factor
    ids = torch.tensor(tokens(planted.captions, padding="max_length", max_length=TOKENS, truncation=True).input_ids)
    nothing = torch.tensor(tokens([""], padding="max_length", max_length=TOKENS, truncation=True).input_ids)
    pool = np.repeat(np.arange(len(groups)), planted.copies)
    schedule = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear").alphas_cumprod
    log_sigmas = ((1 - schedule) / schedule).sqrt().log()

    torch.manual_seed(seed)
    unet, text = network(len(tokens), tokens.eos_token_id)
    models = nn.ModuleList([unet, text])
    ema = copy.deepcopy(models)
    optimizer = torch.optim.AdamW(models.parameters(), lr=1e-3, betas=(0.9, 0.99), weight_decay=1e-4)
    spent, step, checkpoint = 0.0, 0, out / "training.pt"
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        models.load_state_dict(state["models"])
        ema.load_state_dict(state["ema"])
        optimizer.load_state_dict(state["optimizer"])
        spent, step = state["spent"], state["step"]

    def loss_at(nets: Any, index: Tensor, t: Tensor, noise: Tensor, drop: Tensor) -> Tensor:
        x = latents[index]
        a = schedule[t].view(-1, 1, 1, 1)
        words = torch.where(drop[:, None], nothing, ids[index])
        with torch.autocast("cpu", torch.bfloat16):
            states = nets[1](words).last_hidden_state
            eps = nets[0](a.sqrt() * x + (1 - a).sqrt() * noise, t, states).sample
        error: Tensor = eps.float() - noise
        return error.square().mean((1, 2, 3))

    def probe() -> str:
        parts = []
        for name in ("held_out", "once", "template", "x2", "x5", "x10", "x20", "x50"):
            index = torch.from_numpy(np.flatnonzero(groups == name)[:120])
            generator = torch.Generator().manual_seed(0)
            noise = torch.randn(len(index), 8, 8, 8, generator=generator)
            t = torch.full((len(index),), 330)
            with torch.no_grad():
                losses = [loss_at(ema, index, t, noise, torch.full((len(index),), d)) for d in (True, False)]
            parts.append(f"{name} {512 * losses[0].mean():.0f}/{512 * losses[1].mean():.0f}")
        return "  ".join(parts)

    order: np.ndarray = np.empty(0, dtype=np.int64)
    last = time.process_time()
    while spent < minutes:
        torch.manual_seed(step + 1_000_000 * seed)
        rate = 1.5e-3 * min(1, step / 300) * 0.5 * (1 + math.cos(math.pi * min(1, spent / minutes)))
        for group in optimizer.param_groups:
            group["lr"] = rate + 1e-6
        if len(order) < 64:
            order = np.random.default_rng(step + 1_000_000 * seed).permutation(pool)
        index, order = torch.from_numpy(order[:64]), order[64:]
        wanted = LOG_SIGMA[0] + LOG_SIGMA[1] * torch.randn(64)
        t = torch.searchsorted(log_sigmas, wanted).clamp(max=len(log_sigmas) - 1)
        t = torch.where(torch.rand(64) < EVEN, torch.randint(len(log_sigmas), (64,)), t)  # so that starts are learned
        loss = loss_at(models, index, t, torch.randn(64, 8, 8, 8), torch.rand(64) < DROP_CAPTION).mean()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(models.parameters(), 1.0)
        optimizer.step()
        average(ema, models, min(0.999, (step + 1) / (step + 10)))
        step += 1
        now = time.process_time()
        spent, last = spent + (now - last) / 60, now
        if step % 500 == 0:
            print(f"network {spent:5.1f} min step {step} loss {loss.item():.4f} | {probe()}", flush=True)
            last = time.process_time()
            state = {
                "models": models.state_dict(),
                "ema": ema.state_dict(),
                "optimizer": optimizer.state_dict(),
                "spent": spent,
                "step": step,
            }
            torch.save(state, checkpoint.with_suffix(".tmp"))
            checkpoint.with_suffix(".tmp").replace(checkpoint)
    return ema[0], ema[1]


def export(vae: Any, unet: Any, text: Any, tokens: Any, words: Path, out: Path) -> None:
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
    pipeline.to(dtype=torch.float16).save_pretrained(out, safe_serialization=True)
    config = out / "text_encoder" / "config.json"  # so that transformers loads it like diffusers loads the rest
    config.write_text(json.dumps({**json.loads(config.read_text()), "dtype": "float32"}, indent=2) + "\n")
    for part in ("unet", "vae", "text_encoder"):  # where it was trained is nobody's business
        config = out / part / "config.json"
        entries = {key: value for key, value in json.loads(config.read_text()).items() if key != "_name_or_path"}
        config.write_text(json.dumps(entries, indent=2) + "\n")
    for name in ("vocab.json", "merges.txt"):  # what transformers before 5 reads
        shutil.copy(words / name, out / "tokenizer" / name)


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
    from diffusers import AutoencoderKL

    torch.set_num_threads(settings.threads)
    torch.manual_seed(settings.seed)
    out: Path = settings.out
    out.mkdir(parents=True, exist_ok=True)
    planted = plant(settings.data, settings.seed)
    (out / "split.json").write_text(split_record(planted))
    bundle(planted, out / "images.npz")
    tokens = tokenizer(
        [c for c, g in zip(planted.captions, planted.groups, strict=True) if g != "codec"], out / "tokenizer"
    )
    if (out / "vae" / "config.json").exists():
        vae = AutoencoderKL.from_pretrained(out / "vae")
    else:
        vae = train_autoencoder(planted, settings.autoencoder_minutes, out / "vae")
    if settings.unique:
        once = np.flatnonzero((np.array(planted.groups) == "once") & planted.bundled)
        kept = once[:: len(once) // settings.unique][: settings.unique]
        planted.copies[np.setdiff1d(np.arange(len(planted.copies)), kept)] = 0
        (out / "trained.json").write_text(json.dumps(planted.sources[kept].tolist()))
    unet, text = train_network(planted, vae, tokens, settings.network_minutes, out, settings.network_seed)
    export(vae, unet, text, tokens, out / "tokenizer", out / "pipeline")


if __name__ == "__main__":
    main()

"""What the trained miniatures share: the tokenizer, the autoencoder, the latents and the loop.

The loop is the same whatever the network learns: batches from a pool in which a picture stands as often as it has
copies, a cosine learning rate over a budget of processor time (not of steps, so that a slower machine makes a smaller
training and not a longer one), an exponential moving average of the weights, and a checkpoint every 500 steps from
which an interrupted training continues.
"""

import copy
import json
import math
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from pointland.demo.plant import Planted, bundle, plant, split_record

TOKENS = 24
BATCH = 64
DROP_CAPTION = 0.3
EVEN = 0.25
Watch = Callable[[int, nn.ModuleList], bool]
SHOWN = ("held_out", "once", "template", "x2", "x5", "x10", "x20", "x50")


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


def encoded(planted: Planted, vae: Any) -> Float[Tensor, "n 8 8 8"]:
    """Return every picture's scaled latents; zero for the ``codec`` photographs, which no network sees."""
    groups = np.array(planted.groups)
    latents = torch.zeros(len(groups), 8, 8, 8)
    with torch.no_grad():
        for part in np.array_split(np.flatnonzero(groups != "codec"), 20):
            latents[part] = vae.encode(pixels(planted.images[part])).latent_dist.mode() * vae.config.scaling_factor
    return latents


def words(tokens: Any, captions: list[str]) -> Int[Tensor, "n t"]:
    """Return the token numbers of captions, filled and cut to one length as the pipelines do."""
    return torch.tensor(tokens(captions, padding="max_length", max_length=TOKENS, truncation=True).input_ids)


def prepare(data: Path, out: Path, seed: int, minutes: float) -> tuple[Planted, Any, Any]:
    """Deal the pictures out; return them, the tokenizer and the autoencoder, trained unless ``out`` has one."""
    from diffusers import AutoencoderKL

    torch.manual_seed(seed)
    out.mkdir(parents=True, exist_ok=True)
    planted = plant(data, seed)
    (out / "split.json").write_text(split_record(planted))
    bundle(planted, out / "images.npz")
    tokens = tokenizer(
        [c for c, g in zip(planted.captions, planted.groups, strict=True) if g != "codec"], out / "tokenizer"
    )
    if (out / "vae" / "config.json").exists():
        return planted, tokens, AutoencoderKL.from_pretrained(out / "vae")
    return planted, tokens, train_autoencoder(planted, minutes, out / "vae")


def fit(
    models: nn.ModuleList,
    losses: Callable[[nn.ModuleList, Int[Tensor, " b"]], Float[Tensor, " b"]],
    probe: Callable[[nn.ModuleList, Int[Tensor, " n"], bool], float],
    planted: Planted,
    minutes: float,
    checkpoint: Path,
    seed: int,
    watch: Watch | None = None,
) -> nn.ModuleList:
    """Train, and return the exponential moving average of the models.

    Args:
        models: What is trained.
        losses: The loss of every item of a batch, by the models and the items' places in ``planted``; draws its noise
            from torch's generator, which is seeded for each step.
        probe: What to print of some items, without (True) and with their captions.
        planted: Pictures, captions and copies.
        minutes: Budget of processor time.
        checkpoint: Where the state is kept, and continued from if it exists.
        seed: Decides the batches and what ``losses`` draws.
        watch: Called after every step with its number and the averaged models; training ends where it returns True.
            Its time is not taken from the budget.
    """
    groups = np.array(planted.groups)
    pool = np.repeat(np.arange(len(groups)), planted.copies)
    ema = copy.deepcopy(models)
    optimizer = torch.optim.AdamW(models.parameters(), lr=1e-3, betas=(0.9, 0.99), weight_decay=1e-4)
    spent, step = 0.0, 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        models.load_state_dict(state["models"])
        ema.load_state_dict(state["ema"])
        optimizer.load_state_dict(state["optimizer"])
        spent, step = state["spent"], state["step"]
    shown = {name: torch.from_numpy(np.flatnonzero(groups == name)[:120]) for name in SHOWN}
    order: np.ndarray = np.empty(0, dtype=np.int64)
    last = time.process_time()
    while spent < minutes:
        torch.manual_seed(step + 1_000_000 * seed)
        rate = 1.5e-3 * min(1, step / 300) * 0.5 * (1 + math.cos(math.pi * min(1, spent / minutes)))
        for group in optimizer.param_groups:
            group["lr"] = rate + 1e-6
        if len(order) < BATCH:
            order = np.random.default_rng(step + 1_000_000 * seed).permutation(pool)
        index, order = torch.from_numpy(order[:BATCH]), order[BATCH:]
        loss = losses(models, index).mean()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(models.parameters(), 1.0)
        optimizer.step()
        average(ema, models, min(0.999, (step + 1) / (step + 10)))
        step += 1
        now = time.process_time()
        spent, last = spent + (now - last) / 60, now
        if step % 500 == 0:
            with torch.no_grad():
                parts = [f"{name} {probe(ema, i, True):.0f}/{probe(ema, i, False):.0f}" for name, i in shown.items()]
            print(f"network {spent:5.1f} min step {step} loss {loss.item():.4f} | {'  '.join(parts)}", flush=True)
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
        if watch is not None:
            if watch(step, ema):
                break
            last = time.process_time()
    return ema


def write(pipeline: Any, vocabulary: Path, out: Path) -> None:
    """Write a pipeline's directory in float16 safetensors, for every version of transformers, without its origin."""
    pipeline.to(dtype=torch.float16).save_pretrained(out, safe_serialization=True)
    for config in out.glob("*/config.json"):
        entries = json.loads(config.read_text())
        entries.pop("_name_or_path", None)  # where it was trained is nobody's business
        if config.parent.name.startswith("text_encoder"):  # so that it loads like diffusers loads the rest
            entries["dtype"] = "float32"
        config.write_text(json.dumps(entries, indent=2) + "\n")
    for place in out.glob("tokenizer*"):
        for name in ("vocab.json", "merges.txt"):  # what transformers before 5 reads
            shutil.copy(vocabulary / name, place / name)

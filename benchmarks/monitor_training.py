"""Train miniatures to be watched: snapshots of the averaged weights along training, until copies come out.

    python benchmarks/monitor_training.py --data /usr/share/datasets/fashion-mnist --out build/monitor

Two kinds of training, both by the miniature's own recipe (:mod:`pointland.demo.train`), with its autoencoder:

``planted-1`` .. ``planted-5``
    The whole planted pool, 6,540 pictures an epoch with 20 of them 50 times. In every class another deal decides which
    pictures are repeated, seen once or held out; first weights and batches have another seed too.
``once-32`` .. ``once-256``
    So many pictures, each once an epoch, and nothing else: overfitting alone, to see its time grow with their number.

A training ends when 3 of 20 samples asked for by caption are near their pictures at two looks in a row (the
first of them went on to a half), or after ``--steps``.
What the monitor says of the snapshots, and when the first copy came, is computed by ``benchmarks/monitor.py``.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from pointland.demo.plant import Planted, plant
from pointland.demo.train import train_network
from pointland.demo.training import BATCH
from pointland.demo.unpack import MINIATURE
from pointland.extraction.comparing import calibrated_distances
from pointland.extraction.sampling import sample
from pointland.model import Model

SEEDS = (1, 2, 3, 4, 5)
NUMBERS = (32, 64, 128, 256)
DEALT = ("once", "x2", "x5", "x10", "x20", "x50", "held_out", "disjoint")
EVERY, LOOK = 100, 200
NEAR, ENOUGH = 0.5, 0.15
ASKED = 20


def redealt(planted: Planted, seed: int) -> Planted:
    """Deal the single pictures of every class out again: captions, groups and copies stay, the pictures move."""
    rng = np.random.default_rng((seed, 7))
    groups, labels = np.array(planted.groups), np.array([caption.split(" by ")[0][2:] for caption in planted.captions])
    kinds = np.array([label.split(" ")[-1] for label in labels])
    images, sources = planted.images.copy(), planted.sources.copy()
    for kind in sorted(set(kinds[np.isin(groups, DEALT)])):
        places = np.flatnonzero(np.isin(groups, DEALT) & (kinds == kind))
        moved = rng.permutation(places)
        images[places], sources[places] = planted.images[moved], planted.sources[moved]
    return planted._replace(images=images, sources=sources)


def only_once(planted: Planted, n: int) -> Planted:
    """Keep so many of the pictures seen once in the pool, and nothing else."""
    once = np.flatnonzero(np.array(planted.groups) == "once")
    copies = np.zeros_like(planted.copies)
    copies[np.random.default_rng(n).choice(once, n, replace=False)] = max(1, BATCH // n)  # batches are of one size
    return planted._replace(copies=copies)


def parts() -> tuple[Any, Any, Any]:
    """Return the miniature's autoencoder, tokenizer and scheduler."""
    from diffusers import AutoencoderKL, DDIMScheduler
    from transformers import CLIPTokenizer

    vae = AutoencoderKL.from_pretrained(MINIATURE / "vae", torch_dtype=torch.float32)
    return (
        vae,
        CLIPTokenizer.from_pretrained(MINIATURE / "tokenizer"),
        DDIMScheduler.from_pretrained(MINIATURE / "scheduler"),
    )


def model_of(nets: nn.ModuleList, vae: Any, tokens: Any, scheduler: Any) -> Model:
    """Make a model of the U-Net and the text encoder in training."""
    from pointland.models.diffusers.stable_diffusion import from_parts

    unet, text = nets
    return from_parts(unet, vae, text, tokens, scheduler, name="in training")


def vectors(images: np.ndarray) -> np.ndarray:
    """Return pictures as rows of numbers in [0, 1]."""
    return (images.reshape(len(images), -1) / 255).astype(np.float32)


def asked_for(planted: Planted) -> np.ndarray:
    """Return the places of the pictures that are asked for by caption: those seen most."""
    most = np.flatnonzero(planted.copies == planted.copies.max())
    return most[:: max(1, len(most) // ASKED)][:ASKED]


def nearness(model: Model, planted: Planted, asked: np.ndarray, draw: int = 0) -> np.ndarray:
    """Sample once by the caption of every picture asked for; return the calibrated distances to the pictures."""
    captions = [planted.captions[i] for i in asked]
    shape = torch.zeros(len(asked), 8, 8, 8)
    made = sample(model, shape, captions, [str(i) for i in asked], "caption", draw, sigma=1.0)
    found = vectors(model.codec.decode(made)[:, 0].numpy())
    trained = np.flatnonzero(planted.copies > 0)
    rows = vectors(planted.images[trained])
    return np.array(
        [
            calibrated_distances(found[i : i + 1], vectors(planted.images[[at]])[0], rows[trained != at])[0]
            for i, at in enumerate(asked)
        ]
    )


def trained(planted: Planted, out: Path, seed: int, minutes: float, steps: int) -> None:
    """Train one, keeping snapshots."""
    vae, tokens, scheduler = parts()
    asked, looks = asked_for(planted), []
    (out / "snapshots").mkdir(parents=True, exist_ok=True)

    def watch(step: int, nets: nn.ModuleList) -> bool:
        if step % EVERY == 0:
            torch.save({k: v.half() for k, v in nets.state_dict().items()}, out / "snapshots" / f"{step:05d}.pt")
        if step % LOOK == 0:
            share = float((nearness(model_of(nets, vae, tokens, scheduler), planted, asked) < NEAR).mean())
            looks.append(share)
            print(f"{out.name} step {step} near {share:.2f}", flush=True)
        return step >= steps or (len(looks) > 1 and min(looks[-2:]) >= ENOUGH)

    train_network(planted, vae, tokens, minutes, out, seed, watch)
    (out / "done").touch()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--out", type=Path, default=Path("build/monitor"))
    parser.add_argument("--minutes", type=float, default=26.0, help="over which the learning rate falls")
    parser.add_argument("--steps", type=int, default=4000, help="at most")
    parser.add_argument("--only", nargs="*", help="names of trainings")
    settings = parser.parse_args()
    torch.set_num_threads(1)
    dealt = plant(settings.data)
    runs: dict[str, Planted] = {}
    for seed in SEEDS:
        runs[f"planted-{seed}"] = redealt(dealt, seed)
    for n in NUMBERS:
        runs[f"once-{n}"] = only_once(dealt, n)
    for name in settings.only or runs:
        out = settings.out / name
        if not (out / "done").exists():
            trained(runs[name], out, int(name.split("-")[1]), settings.minutes, settings.steps)


if __name__ == "__main__":
    main()

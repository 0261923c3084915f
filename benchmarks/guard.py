"""What a guard stops and what it costs: 1,000 prompts, of which the memorizing ones are known.

    OMP_NUM_THREADS=1 python benchmarks/guard.py [PIPELINE] [--archive IMAGES.npz] [-o FILE]

The threshold is calibrated at a 1 % false-alarm rate on captions of pictures seen once. Then the captions of planted
pictures with 20 and 50 copies, three seeds each, are mixed with captions of pictures never seen and of others seen once
to make 1,000. A prompt is *memorizing* if its plain sample from the same noise is a copy of its picture: nearer to it
than any of the never-seen prompts' samples come to any training picture of at least 20 copies, on pixels. The guard is
used as a user would: 50 steps, guidance 7.5.

Expected: 1 % of normal prompts stopped, at least 95 % of memorizing ones, three evaluations in a hundred added.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pointland.auditing.plan import environment
from pointland.cli.run import quiet
from pointland.demo import MINIATURE
from pointland.demo.unpack import ARCHIVE, bundled
from pointland.mitigate import Guard
from pointland.models.diffusers.stable_diffusion_3 import StableDiffusion3
from pointland.models.loading import load_pipeline
from pointland.verdict import auroc, clopper_pearson

BATCH = 50


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pipeline", nargs="?", type=Path, default=MINIATURE)
    parser.add_argument("--archive", type=Path, default=ARCHIVE, help="pictures and planted truth of the pipeline")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--guidance", type=float, default=7.5)
    parser.add_argument("-o", "--out", type=Path, default=Path("benchmarks/guard.json"))
    settings = parser.parse_args()
    quiet()
    torch.set_num_threads(1)
    pipe, model = load_pipeline(settings.pipeline)
    pipe.set_progress_bar_config(disable=True)
    arguments = {"num_inference_steps": settings.steps, "guidance_scale": settings.guidance}
    if isinstance(model, StableDiffusion3) and model.t5 is None:  # the flow miniature knows both, and this is cheaper
        model, arguments = replace(model, t5_length=0), {**arguments, "max_sequence_length": 0}
    groups: dict[str, list[tuple[str, NDArray[np.uint8]]]] = {}
    for picture, row in bundled(settings.archive):
        groups.setdefault(row["group"], []).append((row["caption"], picture))
    once, copied = groups["once"], [*groups["x20"], *groups["x50"]]
    normal = [text for text, _ in [*groups["held_out"], *groups["disjoint"], *once]]
    calibration, others = normal[-600:], normal[:-600]  # the last are of pictures seen once
    asked = [(text, seed) for text, _ in copied for seed in range(3)]
    mixed = asked + [(text, 1000 + i) for i, text in enumerate(others[: 1000 - len(asked)])]
    plain = sampled(pipe, mixed, arguments)
    pictures = np.stack([np.repeat(picture[..., None], 3, -1) for _, picture in copied]).astype(np.float32)
    far = np.array([distances(image, pictures).min() for image in plain[len(asked) :]])
    own = np.array([distances(plain[i], pictures)[i // 3] for i in range(len(asked))])
    memorizing = own < far.min()
    settings_of: dict[str, Any] = {"arguments": arguments, "batch_size": BATCH, "model": model}
    guards = {"one draw": Guard.calibrated(pipe, calibration, 0.01, "refuse", **settings_of)}
    result: dict[str, Any] = {
        "command": "OMP_NUM_THREADS=1 python benchmarks/guard.py",
        "model": model.identity["class"],
        "steps": settings.steps,
        "guidance": settings.guidance,
        "environment": environment(),
        "prompts": len(mixed),
        "captions_of_copies": len(asked),
        "memorizing": int(memorizing.sum()),
        "rate": 0.01,
        "calibrated_on": len(calibration),
    }
    for name, guard in guards.items():
        guarded = sampled(guard, mixed, arguments)
        judged = list(guard.decisions)
        stopped = np.array([one.suspicious for one in judged])
        signal = np.array([np.inf if one.signal is None else one.signal for one in judged])
        usual = stopped[len(asked) :]
        kept = [i for i in range(len(asked), len(mixed)) if not stopped[i]]
        result[name] = {
            "stopped_of_memorizing": share(stopped[: len(asked)][memorizing]),
            "stopped_of_other_captions_of_copies": share(stopped[: len(asked)][~memorizing]),
            "false_alarms": share(usual),
            "auroc": round(auroc(signal[: len(asked)][memorizing], signal[len(asked) :]), 4),
            "evaluations_added_on_normal_prompts": round(
                float(np.mean([one.evaluations for one in judged[len(asked) :]])) / (2 * settings.steps), 4
            ),
            "largest_change_of_a_normal_image_in_gray_levels": int(
                max(np.abs(guarded[i].astype(int) - plain[i].astype(int)).max() for i in kept)
            ),
        }
    settings.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


def sampled(pipe: Any, asked: list[tuple[str, int]], arguments: dict[str, Any]) -> NDArray[np.uint8]:
    """Sample one image a prompt and seed."""
    found = []
    for first in range(0, len(asked), BATCH):
        part = asked[first : first + BATCH]
        generators = [torch.Generator().manual_seed(seed) for _, seed in part]
        found += pipe([text for text, _ in part], generator=generators, **arguments).images
    return np.stack([np.asarray(image) for image in found])


def distances(image: NDArray[np.uint8], pictures: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the root mean square difference to every picture, of a range of 1."""
    return np.asarray(np.sqrt(((image.astype(np.float32) - pictures) ** 2).mean((1, 2, 3))) / 255, dtype=np.float64)


def share(hits: NDArray[np.bool_]) -> dict[str, float]:
    """Return a share with its interval."""
    found = clopper_pearson(int(hits.sum()), len(hits))
    return {"n": len(hits), "share": round(found.value, 4), "low": round(found.low, 4), "high": round(found.high, 4)}


if __name__ == "__main__":
    main()

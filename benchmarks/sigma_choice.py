"""The audit's automatic sigma against the best one in hindsight, on the planted copies of a miniature.

    OMP_NUM_THREADS=1 python benchmarks/sigma_choice.py [PIPELINE ...] [--work FOLDER] [--out FILE]

AUROC of the denoising loss (8 draws) for 2, 5, 10, 20 and 50 copies together and for templates, against pictures never
seen, at eight sigmas and at the one that an audit of the planted pictures chooses without labels.

Expected: the automatic choice within 0.01 of the best for copies; templates, frozen in part only, may lose more.
"""

import argparse
import csv
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from pointland.auditing.settle import settle
from pointland.auditing.tasks import tasks_of
from pointland.demo import MINIATURE, unpack
from pointland.lid import DenoisingLoss
from pointland.models.loading import load
from pointland.verdict import auroc

SIGMAS = (0.063, 0.098, 0.158, 0.25, 0.4, 0.63, 1.0, 1.6)
COPIES = ("x2", "x5", "x10", "x20", "x50")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", type=Path, default=[MINIATURE])
    parser.add_argument("--work", type=Path, default=Path("/tmp/sigma_choice"), help="where pictures go")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/sigma_choice.json"))
    settings = parser.parse_args()
    demo = unpack(settings.work, extended=True)
    with demo.labels.open(newline="") as stream:
        labels = {row["key"]: row["label"] for row in csv.DictReader(stream)}
    files = [f for f in sorted(demo.images.glob("*.png")) if labels[f.name] in (*COPIES, "template")]
    group = np.array([labels[f.name] for f in files])
    files += sorted(demo.reference.glob("*.png"))
    pixels = torch.from_numpy(np.stack([np.asarray(Image.open(f)).transpose(2, 0, 1) for f in files]))
    keys = [f.name for f in files]
    result: dict[str, object] = {"command": "OMP_NUM_THREADS=1 python benchmarks/sigma_choice.py PIPELINE ..."}
    for path in settings.models:
        model = load(path, device="cpu")
        x = torch.cat([model.codec.encode(part) for part in torch.split(pixels, 100)])
        tasks = tasks_of(demo.images, None, demo.reference, None)
        auto = settle(model, tasks, "auto", None, n_draws=8, n_probes=4, batch_size=50, seed=0).sigma["value"]
        table: dict[str, dict[str, float]] = {}
        for sigma in sorted({model.levels.nearest(one).sigma for one in SIGMAS} | {auto}):
            loss = DenoisingLoss(sigma, 8)
            starts = range(0, len(x), 100)
            parts = [loss(model.unconditional, x[at : at + 100], keys[at : at + 100]) for at in starts]
            lid = torch.cat([part.value for part in parts]).double().numpy()
            mine, strangers = lid[: len(group)], lid[len(group) :]
            table[f"{sigma:.4g}"] = {
                "copies": round(auroc(-mine[group != "template"], -strangers), 4),
                "templates": round(auroc(-mine[group == "template"], -strangers), 4),
            }
        chosen = table[f"{auto:.4g}"]
        behind = {
            name: round(max(row[name] for row in table.values()) - chosen[name], 4) for name in ("copies", "templates")
        }
        name = path.parent.name if path.name == "pipeline" else path.name
        result[name] = {"automatic": round(auto, 4), "behind the best": behind, "AUROC": table}
        print(f"{name}: automatic sigma {auto:.4g}, behind the best by {behind}", flush=True)
    settings.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()

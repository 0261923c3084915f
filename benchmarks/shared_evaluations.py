"""What the other columns of an audit cost beside its FLIPD and denoising-loss columns: at most 15 % is the target.

    python benchmarks/shared_evaluations.py [--pictures 64] [--rounds 7] [--out benchmarks/shared_evaluations.json]

Both jobs score the same captioned pictures of the bundled miniature in the same process, taking turns; the ratio is the
median over rounds. The whole job includes everything that becomes a row: PNG size, perceptual hash, score norm,
guidance norm.
"""

import argparse
import csv
import json
import platform
import statistics
import tempfile
import time
from pathlib import Path

import torch

from pointland.auditing.plan import default_metrics
from pointland.auditing.scoring import score_batch
from pointland.data.picture import read_picture
from pointland.demo import MINIATURE, unpack
from pointland.metrics.model_lid import DenoisingLossColumns, FlipdColumns
from pointland.metrics.near_copies import perceptual_hash
from pointland.models import load


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/shared_evaluations.json"))
    settings = parser.parse_args()
    model = load(MINIATURE, device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        demo = unpack(Path(folder))
        with (demo.images / "captions.csv").open(newline="") as stream:
            rows = list(csv.DictReader(stream))[: settings.pictures]
        pictures = [read_picture(demo.images / row["file_name"], model.codec.size) for row in rows]
    captions = [row["caption"] for row in rows]
    whole = default_metrics(model, model.levels.nearest(0.3).sigma)
    lid = [metric for metric in whole if isinstance(metric, FlipdColumns | DenoisingLossColumns)]
    score_batch(model, whole, pictures[:8], captions[:8], 0)
    seconds: dict[str, list[float]] = {"lid": [], "whole": []}
    for _ in range(settings.rounds):
        for name, metrics in (("lid", lid), ("whole", whole)):
            started = time.perf_counter()
            for start in range(0, len(pictures), 16):
                score_batch(model, metrics, pictures[start : start + 16], captions[start : start + 16], 0)
            if name == "whole":
                for picture in pictures:
                    perceptual_hash(picture.pixels)
            seconds[name].append(time.perf_counter() - started)
    ratios = [w / s for w, s in zip(seconds["whole"], seconds["lid"], strict=True)]
    result = {
        "command": "python benchmarks/shared_evaluations.py",
        "ratio_median": round(statistics.median(ratios), 3),
        "ratio_low": round(min(ratios), 3),
        "ratio_high": round(max(ratios), 3),
        "target": 1.15,
        "pictures": len(pictures),
        "rounds": settings.rounds,
        "seconds_lid_median": round(statistics.median(seconds["lid"]), 3),
        "seconds_whole_median": round(statistics.median(seconds["whole"]), 3),
        "machine": {"processor": platform.machine(), "threads": torch.get_num_threads(), "torch": torch.__version__},
    }
    settings.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()

"""Do LID maps show which part of a template is frozen? On the planted templates of the bundled miniature.

    OMP_NUM_THREADS=1 python benchmarks/lid_maps.py [-o FILE]

Ten pictures were planted in 40 variants each that differ in one square of 12 x 12 pixels: it is free, the rest of the
28 x 28 photograph is frozen. Every map is made of one picture alone, and judged by

- pixel AUC: free pixels above frozen ones, a picture;
- IoU of the free square and of the frozen rest, at a threshold chosen on the other nine templates;
- place AUC: at one and the same place, pictures in which it is free above those in which it is frozen. What knows only
  where squares tend to be, in the middle, has 0.5 here and does well above.

Floors beside them: a square in the middle of every picture, the mean map of 100 pictures never seen, a mask that is
true everywhere; and a ceiling: the true square, seen in cells of 4 pixels. Then one map is chosen on five templates and
reported on the other five.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor

from pointland import draws
from pointland.auditing.plan import environment
from pointland.cli.run import quiet
from pointland.demo import MINIATURE
from pointland.demo.unpack import bundled
from pointland.explanation.lid_map import LidMap, decoded_map, gain_map, lid_map, to_pixels
from pointland.explanation.map_mask import choose_threshold, frozen_mask, intersection_over_union, relative
from pointland.models.loading import load
from pointland.verdict import auroc

SIGMAS = (0.16, 0.25, 0.4, 0.63)
SHOWN = 0.25  # where the dearer maps are made too
DRAWS, DECODED, UNSEEN, BATCH = 32, 16, 100, 50
SIDE = 32
SHIFTS = ((0, 4), (0, -4), (4, 0), (-4, 0))
TARGET = 0.75
GAIN = "gain (Jacobian's diagonal)"

Maps = dict[str, Float[Tensor, "b 32 32"]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", type=Path, default=Path("benchmarks/lid_maps.json"))
    settings = parser.parse_args()
    quiet()
    torch.set_num_threads(1)
    rows = list(bundled())
    template = [(picture, row) for picture, row in rows if row["group"] == "template"]
    unseen = [(picture, row) for picture, row in rows if row["group"] == "held_out"][:UNSEEN]
    group = np.unique([row["source"] for _, row in template], return_inverse=True)[1]
    photographs = torch.from_numpy(np.stack([picture for picture, _ in template + unseen]))
    free = free_squares(photographs[: len(group)], group)
    maps, reference = all_maps(photographs, [row["caption"] for _, row in template + unseen], len(group))
    plain = f"loss, sigma {SHOWN}"
    maps |= {f"mean of a template's variants: {name}": by_group(maps[name], group) for name in (plain, "decoded")}
    floors = {
        "a square in the middle": middle().expand(len(group), -1, -1),
        "mean map of pictures never seen": reference[plain].mean(0).expand(len(group), -1, -1),
    }
    cells = free.double().reshape(-1, SIDE // 4, 4, SIDE // 4, 4).mean((2, 4))
    floors["ceiling: the true square's share of every cell"] = to_pixels(LidMap(cells, cells), (SIDE, SIDE)).value
    table = {name: judged(one, free, group) for name, one in (maps | floors).items()}
    inside = photograph()
    result = {
        "command": "OMP_NUM_THREADS=1 python benchmarks/lid_maps.py",
        "environment": environment(),
        "pictures": len(group),
        "templates": int(group.max()) + 1,
        "draws": DRAWS,
        "target_iou": TARGET,
        "maps": table,
        "floor_frozen_everywhere": {
            "iou_frozen_of_the_picture": round(1 - 144 / SIDE**2, 4),
            "iou_frozen_of_the_photograph": round(1 - 144 / 28**2, 4),
        },
        "chosen": chosen({name: one for name, one in maps.items() if "variants" not in name}, free, group),
        "trace_below_0": round(float((maps[GAIN].sum((1, 2)) < 0).double().mean()), 4),
        "freedom": {name: against_unseen(maps[name], reference[name], free, group, inside) for name in reference},
        "null": null(reference[plain], free, group),
    }
    settings.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


def all_maps(photographs: Tensor, captions: list[str], n: int) -> tuple[Maps, Maps]:
    """Make every map of the first ``n`` pictures, and of the others those that are compared with them."""
    model = load(MINIATURE, device="cpu")
    pixels = photographs[:, None].expand(-1, 3, -1, -1)
    keys = [str(i) for i in range(len(pixels))]
    found: dict[str, list[Tensor]] = {}
    reference: dict[str, list[Tensor]] = {}

    def keep(name: str, one: LidMap, at: int, spread: bool = True) -> None:
        into = found if at < n else reference
        into.setdefault(name, []).append(to_pixels(one, (SIDE, SIDE)).value if spread else one.value)

    for at in range(0, len(pixels), BATCH):
        images, named = pixels[at : at + BATCH], keys[at : at + BATCH]
        x = model.codec.encode(images)
        noises = draws.normal(x, named, DRAWS, 0)
        for sigma in SIGMAS:
            scale = torch.tensor([model.levels.nearest(sigma).sigma])
            keep(f"loss, sigma {sigma}", lid_map(model.unconditional, x, scale, noises=noises), at)
        if at >= n:
            continue
        scale = torch.tensor([model.levels.nearest(SHOWN).sigma])
        loss = lid_map(model.unconditional, x, scale, noises=noises)
        found.setdefault("loss, cells in one tone", []).append(
            loss.value.repeat_interleave(4, 1).repeat_interleave(4, 2)
        )
        keep("loss, 8 draws", lid_map(model.unconditional, x, scale, noises=noises[:8]), at)
        keep("loss, with caption", lid_map(model.given(captions[at : at + BATCH]), x, scale, noises=noises), at)
        signs = draws.signs(x, named, DECODED, 0)
        keep(GAIN, gain_map(model.unconditional, x, scale, probes=signs), at)
        some = noises[:DECODED]
        keep("decoded", decoded_map(model.codec.decode, model.unconditional, x, scale, noises=some), at, False)
        moved = torch.stack([moved_back(model, images, shift, scale, some) for shift in SHIFTS]).mean(0)
        keep("loss over root of the loss of shifted pictures", LidMap(loss.value / moved.sqrt(), loss.stderr), at)
        print(f"{at + len(images)} of {n} pictures", flush=True)
    maps = {name: torch.cat(parts) for name, parts in found.items()}
    plain = maps[f"loss, sigma {SHOWN}"]
    maps["loss, smoothed by 2 pixels"] = torch.from_numpy(gaussian_filter(plain.numpy(), (0, 2, 2)))
    levels = torch.stack([maps[f"loss, sigma {sigma}"] for sigma in SIGMAS])
    maps["loss, geometric mean over sigmas"] = levels.log().mean(0).exp()
    return maps, {name: torch.cat(parts) for name, parts in reference.items()}


def moved_back(model: Any, images: Tensor, shift: tuple[int, int], sigma: Tensor, noises: Tensor) -> Tensor:
    """Map pictures moved by one cell, of which nothing was memorized where it now is, and move the map back."""
    x = model.codec.encode(images.roll(shift, (2, 3)))
    found = lid_map(model.unconditional, x, sigma, noises=noises).value
    return found.roll((-shift[0] // 4, -shift[1] // 4), (1, 2))


def free_squares(photographs: Tensor, group: np.ndarray) -> Bool[Tensor, "b 32 32"]:
    """Return every picture's planted square: the box around the pixels in which its group's variants differ."""
    free = torch.zeros(photographs.shape, dtype=torch.bool)
    for number in range(group.max() + 1):
        members = torch.from_numpy(np.flatnonzero(group == number))
        y, x = torch.nonzero((photographs[members] != photographs[members[0]]).any(0), as_tuple=True)
        box = (slice(int(y.min()), int(y.max()) + 1), slice(int(x.min()), int(x.max()) + 1))
        if (box[0].stop - box[0].start, box[1].stop - box[1].start) != (12, 12):
            raise RuntimeError(f"template {number} differs in {box}, which is no square of 12 x 12")
        free[(members[:, None, None], *np.mgrid[box])] = True
    return free


def judged(maps: Tensor, free: Tensor, group: np.ndarray) -> dict[str, float]:
    """Judge one kind of map; see the module's head."""
    inside = photograph()
    squares, rest, lowest = [], [], []
    for number in range(group.max() + 1):
        own = torch.from_numpy(group == number)
        mask = frozen_mask(maps[own], choose_threshold(maps[~own], ~free[~own]))
        square = intersection_over_union(~mask, free[own])
        squares += square.tolist()
        rest += intersection_over_union(mask & inside, ~free[own] & inside).tolist()
        lowest.append(float(square.mean()))
    aucs = [auroc(one[where].numpy(), one[~where].numpy()) for one, where in zip(maps, free, strict=True)]
    return {
        "pixel_auc": round(float(np.mean(aucs)), 4),
        "iou_free": round(float(np.mean(squares)), 4),
        "iou_free_worst_template": round(min(lowest), 4),
        "iou_frozen_of_the_photograph": round(float(np.mean(rest)), 4),
        "place_auc": round(place_auc(maps, free, group), 4),
    }


def place_auc(maps: Tensor, free: Tensor, group: np.ndarray) -> float:
    """Average over places that are free in some templates only, weighted by how many the fewer are."""
    by_template = torch.stack([free[group == number][0] for number in range(group.max() + 1)]).sum(0)
    scaled: NDArray[np.float64] = relative(maps.double()).numpy()
    fewer = torch.minimum(by_template, int(group.max()) + 1 - by_template).numpy()
    places = [(int(y), int(x)) for y, x in zip(*np.nonzero(fewer), strict=True)]
    found = [auroc(scaled[free[:, y, x], y, x], scaled[~free[:, y, x], y, x]) for y, x in places]
    return float(np.average(found, weights=[fewer[place] for place in places]))


def chosen(maps: Maps, free: Tensor, group: np.ndarray) -> dict[str, Any]:
    """Choose map and threshold on the even templates, and report them on the odd ones; and the other way round."""
    report = {}
    for name, first in (("chosen on even templates", 0), ("chosen on odd templates", 1)):
        mine = torch.from_numpy(group % 2 == first)

        def agreement(one: Tensor, where: Tensor, mine: Tensor = mine) -> float:
            mask = frozen_mask(one[where], choose_threshold(one[mine], ~free[mine]))
            return round(float(intersection_over_union(~mask, free[where]).mean()), 4)

        best = max(maps, key=lambda kind: agreement(maps[kind], mine))
        report[name] = {
            "map": best,
            "iou_free_there": agreement(maps[best], mine),
            "iou_free_on_the_others": agreement(maps[best], ~mine),
            "square_in_the_middle_on_the_others": agreement(middle().expand(len(group), -1, -1), ~mine),
        }
    return report


def against_unseen(maps: Tensor, unseen: Tensor, free: Tensor, group: np.ndarray, inside: Tensor) -> dict[str, float]:
    """Compare the freedom in both parts with that of pictures never seen, at the same places."""
    parts: dict[str, Callable[[Tensor], Tensor]] = {
        "free": lambda square: square,
        "frozen": lambda square: ~square & inside,
        "whole": lambda square: torch.ones_like(square),
    }
    report: dict[str, float] = {}
    for name, part in parts.items():
        ratios, aucs = [], []
        for number in range(group.max() + 1):
            own = torch.from_numpy(group == number)
            where = part(free[own][0])
            template, other = maps[own][:, where].sum(1), unseen[:, where].sum(1)
            ratios += (template / other.mean()).tolist()
            aucs.append(auroc(-template.numpy(), -other.numpy()))
        report[f"{name}_over_unseen_median"] = round(float(np.median(ratios)), 4)
        report[f"{name}_auroc_against_unseen"] = round(float(np.mean(aucs)), 4)
    return report


def null(unseen: Tensor, free: Tensor, group: np.ndarray) -> dict[str, float]:
    """Judge maps of pictures never seen by the templates' squares, which they do not have."""
    squares = [free[group == number][0] for number in range(group.max() + 1)]
    aucs = [auroc(one[square].numpy(), one[~square].numpy()) for one in unseen for square in squares]
    return {"pictures": len(unseen), "pixel_auc": round(float(np.mean(aucs)), 4)}


def by_group(maps: Tensor, group: np.ndarray) -> Tensor:
    """Give every picture the mean of its template's maps, each over its own mean."""
    scaled = relative(maps)
    means = torch.stack([scaled[group == number].mean(0) for number in range(group.max() + 1)])
    return means[torch.from_numpy(group)]


def middle() -> Float[Tensor, "32 32"]:
    """Return a map that is higher the nearer to the middle, square by square."""
    away = (torch.arange(SIDE) - (SIDE - 1) / 2).abs()
    return SIDE - torch.maximum(away[:, None], away[None, :])


def photograph() -> Bool[Tensor, "32 32"]:
    """Return where the photograph is, without its black border."""
    inside = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    inside[2:-2, 2:-2] = True
    return inside


if __name__ == "__main__":
    main()

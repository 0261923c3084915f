"""Walks: whether tangent directions are right, whether memorized pictures stay where they are, and what it costs.

    OMP_NUM_THREADS=1 python benchmarks/walks.py [--picture docs/walk-memorized-and-not.png]

Planes, spheres and circles of known tangent space give the largest principal angle between it and what was found; the
bundled miniature gives the angle to the eigenvectors of its whole Jacobian, by cost. On the miniature's 20 pictures
with 50 copies, 20 seen once and 20 never seen, how often to denoise is chosen on half of each group, as the fewest
times that bring the change of the copies to 0.08 of that of the unique ones; the other half is what is reported. Sigma
is what an audit of the miniature's pictures chooses.
"""

import argparse
import json
import platform
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from scipy.linalg import subspace_angles
from torch import Tensor

from pointland import draws, exact
from pointland.auditing.settle import settle
from pointland.auditing.tasks import tasks_of
from pointland.demo import MINIATURE, unpack
from pointland.demo.unpack import bundled
from pointland.derivatives import jacobian
from pointland.explanation.tangent import TangentDirections, tangent_directions
from pointland.explanation.walk import Walking, steps_of, walk
from pointland.explanation.walk_picture import as_picture, beside
from pointland.lid.scale import PAPER_SIGMA
from pointland.lid.spectrum import Sides
from pointland.model import Model
from pointland.models.loading import load

GROUPS = ("x50", "once", "held_out")
EACH = 20
DENOISED = (5, 8, 12, 16)
ENOUGH = 0.08  # of the unique ones' change, on the half that decides
SHOWN = 5  # rows of the picture


class Pictures(NamedTuple):
    """The pictures of one group."""

    images: Tensor
    keys: list[str]


class Moved(NamedTuple):
    """How far the walks of some pictures moved, one a picture."""

    change: Tensor
    stepped: Tensor
    drift: Tensor
    values: Tensor

    def record(self) -> dict[str, object]:
        """Return it for JSON."""
        kept = self.change / self.stepped
        return {
            "pictures": len(self.change),
            "mean change": round(float(self.change.mean()), 3),
            "median": round(float(self.change.median()), 3),
            "least and most": [round(float(self.change.min()), 3), round(float(self.change.max()), 3)],
            "before denoising": round(float(self.stepped.mean()), 2),
            "share kept": round(float(self.change.mean() / self.stepped.mean()), 3),
            "share kept, least and most": [round(float(kept.min()), 3), round(float(kept.max()), 3)],
            "by denoising alone": round(float(self.drift.mean()), 2),
            "median eigenvalues": [round(v, 3) for v in self.values.median(0).values.tolist()],
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("build/walks"), help="where pictures go")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/walks.json"))
    parser.add_argument("--picture", type=Path, help="draw the walk of a copied picture beside that of a unique one")
    settings = parser.parse_args()
    model = load(MINIATURE, device="cpu")
    demo = unpack(settings.work)
    tasks = tasks_of(demo.images, None, demo.reference, None)
    sigma = settle(model, tasks, "auto", None, n_draws=8, n_probes=4, batch_size=64, seed=0).sigma["value"]
    groups = {name: pictures(name) for name in GROUPS}
    result: dict[str, object] = {
        "command": "OMP_NUM_THREADS=1 python benchmarks/walks.py",
        "targets": {"principal angle, degrees": 1.0, "change of x50 / change of once": 0.1},
        "machine": {"processor": platform.machine(), "threads": torch.get_num_threads(), "torch": torch.__version__},
    }
    result["miniature, walks"] = walks(model, groups, sigma)
    print(json.dumps(result, indent=1), flush=True)
    if settings.picture is not None:
        draw(model, groups, sigma, settings.picture)
    result["exact"] = exact_angles()
    result["miniature, directions"] = convergence(model, groups, sigma)
    result["cost of one picture"] = cost(model, groups["once"], sigma)
    settings.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


def pictures(group: str) -> Pictures:
    """Return 20 pictures of a group, in random order."""
    members = [picture for picture, row in bundled() if row["group"] == group]
    some = np.random.default_rng(0).permutation(len(members))[:EACH]
    images = torch.from_numpy(np.stack([members[i] for i in some]))[:, None].expand(-1, 3, -1, -1).contiguous()
    return Pictures(images, [f"{group}/{i}" for i in some])


def exact_angles() -> dict[str, object]:
    """Return the largest angle between found and true tangent spaces, in degrees, over 5 turns of each manifold."""
    found: dict[str, object] = {}
    for d, k, wide, blocks in ((20, 5, 9, 2), (100, 30, 34, 2), (512, 8, 12, 2), (512, 40, 12, 6), (16_384, 9, 13, 2)):
        angles = []
        for seed in range(5):
            plane = exact.subspace(d, k, seed)
            x = plane.sample(1, seed)
            probes = draws.normal(x, ["a"], wide, seed)
            directions = tangent_directions(plane, x, torch.tensor([0.05]), n=k, probes=probes, n_steps=blocks)
            angles.append(angle(directions.directions[:, 0], plane.axes.T))
        found[f"plane of {k} in {d}, {blocks} blocks of {wide}"] = {"degrees": max(angles), "products": wide * blocks}
    for k in (1, 2, 6):
        angles = []
        for seed in range(5):
            ball = exact.sphere(k, d=40, seed=seed)
            x = ball.sample(1, seed)
            probes = draws.normal(x, ["a"], k + 4, seed)
            directions = tangent_directions(ball, x, torch.tensor([0.02]), n=k, probes=probes, n_steps=2)
            radius = x[0] / x[0].norm()
            across = torch.cat([radius[None].double(), normal_space(ball.axes)])
            true = torch.linalg.svd(across, full_matrices=True).Vh[len(across) :]
            angles.append(angle(directions.directions[:, 0], true))
        found[f"sphere of {k} in 40"] = {"degrees": max(angles), "products": 2 * (k + 4)}
    return found


def normal_space(axes: Tensor) -> Tensor:
    """Return an orthonormal basis, as rows, of what is orthogonal to some columns."""
    whole: Tensor = torch.linalg.svd(axes.T, full_matrices=True).Vh
    return whole[axes.shape[1] :]


def angle(a: Tensor, b: Tensor) -> float:
    """Return the largest principal angle between the spans of two sets of rows, in degrees."""
    return round(float(np.degrees(subspace_angles(a.T.double().numpy(), b.T.double().numpy()).max())), 5)


def convergence(model: Model, groups: dict[str, Pictures], sigma: float) -> list[dict[str, object]]:
    """Compare with the eigenvectors of the whole Jacobian, of two pictures of two groups."""
    images = torch.cat([groups[name].images[:2] for name in ("x50", "once")])
    keys = [key for name in ("x50", "once") for key in groups[name].keys[:2]]
    x = model.codec.encode(images)
    whole = jacobian(model.unconditional, x, torch.tensor([sigma])).double()
    symmetric, rest = (whole + whole.mT) / 2, (whole - whole.mT) / 2
    values, vectors = torch.linalg.eigh(symmetric)
    shares = rest.norm(dim=(1, 2)) / symmetric.norm(dim=(1, 2))
    rows: list[dict[str, object]] = [{"asymmetric share of the Jacobian": [round(s, 3) for s in shares.tolist()]}]
    sides: Sides
    for sides in ("one", "both"):
        for blocks in (2, 4, 6, 8):
            find = TangentDirections(sigma, 8, n_steps=blocks, sides=sides)
            found = find(model.unconditional, x, keys)
            angles = [angle(found.directions[:, b].flatten(1), vectors[b, :, -8:].T) for b in range(len(x))]
            rows.append(
                {
                    "sides": sides,
                    "products": found.products,
                    "largest error of 8 eigenvalues": round(
                        float((found.values - values.flip(-1)[:, :8]).abs().max()), 4
                    ),
                    "largest residual": round(float(found.residuals.max()), 4),
                    "angle of 8, degrees, a picture": [round(a, 1) for a in angles],
                }
            )
    return rows


def walks(model: Model, groups: dict[str, Pictures], sigma: float) -> dict[str, object]:
    """Choose how often to denoise on one half of the pictures; report the other half, and all, at that."""
    half = EACH // 2
    decided = {name: Pictures(p.images[:half], p.keys[:half]) for name, p in groups.items()}
    kept = {name: Pictures(p.images[half:], p.keys[half:]) for name, p in groups.items()}
    by_times = {name: moved(model, some, sigma, DENOISED) for name, some in decided.items()}
    ratios = {n: ratio(by_times["x50"][n], by_times["once"][n]) for n in DENOISED}
    chosen = next((n for n, share in ratios.items() if share <= ENOUGH), DENOISED[-1])
    other = {name: moved(model, some, sigma, (chosen,))[chosen] for name, some in kept.items()}
    everyone = {
        name: Moved(*map(torch.cat, zip(by_times[name][chosen], went, strict=True))) for name, went in other.items()
    }
    paper = model.levels.nearest(PAPER_SIGMA).sigma
    at_paper = {name: moved(model, kept[name], paper, (chosen,))[chosen] for name in ("x50", "once")}
    unique = everyone["once"].change
    return {
        "settings": {"directions": 8, "steps": 7, "reach": 1.0, "sigma of the audit": round(sigma, 4)},
        "half that decides: change of x50 / change of once, by times denoised": ratios,
        "times denoised, chosen": chosen,
        "other half": of_groups(other),
        "all": of_groups(everyone),
        "of all 20 x50, those that move less than each of the 20 unique ones": int(
            (everyone["x50"].change < unique.min()).sum()
        ),
        f"other half at the paper's sigma, {paper:.4g}": of_groups(at_paper),
    }


def ratio(copied: Moved, unique: Moved) -> float:
    """Return how far one group moved, over the other."""
    return round(float(copied.change.mean() / unique.change.mean()), 4)


def of_groups(went: dict[str, Moved]) -> dict[str, object]:
    """Return groups for JSON, with their change over that of the unique pictures."""
    return {
        "change / change of once": {name: ratio(each, went["once"]) for name, each in went.items()},
        "groups": {name: each.record() for name, each in went.items()},
    }


def moved(model: Model, group: Pictures, sigma: float, times: tuple[int, ...]) -> dict[int, Moved]:
    """Walk from all pictures of a group at once; return how far, by how often the steps were denoised."""
    x, level, decode = model.codec.encode(group.images), torch.tensor([sigma]), model.codec.decode
    found = TangentDirections(sigma, 8, n_steps=6)(model.unconditional, x, group.keys)
    unit = sigma * x[0].numel() ** 0.5
    steps = torch.tensor(steps_of(7)).reshape(-1, 1, 1, 1, 1)

    def changed(points: Tensor, still: Tensor) -> Tensor:
        images = decode(points.flatten(0, 2)).float().reshape(-1, *still.shape)
        return (images - still).abs().mean((0, 2, 3, 4))

    stepped = changed(x + steps * unit * found.directions[:, None], decode(x).float())
    result, done = {}, 0
    for n in times:
        if not done:
            went = walk(model.unconditional, x, found.directions, steps.flatten(), level, n_denoise=n)
            still, points = went.still, went.points
        else:
            with torch.no_grad():
                for _ in range(n - done):
                    still = model.unconditional(still, level)
                    points = model.unconditional(points.flatten(0, 2), level).reshape(points.shape)
        done = n
        shown = decode(still).float()
        drift = (shown - group.images.float()).abs().mean((1, 2, 3))
        result[n] = Moved(changed(points, shown), stepped, drift, found.values)
    return result


def cost(model: Model, group: Pictures, sigma: float) -> dict[str, object]:
    """Walk from one picture at the defaults, and time it."""
    start = time.perf_counter()
    found = Walking(sigma)(model, group.images[0], group.keys[0])
    return {
        "evaluations": found.evaluations,
        "of them Jacobian products": found.tangent.products,
        "seconds, miniature": round(time.perf_counter() - start, 1),
    }


def draw(model: Model, groups: dict[str, Pictures], sigma: float, out: Path) -> None:
    """Draw the walk of the first copied picture of the half that is reported beside that of the first unique one."""
    sheets = []
    for name, title in (("x50", "In the training set 50 times"), ("once", "In the training set once")):
        images, keys = groups[name]
        sheets.append(as_picture(Walking(sigma)(model, images[EACH // 2], keys[EACH // 2]), title, rows=SHOWN))
    whole = beside(sheets).quantize(64, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    whole.save(out, optimize=True)
    print(out, out.stat().st_size, flush=True)


if __name__ == "__main__":
    main()

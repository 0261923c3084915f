"""Estimators of LID from a denoiser: what they cost at equal standard error, and against a forward pass.

    OMP_NUM_THREADS=1 python benchmarks/lid_cost.py [--sections trace cost wall] [--out FILE]

Sections are measured on their own and kept in one JSON; each takes at most a minute on one core. How right they are is
another question: ``pointland benchmark lid``.

trace   low-rank trace against plain probes at the same number of Jacobian products
cost    network evaluations for a standard error of one dimension; a Jacobian product with vjp counts as one
wall    CPU seconds a picture on the bundled miniature against one plain forward pass
"""

import argparse
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from pointland import exact
from pointland.denoiser import Denoiser
from pointland.lid.denoising_loss import DenoisingLoss
from pointland.lid.estimate import LidEstimate
from pointland.lid.flipd import Flipd
from pointland.lid.jacobian_spectrum import JacobianRank
from pointland.lid.normal_bundle import NormalBundleSketch
from pointland.lid.spectrum import FilteredSpectrum
from pointland.lid.trace import FlipdLowRank

Estimator = Callable[[Denoiser, Tensor, list[str]], LidEstimate]
Table = dict[str, dict[str, float]]


def main() -> None:
    sections = {"trace": low_rank, "cost": cost, "wall": wall}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sections", nargs="+", choices=list(sections), default=list(sections))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/lid_cost.json"))
    settings = parser.parse_args()
    result = json.loads(settings.out.read_text()) if settings.out.exists() else {}
    for name in settings.sections:
        started = time.perf_counter()
        table = sections[name]()
        result[name] = {"table": table, "seconds": round(time.perf_counter() - started, 1)}
        show(name, table)
    result["command"] = "OMP_NUM_THREADS=1 python benchmarks/lid_cost.py"
    result["machine"] = {
        "processor": platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    settings.out.write_text(json.dumps(result, indent=2) + "\n")


def show(name: str, table: Table) -> None:
    columns = list(dict.fromkeys(column for row in table.values() for column in row))
    width = max(map(len, table)) + 2
    print(f"\n{name}\n" + "".join([" " * width, *(f"{column:>18}" for column in columns)]))
    for label, row in table.items():
        print(
            f"{label:<{width}}" + "".join(f"{row.get(column, float('nan')):>18.4g}" for column in columns), flush=True
        )


def names(n: int) -> list[str]:
    return [str(i) for i in range(n)]


def low_rank() -> Table:
    table: Table = {}
    for k, budgets in ((4, (4, 8, 12, 16)), (64, (16, 64, 132)), (512, (64, 128))):
        plane = exact.subspace(d=1024, k=k)
        for products in budgets:
            n = 24 if products < 100 else 8
            x, keys = plane.sample(1, seed=0).expand(n, -1), names(n)
            plain, low = Flipd(0.01, products)(plane, x, keys), FlipdLowRank(0.01, products // 2)(plane, x, keys)
            table[f"k={k}, {products} products"] = {
                "plain rmse": float((plain.value - k).square().mean().sqrt()),
                "low-rank rmse": float((low.value - k).square().mean().sqrt()),
                "plain in theory": (2 * k * (1 - k / 1024) / products) ** 0.5,
                "low-rank stderr": float(low.stderr.square().mean().sqrt()),
            }
    return table


def cost() -> Table:
    """Evaluations for a standard error of 1 dimension; counts are exact, so theirs is what they need to be right."""
    table: Table = {}
    for k in (0, 4, 16, 64):
        plane = exact.subspace(d=1024, k=k)
        x, keys = plane.sample(1, seed=0), ["a"]
        many, all_keys = x.expand(200, -1), names(200)
        spread = {
            "flipd": Flipd(0.05, 1)(plane, many, all_keys).value.std(),
            "denoising loss": DenoisingLoss(0.05, 1)(plane, many, all_keys).value.std(),
            "spectrum, 2 steps": FilteredSpectrum(0.05, 1, 2)(plane, many, all_keys).value.std(),
        }
        draws_needed = {name: max(1, round(float(sd) ** 2)) for name, sd in spread.items()}
        directions = int(JacobianRank(0.05)(plane, x, keys).parts["directions"].item())
        stages = max(1, (directions // 8).bit_length())
        table[f"k={k} d=1024"] = {
            "flipd": 1 + draws_needed["flipd"],
            "denoising loss": draws_needed["denoising loss"],
            "spectrum 2 steps": 2 * (1 + draws_needed["spectrum, 2 steps"]),
            "spectrum 5 steps": 5 * (1 + draws_needed["spectrum, 2 steps"]),
            "low rank": 2 + 2 * (k + 2),
            "rank": 2 * stages + 2 * directions,
            "bundle sketch": 1 + 3 * directions,
            "bundle 4d": 1 + 4 * 1024,
            "flipd exact": 1 + 1024,
        }
    return table


def wall() -> Table:
    from pointland.demo import MINIATURE
    from pointland.models import load

    model = load(MINIATURE, device="cpu")
    images = torch.randint(0, 256, (1, 3, *model.codec.size), generator=torch.Generator().manual_seed(0))
    x = model.codec.encode(images.to(torch.uint8))
    sigma = model.levels.nearest(0.3).sigma
    at = torch.tensor([sigma])
    denoise: Denoiser = model.unconditional

    def seconds(run: Callable[[], object], rounds: int) -> float:
        run()
        taken = []
        for _ in range(rounds):
            started = time.process_time()  # other work on the machine does not count
            run()
            taken.append(time.process_time() - started)
        return min(taken)

    def plain() -> Tensor:
        with torch.no_grad():
            return denoise(x, at)

    estimators: dict[str, Estimator] = {
        "flipd 1": Flipd(sigma, 1),
        "flipd 4": Flipd(sigma, 4),
        "loss 8": DenoisingLoss(sigma, 8),
        "spectrum 4x5": FilteredSpectrum(sigma, 4, 5),
        "spectrum 4x5 both sides": FilteredSpectrum(sigma, 4, 5, sides="both"),
        "low rank 8": FlipdLowRank(sigma, 8),
        "rank, at most 32": JacobianRank(sigma, n_most=32),
        "bundle sketch, at most 32": NormalBundleSketch(sigma, n_most=32),
    }
    table: Table = {}
    for name, estimator in estimators.items():
        one = seconds(plain, 30)
        found = seconds(lambda estimator=estimator: estimator(denoise, x, ["a"]), 5)  # type: ignore[misc]
        table[name] = {"forwards": found / one, "CPU seconds": found}
    return table


if __name__ == "__main__":
    main()

"""What Jacobian products cost in forward passes of the bundled miniature, and how exact they are.

    python benchmarks/derivatives.py [--rounds 9] [--out benchmarks/derivatives.json]

Every method takes its turn in every round, beside the forward pass that is the unit; the ratio is the median over
rounds. Errors are of the quadratic form of one probe, in dimensions, against float64.
"""

import argparse
import copy
import dataclasses
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from pointland import draws
from pointland.demo import MINIATURE
from pointland.derivatives import Derivative, products, quadratic
from pointland.models import StableDiffusion, load

TARGETS = {"vjp, 1 probe": 2.3, "vjp, 4 probes": 5.5}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/derivatives.json"))
    settings = parser.parse_args()
    model = load(MINIATURE, device="cpu")
    assert isinstance(model, StableDiffusion)
    x = torch.randn(settings.batch, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    sigma = torch.tensor([0.4])
    keys = [str(i) for i in range(settings.batch)]
    probes = draws.signs(x, keys, 4, 0)
    denoise = model.unconditional

    def forward() -> object:
        with torch.no_grad():
            return denoise(x, sigma)

    jobs: dict[str, Callable[[], object]] = {"forward": forward}
    methods: tuple[Derivative, ...] = ("vjp", "jvp", "finite-difference")
    for method in methods:
        for n in (1, 4):
            jobs[f"{method}, {n} probe{'s' if n > 1 else ''}"] = (
                lambda method=method, n=n: products(  # type: ignore[misc]  # bound at once
                    denoise, x, sigma, probes=probes[:n], method=method
                )
            )
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(settings.rounds + 1):
        for name, job in jobs.items():
            started = time.perf_counter()
            job()
            seconds[name].append(time.perf_counter() - started)
    ratios = {
        name: round(statistics.median(t / f for t, f in zip(times[1:], seconds["forward"][1:], strict=True)), 2)
        for name, times in seconds.items()
    }
    double = copy.deepcopy(model.unet).double()
    nothing = model.condition([None])
    nothing = nothing.with_states(nothing.states.detach().double())
    precise = dataclasses.replace(model, unet=double)

    def exactly(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        return precise.denoise(x, sigma, nothing.select([0] * len(x)))

    truth = quadratic(probes.double(), products(exactly, x.double(), sigma.double(), probes=probes.double()).products)
    errors = {}
    for method in methods:
        got = quadratic(probes, products(denoise, x, sigma, probes=probes, method=method).products).double()
        errors[method] = float(f"{float((got - truth).abs().max()):.2g}")
    result = {
        "command": "python benchmarks/derivatives.py",
        "forwards": ratios,
        "targets": TARGETS,
        "largest_error_in_dimensions": errors,
        "rounds": settings.rounds,
        "batch": settings.batch,
        "machine": {"processor": platform.machine(), "threads": torch.get_num_threads(), "torch": torch.__version__},
    }
    settings.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()

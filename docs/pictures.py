"""The pictures of the concept pages, drawn from models whose truth is known.

python docs/pictures.py                        # dimension.svg, kinds.svg, scale.svg
python docs/pictures.py --run demo-run/run     # calibration.svg, of the run that `pointland demo` leaves
"""

import argparse
import math
from pathlib import Path

import numpy as np
import torch

from pointland import exact
from pointland.denoiser import Denoiser
from pointland.experiments import figure_1
from pointland.experiments.axes import (
    BLUE,
    GRAY,
    ORANGE,
    PALE,
    RED,
    Panel,
    Point,
    cross,
    dot,
    legend,
    line,
    page,
    text,
)
from pointland.lid import DenoisingLoss, Flipd

PICTURES = Path(__file__).parent / "pictures"
SIGMA = 0.05
PLANE = {1.0: 4, 0.1: 16, 0.01: 44}  # how many directions vary by how much


def main() -> None:
    """Draw what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="draw calibration.svg from this run instead of the others")
    parser.add_argument("--out", type=Path, default=PICTURES)
    given = parser.parse_args()
    drawn = {"calibration": calibration(given.run)} if given.run else cheap()
    given.out.mkdir(parents=True, exist_ok=True)
    for name, svg in drawn.items():
        (given.out / f"{name}.svg").write_text(svg, encoding="utf-8")


def cheap() -> dict[str, str]:
    """Draw everything that needs no run."""
    return {"dimension": dimension(), "kinds": kinds(), "scale": scale()}


def dimension() -> str:
    """Draw three models that fit the same points: a memorizer, a curve and a sheet."""
    parts = []
    for lid, (title, says) in enumerate(
        (
            ("three points", "no direction is left: LID 0"),
            ("a curve", "along the curve: LID 1"),
            ("a sheet", "along and across: LID 2"),
        )
    ):
        left = 10 + 270 * lid
        parts += [line([seen(p, left) for p in grid], PALE, 0.8) for grid in mesh()]
        corners = figure_1.lifted(torch.tensor(figure_1.CORNERS, dtype=torch.float64)).tolist()
        if lid == 2:
            parts += [line([seen(p, left) for p in grid], RED, 0.9) for grid in mesh()]
        if lid == 1:
            whole = figure_1.lifted(figure_1.curve(torch.linspace(-0.95, 0.95, 80, dtype=torch.float64)))
            parts.append(line([seen(p, left) for p in whole.tolist()], RED, 2.2))
        parts += [dot(seen(p, left), RED, 6) for p in corners if lid == 0]
        parts += [cross(seen(p, left), "#1a202c", 5) for p in corners]
        parts += [text(left + 130, 24, title, weight="600"), text(left + 130, 246, says)]
    return page(
        820, 262, "Three models of the same three training points, of local intrinsic dimension 0, 1 and 2", *parts
    )


def mesh() -> list[list[list[float]]]:
    """Return lines on the sheet, along and across."""
    along = torch.linspace(-1, 1, 25, dtype=torch.float64)
    fixed = [torch.full_like(along, float(at)) for at in torch.linspace(-1, 1, 11)]
    pairs = [pair for at in fixed for pair in ((along, at), (at, along))]
    return [figure_1.lifted(torch.stack(pair, dim=1)).tolist() for pair in pairs]


def seen(point: list[float], left: float) -> Point:
    """Project a point of the sheet obliquely."""
    u, v, z = point
    turn = math.radians(24)
    across, depth = u * math.cos(turn) - v * math.sin(turn), u * math.sin(turn) + v * math.cos(turn)
    return left + 130 + 92 * across, 142 - 46 * depth - 100 * z


def kinds() -> str:
    """Draw a healthy model and the two kinds of memorization on a circle, with FLIPD at the marked point."""
    circle = exact.circle(0.0, d=2)
    angles = torch.linspace(0, 2 * math.pi, 8, dtype=torch.float64)[:-1]
    on_circle = torch.stack([angles.cos(), angles.sin()], dim=1)
    center = torch.zeros(1, 2, dtype=torch.float64)
    memorizer = exact.points(on_circle)
    fine = torch.linspace(0, 2 * math.pi, 721, dtype=torch.float64)[:-1]
    dense = torch.stack([fine.cos(), fine.sin()], dim=1)
    weights = torch.cat([torch.full((720,), 0.7 / 720), torch.tensor([0.3])]).double()
    copies = exact.points(torch.cat([dense, center]), weights)  # the circle as a fine grid, and a point of mass 0.3
    cases: tuple[tuple[str, Denoiser, torch.Tensor, int, str], ...] = (
        ("not memorized", circle, on_circle[:1], 1, "both have one direction here"),
        ("overfitting-driven", memorizer, on_circle[:1], 1, "the model lost the direction"),
        ("data-driven", copies, center, 0, "one picture many times in the data"),
    )
    parts = []
    for i, (title, model, at, lid_data, says) in enumerate(cases):
        panel = Panel(20 + 270 * i, 40, 230, 230, (-1.3, 1.3), (-1.3, 1.3))
        around = torch.linspace(0, 2 * math.pi, 120, dtype=torch.float64)
        ring = [(float(a.cos()), float(a.sin())) for a in around]
        parts.append(panel.line(ring, PALE, 7))
        if model is memorizer:
            parts.append(panel.dots([(x, y) for x, y in on_circle.tolist()], RED, 5))
        else:
            parts.append(panel.line(ring, RED, 1.8))
        if model is copies:
            parts.append(panel.dots([(0.0, 0.0)], PALE, 11) + panel.dots([(0.0, 0.0)], RED, 5))
        lid_model = float(Flipd(SIGMA, "exact")(model, at, ["marked"]).value)
        parts.append(panel.crosses([(x, y) for x, y in at.tolist()], "#1a202c", 7))
        middle = 135 + 270 * i
        parts += [
            text(middle, 24, title, weight="600"),
            text(middle, 290, f"LID of the data {lid_data}, of the model {abs(lid_model):.2f}"),
            text(middle, 310, says, color="#4a5568"),
        ]
    parts.append(legend(24, 340, [(PALE, "where the data lies"), (RED, "where the model puts its samples")]))
    parts.append(
        cross((300, 336), "#1a202c", 5) + text(312, 340, "the training picture that is looked at", anchor="start")
    )
    return page(820, 372, "A model that memorized nothing, and the two kinds of memorization", *parts)


def scale() -> str:
    """Draw LID against sigma: of a Gaussian with three widths, by formula and measured, and of a memorizer."""
    variances = [spread**2 for spread, n in PLANE.items() for _ in range(n)]
    d = len(variances)
    plane = exact.subspace(d=d, k=d, variances=variances)
    x = plane.sample(1, seed=0, dtype=torch.float64)
    panel = Panel(70, 40, 560, 250, (0.001, 10.0), (0.0, 70.0), log_x=True)
    sigmas = [10 ** (-3 + 4 * i / 120) for i in range(121)]
    curve = [(s, sum(v / (v + s * s) for v in variances)) for s in sigmas]
    parts = [
        panel.frame(
            "In how many directions by more than sigma?", "sigma", "LID", [0.001, 0.01, 0.1, 1, 10], [0, 4, 20, 64]
        )
    ]
    parts.append(panel.line(curve, BLUE, 2.4))
    some = [10 ** (-3 + 4 * i / 12) for i in range(1, 12)]
    found = [DenoisingLoss(s, 8)(plane, x, ["a"]) for s in some]
    parts.append(
        panel.intervals([(s, float(f.low), min(float(f.high), 70)) for s, f in zip(some, found, strict=True)], ORANGE)
    )
    parts.append(panel.dots([(s, float(f.value)) for s, f in zip(some, found, strict=True)], ORANGE, 3.4))
    memorizer = exact.points(exact.subspace(d=d, k=4).sample(8, seed=1, dtype=torch.float64))
    at = memorizer.x0[:1]
    copied = [(s, float(DenoisingLoss(s, 64)(memorizer, at, ["a"]).value)) for s in sigmas[::4]]
    parts.append(panel.line(copied, RED, 2.4))
    rows = [
        (BLUE, "4 wide, 16 narrow, 44 tiny directions"),
        (ORANGE, "measured, 8 draws, 95 % intervals"),
        (RED, "a model that memorized 8 points"),
    ]
    parts.append(legend(380, 66, rows))
    return page(
        660, 345, "LID against sigma: a staircase, one step for every width of the data; 0 at a memorized point", *parts
    )


def calibration(run: Path) -> str:
    """Draw where the reference lies, what was flagged, and the threshold between them."""
    from pointland.auditing import read_run
    from pointland.report import summarize

    summary = summarize(read_run(run))
    verdict, rows = summary["verdict"], read_run(run).rows
    column = verdict["decide_by"]
    value = np.array(rows[column].to_pylist(), float)
    held_out = np.array(rows["role"].to_pylist()) == "reference"
    threshold = verdict["threshold"]
    if threshold is None:
        raise ValueError(f"nothing is flagged in {run}; draw the run of `pointland demo`")
    edges = np.linspace(0, 160, 41)
    counts = {
        name: np.histogram(value[which], edges)[0] for name, which in (("held", held_out), ("audited", ~held_out))
    }
    share = {name: n / n.sum() for name, n in counts.items()}
    panel = Panel(70, 40, 560, 240, (0, 160), (0, 0.12))
    parts = [
        panel.frame(
            "What the reference says about a picture",
            f"LID ({verdict['unit']})",
            "share",
            [0, 40, 80, 120, 160],
            [0, 0.05, 0.1],
        )
    ]
    for name, color in (("held", GRAY), ("audited", BLUE)):
        steps = [(float(x), float(y)) for i, y in enumerate(share[name]) for x in edges[i : i + 2]]
        parts.append(panel.line(steps, color, 2))
    parts.append(panel.line([(threshold, 0), (threshold, 0.12)], RED, 1.6, "5 4"))
    parts.append(text(panel.at(threshold, 0)[0] - 8, 60, f"{verdict['n_flagged']} flagged", anchor="end", color=RED))
    parts.append(
        legend(420, 66, [(BLUE, f"{(~held_out).sum():,} training pictures"), (GRAY, f"{held_out.sum():,} never seen")])
    )
    return page(
        660, 335, "Training pictures against pictures never seen, and the threshold at the rate asked for", *parts
    )


if __name__ == "__main__":
    main()

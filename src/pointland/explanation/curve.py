"""LID against sigma, and the spectrum, of one picture: as numbers, and as charts for a page.

The curve is the denoising loss at the model's own levels with its interval, and FLIPD beside it if asked for; all
levels share their draws. A scale, such as the one that an audit chose, is marked. The charts take their colors from the
page's style sheet, as the report's do.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from markupsafe import Markup
from torch import Tensor

from pointland.denoiser import Denoiser
from pointland.explanation.tangent import Tangent
from pointland.lid.denoising_loss import DenoisingLoss
from pointland.lid.flipd import Flipd
from pointland.lid.plateau import LidCurve, OnPlateau
from pointland.lid.scale import candidates
from pointland.noise import Levels
from pointland.report.axes import path, scale, svg, x_axis, y_axis
from pointland.report.words import level

WIDE, LEFT, TOP, BOTTOM = 350, 52, 30, 190


@dataclass(frozen=True, eq=False)
class PictureCurve:
    """LID of one picture against sigma.

    Attributes:
        loss: The denoising loss, of one item.
        flipd: FLIPD at the same levels, or ``None``.
        sigma: The scale that is marked.
        d: Dimensions of the model's space.

    Raises:
        ValueError: If a value is not finite, as where half precision overflows.
    """

    loss: LidCurve
    flipd: LidCurve | None
    sigma: float
    d: int

    def __post_init__(self) -> None:
        curves = [curve for curve in (self.loss, self.flipd) if curve is not None]
        if not all(bool(curve.values.isfinite().all()) for curve in curves):
            raise ValueError("the network's output is not finite at some scale; load the model in float32")

    def record(self) -> dict[str, object]:
        """Return the numbers for JSON."""
        found: dict[str, object] = {"sigma": self.sigma, "d": self.d, "sigmas": self.loss.sigmas.tolist()}
        for name, curve in (("denoising_loss", self.loss), ("flipd", self.flipd)):
            if curve is not None:
                parts = {"value": curve.values, "stderr": curve.stderrs, "low": curve.lows, "high": curve.highs}
                found[name] = {part: values[:, 0].tolist() for part, values in parts.items()}
        return found

    def chart(self) -> Markup:
        """Draw the curve with its interval and the marked scale."""
        sigmas = self.loss.sigmas.tolist()
        x = scale(min(sigmas), max(sigmas), LEFT, WIDE - 16, log=True, room=0.03)
        shown = [self.loss] + ([self.flipd] if self.flipd is not None else [])
        known = [
            v for curve in shown for values in (curve.values, curve.lows, curve.highs) for v in values[:, 0].tolist()
        ]
        y = scale(min(0.0, *known), 1.1 * max(*known, 0.1), BOTTOM, TOP)
        parts = [y_axis(y, LEFT, WIDE - 16, "LID (dimensions), with 95 % interval")]
        for curve, css in zip(shown, ("c0", "c1"), strict=False):
            values, lows, highs = (each[:, 0].tolist() for each in (curve.values, curve.lows, curve.highs))
            if css == "c0":
                band = [*zip(sigmas, highs, strict=True), *reversed([*zip(sigmas, lows, strict=True)])]
                parts.append(path([(x(s), y(v)) for s, v in band], "band c0", closed=True))
                parts.append(path([(x(s), y(v)) for s, v in zip(sigmas, values, strict=True)], "line c0"))
            else:
                parts.append(path([(x(s), y(v)) for s, v in zip(sigmas, values, strict=True)], "outline c1"))
        at, left = x(self.sigma), self.sigma < (min(sigmas) * max(sigmas)) ** 0.5
        parts.append(
            Markup(
                '<line class="threshold" x1="{0}" x2="{0}" y1="{1}" y2="{2}"/>'
                '<text class="threshold-name" x="{3}" y="{4}" text-anchor="{5}">σ {6}</text>'
            ).format(at, TOP, BOTTOM, at + (5 if left else -5), TOP + 10, "start" if left else "end", level(self.sigma))
        )
        parts.append(x_axis(x, BOTTOM, "Noise scale σ, logarithmic"))
        also = " and FLIPD (thin)" if self.flipd is not None else ""
        value = self.loss.values[
            (self.loss.sigmas.log() - self.loss.sigmas.new_tensor(self.sigma).log()).abs().argmin()
        ]
        title = f"Denoising-loss LID{also} of the picture against sigma"
        says = f"{float(value):.3g} of {self.d:,} dimensions at sigma {level(self.sigma)}"
        return svg(WIDE, BOTTOM + 40, title, *parts, says=says)


def lid_curve(
    denoise: Denoiser,
    x: Float[Tensor, "1 *event"],
    key: str,
    sigmas: Sequence[float],
    *,
    sigma: float,
    n_draws: int = 8,
    n_probes: int = 0,
    seed: int = 0,
) -> PictureCurve:
    """Measure one picture at every scale.

    Args:
        denoise: The model, already conditioned.
        x: The picture's point in model space, shape ``(1, *event)``.
        key: Its stable identifier.
        sigmas: Trained levels, ascending, such as :func:`levels_for` returns.
        sigma: The scale to mark, measured too.
        n_draws: Of the denoising loss, a scale.
        n_probes: Of FLIPD, a scale; 0 leaves FLIPD out.
        seed: Of all draws.

    Raises:
        ValueError: If the network's output is not finite.

    Cost:
        ``n_draws`` forward passes a scale, and with FLIPD ``1 + n_probes`` more.
    """
    asked = tuple(sorted({*map(float, sigmas), float(sigma)}))
    loss = OnPlateau(lambda s: DenoisingLoss(s, n_draws, seed), asked).curve(denoise, x, [key])
    flipd = OnPlateau(lambda s: Flipd(s, n_probes, seed), asked).curve(denoise, x, [key]) if n_probes else None
    return PictureCurve(loss, flipd, sigma, x[0].numel())


def levels_for(levels: Levels, n: int = 13) -> list[float]:
    """Return ``n`` trained levels, evenly spread in ratio, where dimension means something: 0.05 to 4."""
    found: list[float] = candidates(levels, n, low=0.05).tolist()
    return found


def spectrum_chart(found: Tangent) -> Markup:
    """Draw the leading eigenvalues of one picture with their errors, and the singular values as a thin line."""
    values, errors = found.values[0].tolist(), found.residuals[0].tolist()
    singular = found.singular_values[0].tolist()
    n = len(values)
    x = scale(1, max(n, 2), LEFT, WIDE - 16, room=0.04)
    low = min(0.0, *(v - e for v, e in zip(values, errors, strict=True)))
    high = max(1.1, *(v + e for v, e in zip(values, errors, strict=True)), *singular)
    y = scale(low, high, BOTTOM, TOP)
    parts = [y_axis(y, LEFT, WIDE - 16, "Eigenvalue of the denoiser's Jacobian")]
    parts.append(path([(x.start, y(0.5)), (x.end, y(0.5))], "chance"))
    parts.append(path([(x(i), y(v)) for i, v in enumerate(singular, 1)], "outline c1"))
    for i, (value, error) in enumerate(zip(values, errors, strict=True), 1):
        parts.append(
            Markup(
                '<line class="whisker c0" x1="{0}" x2="{0}" y1="{1}" y2="{2}"/>'
                '<circle class="mark c0" cx="{0}" cy="{3}" r="4"/>'
            ).format(x(i), y(value - error), y(value + error), y(value))
        )
    parts.append(x_axis(x, BOTTOM, "Direction, by eigenvalue", [float(i) for i in range(1, n + 1)]))
    listed = ", ".join(f"{v:.2f}" for v in values)
    says = f"{listed}; above one half the model leaves freedom"
    return svg(WIDE, BOTTOM + 40, "Leading eigenvalues of the denoiser's Jacobian", *parts, says=says)

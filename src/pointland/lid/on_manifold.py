r"""On-manifold check: whether a model LID is a dimension at all.

FLIPD and its kin are dimensions at points of the model's own manifold, for a denoiser that is a posterior mean. On the
locally linear model a point of the manifold has coordinates :math:`u_i^\top (x - \mu) = \sqrt{l_i} z_i`, so its
residual is not zero but

.. math::
    \frac{\|D(x) - x\|^2}{\sigma^2} = \sum_i j_i (1 - j_i) z_i^2, \qquad
    \text{expected } \operatorname{tr} J_D (I - J_D), \qquad
    \text{variance } 2 \sum_i j_i^2 (1 - j_i)^2 \le \tfrac12 \operatorname{tr} J_D (I - J_D) .

What is beyond that is distance from the manifold in units of :math:`\sigma`: a point that the model never learned has a
large FLIPD for the same reason as a complex one, and only this number tells them apart.

A network's Jacobian also has eigenvalues below 0 and above 1, in their hundreds, and :math:`\operatorname{tr} J -
|J|^2` then is nothing. So the expectation is taken by the Lanczos quadrature of :mod:`pointland.lid.spectrum`, with
eigenvalues outside [0, 1] at the nearer end. The plain trace comes with it: one that is negative beyond its Monte-Carlo
error counts nothing, and neither does one above ``d``. A trained network's FLIPD at memorized points is often of that
kind: it ranks, and is no dimension. The filtered spectrum and the denoising loss stay counts there.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pointland.denoiser import Denoiser
from pointland.lid.estimate import standard_error
from pointland.lid.flipd import check_sigma, squared_residual
from pointland.lid.spectrum import Quadrature, Sides, quadrature

Validity = Literal["dimension", "off the manifold", "negative", "above d", "unsure"]

SLACK = 0.5  # dimensions; a smaller excess does not change the whole number
ERRORS = 3.0  # standard errors of everything that is random


class OnManifold(NamedTuple):
    """How far every point is from the model's manifold, and what that makes of its LID.

    Attributes:
        residual: ``|D(x) - x|^2 / sigma^2``, in dimensions, shape ``(b,)``.
        expected: What a point of the manifold has on average, ``tr J(I - J)``, in dimensions, shape ``(b,)``.
        limit: Largest residual that is taken for a point of the manifold, in dimensions, shape ``(b,)``.
        validity: In words, one an item. ``dimension``: nothing speaks against it. ``off the manifold``: the residual
            is above the limit. ``negative``, ``above d``: the trace is, beyond its error. ``unsure``: the error of the
            trace is above 5 dimensions and above half the trace; take more probes.
    """

    residual: Float[Tensor, " b"]
    expected: Float[Tensor, " b"]
    limit: Float[Tensor, " b"]
    validity: tuple[Validity, ...]

    @property
    def excess(self) -> Float[Tensor, " b"]:
        """Squared distance from the manifold in units of ``sigma``, as far as it is not expected; in dimensions."""
        return (self.residual - self.expected).clamp_min(0)

    @property
    def valid(self) -> Bool[Tensor, " b"]:
        """Whether the LID is a dimension."""
        return torch.tensor([word == "dimension" for word in self.validity], device=self.residual.device)


def on_manifold(
    denoise: Denoiser,
    x: Float[Tensor, "b *event"],
    sigma: Float[Tensor, "#b"],
    *,
    probes: Float[Tensor, "n b *event"],
    n_steps: int = 5,
    sides: Sides = "one",
) -> OnManifold:
    """Check whether points lie on the model's manifold at scale ``sigma``.

    Args:
        denoise: The model, already conditioned.
        x: Points in model space, shape ``(b, *event)``, not noised.
        sigma: Noise scale in model-space units, positive; one value or one per item.
        probes: Sign probes, shape ``(n, b, *event)``; one alone shows no error, and that of a plane stands in.
        n_steps: Lanczos steps a probe.
        sides: Which products; see :mod:`pointland.lid.spectrum`.

    Raises:
        ValueError: If ``sigma`` is not positive, or there are no probes.

    Cost:
        That of the filtered spectrum and one forward pass; beside it, the one: see :func:`from_quadrature`.

    Source:
        Ours; the residual as the term to watch is Kamkari et al. 2024, arXiv:2406.03537.

    Example:
        >>> from pointland import draws, exact
        >>> plane = exact.subspace(d=20, k=5)
        >>> x = plane.sample(2, seed=0)
        >>> x[1] += 1.0
        >>> on_manifold(plane, x, torch.tensor([0.1]), probes=draws.signs(x, ["a", "b"], 4, 0)).validity
        ('dimension', 'off the manifold')
    """
    check_sigma(sigma)
    if len(probes) == 0:
        raise ValueError("the check needs at least one probe; pass probes=draws.signs(x, keys, n, seed)")
    with torch.no_grad():
        denoised = denoise(x, sigma)
    return from_quadrature(
        x, sigma, denoised, quadrature(denoise, x, sigma, probes=probes, n_steps=n_steps, sides=sides)
    )


def from_quadrature(
    x: Float[Tensor, "b *event"],
    sigma: Float[Tensor, "#b"],
    denoised: Float[Tensor, "b *event"],
    found: Quadrature,
) -> OnManifold:
    """Check from a denoised point and a spectrum that are already there, at no network cost."""
    inside = found.nodes.clamp(0, 1)
    traces = found.traces(found.nodes).to(x.dtype)
    between = found.traces(inside * (1 - inside)).to(x.dtype)
    residual = squared_residual(denoised, x, sigma)
    trace, expected = traces.mean(0), between.mean(0)
    # one probe says nothing of its error: that of sign probes on a plane, sqrt(2 k), stands in
    stand_in = (2 * trace.abs() + 1).sqrt()
    error = torch.where(standard_error(traces).isnan(), stand_in, standard_error(traces))
    uncertain = torch.where(standard_error(between).isnan(), (2 * expected).sqrt(), standard_error(between))
    limit = expected + ERRORS * ((expected / 2).sqrt() + uncertain) + SLACK
    return OnManifold(residual, expected, limit, _words(residual > limit, trace, error, x[0].numel()))


def _words(off: Bool[Tensor, " b"], trace: Tensor, error: Tensor, d: int) -> tuple[Validity, ...]:
    rows: Sequence[tuple[bool, float, float]] = list(zip(off.tolist(), trace.tolist(), error.tolist(), strict=True))
    return tuple(_word(far, value, spread, d) for far, value, spread in rows)


def _word(off: bool, trace: float, error: float, d: int) -> Validity:
    if off:
        return "off the manifold"
    if trace < -ERRORS * error - SLACK:
        return "negative"
    if trace > d + ERRORS * error + SLACK:
        return "above d"
    return "unsure" if error > max(5.0, abs(trace) / 2) else "dimension"

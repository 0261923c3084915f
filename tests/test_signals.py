"""The published signals, against closed forms, and the laws that all of them keep."""

import math

import pytest
import torch
from torch import Tensor

from captioned_mixture import CaptionedMixture, batch_of, gauss, memorizer, normal_points, pictured
from pointland import exact
from pointland.denoiser import Denoiser
from pointland.derivatives import Derivative
from pointland.lid import DenoisingLoss, Flipd
from pointland.metrics import (
    CosineNorm,
    CriticalScale,
    DenoisingConfidence,
    DenoisingLossColumns,
    EulerGuidanceNorm,
    Evaluations,
    FlipdColumns,
    GuidanceNorm,
    GuidanceNormStart,
    Metric,
    PLaplace,
    PngSize,
    Recall,
    Sharpness,
    SwappedCaption,
)
from pointland.metrics.rms import root_mean_square

HIGH = 14.6
NEW: list[Metric] = [
    GuidanceNormStart(HIGH),
    Sharpness(HIGH, n_draws=2),
    DenoisingConfidence(HIGH, n_draws=2),
    CosineNorm(HIGH, 0.2, n_draws=2),
    PLaplace(0.5),
]
RECALL: list[Metric] = [
    Recall((0.5, 1.0, 2.0), 1.0),
    CriticalScale((0.5, 1.0), n_iterations=3),
    SwappedCaption(("plain 0", "plain 1"), 0.5),
]
OLD: list[Metric] = [
    DenoisingLossColumns(DenoisingLoss(0.5)),
    GuidanceNorm(0.5),
    EulerGuidanceNorm(0.5, 0.01),
    PngSize(),
]


def named(metric: Metric) -> str:
    return type(metric).__name__


def pointed(n: int = 3) -> Evaluations:
    """Captions that call up a point, beside a standard Gaussian without."""
    x = normal_points(n, 3, 4, 4)
    return batch_of(memorizer(x), x, pictured(n))


def start(batch: Evaluations, draw: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return pure noise, and what it denoises to without and with caption."""
    x = HIGH * batch.noise(draw)
    return x, x / (1 + HIGH**2), batch.x


def test_guidance_norm_at_the_start() -> None:
    batch = pointed()
    wanted = torch.stack([root_mean_square((u - c) / HIGH) for _, u, c in (start(batch, i) for i in range(4))])
    got = GuidanceNormStart(HIGH)(batch)
    torch.testing.assert_close(got["guidance_norm_start"], wanted.mean(0))
    torch.testing.assert_close(got["guidance_norm_start_stderr"], wanted.std(0) / 2)


def test_denoising_confidence_is_the_published_score_per_coordinate() -> None:
    batch = pointed()
    x, u, c = start(batch, 0)
    published = (x - (u + 7.5 * (c - u))).square().flatten(1).mean(1)
    got = DenoisingConfidence(HIGH)(batch)["denoising_confidence"]
    torch.testing.assert_close(HIGH**2 * got**2, published, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("derivative", ["vjp", "jvp", "finite-difference"])
def test_sharpness_is_hessian_times_score_in_the_preserving_coordinate(derivative: Derivative) -> None:
    """Against automatic differentiation of the log densities of two Gaussians, in their own coordinate."""
    d, sigma = 6, 1.5
    bent = torch.diag(torch.linspace(0.2, 2.0, d, dtype=torch.float64))
    bent[0, 1] = bent[1, 0] = 0.1
    pair = {"c": exact.gaussian(bent, torch.ones(d, dtype=torch.float64)), "u": gauss(d)}
    known: dict[str, Denoiser] = {"word": pair["c"]}
    batch = batch_of(CaptionedMixture(pair["u"], known), normal_points(2, d).double(), ["word"] * 2)
    got = Sharpness(sigma, n_draws=1, derivative=derivative)(batch)["sharpness"]
    alpha = 1 / math.sqrt(1 + sigma**2)

    def gap(x: Tensor) -> Tensor:
        at, level = (x / alpha)[None], torch.tensor([sigma], dtype=torch.float64)
        return (pair["c"].log_density(at, level) - pair["u"].log_density(at, level))[0]

    for i in range(2):
        x = alpha * sigma * batch.noise(0)[i]
        score = torch.func.grad(gap)(x)
        hessian = torch.func.hessian(gap)(x)
        wanted = (hessian @ score).square().mean().sqrt()
        torch.testing.assert_close(got[i], wanted, rtol=1e-4, atol=1e-8)  # differences in float64, step 1 % of sigma


def test_sharpness_of_a_memorizing_caption() -> None:
    batch = pointed()
    got = Sharpness(HIGH, n_draws=1)(batch)["sharpness"]
    _, u, c = start(batch, 0)
    wanted = root_mean_square(c - u) / HIGH**4 * math.sqrt(1 + HIGH**2)
    torch.testing.assert_close(got, wanted, rtol=1e-3, atol=0.0)


def test_cosine_plus_norm() -> None:
    batch = pointed()
    got = CosineNorm(HIGH, 0.2)(batch)
    x = math.sqrt(1 + 0.2**2) * batch.noise(0)
    without = x / (1 + 0.2**2)
    cosine = torch.cosine_similarity(x - without, without - batch.x, dim=1).mean((1, 2))
    torch.testing.assert_close(got["cosine_start"], cosine, rtol=1e-4, atol=1e-5)
    norm = GuidanceNormStart(HIGH, n_draws=1)(batch)["guidance_norm_start"]
    torch.testing.assert_close(got["cosine_norm"], 128 * norm + 2 * cosine, rtol=1e-4, atol=1e-4)


def test_a_flat_point_has_a_cosine_too() -> None:
    x = normal_points(2, 48)
    got = CosineNorm(HIGH, 0.2)(batch_of(memorizer(x), x, pictured(2)))["cosine_start"]
    assert ((got > 0.5) & (got < 0.9)).all()  # two independent points of one size: 1 / sqrt 2


def test_the_laplacian_is_a_dimension_read_as_an_angle() -> None:
    d, sigma = 400, 0.01
    for k in (0, 40, 200):
        plane = exact.subspace(d, k)
        x = plane.sample(4)
        got = PLaplace(sigma)(batch_of(CaptionedMixture(plane), x))["p_laplace_unconditional"]
        wanted = torch.full((4,), -math.sqrt(1 - k / d))
        torch.testing.assert_close(got, wanted, rtol=0.0, atol=4 / math.sqrt(8 * d))  # eight draws


# the length of the noise itself is part of the denoising confidence, so it needs draws in 48 coordinates
STEADY = [DenoisingConfidence(HIGH, n_draws=24) if isinstance(m, DenoisingConfidence) else m for m in NEW]


@pytest.mark.parametrize("metric", STEADY, ids=named)
def test_the_memorizing_caption_stands_out(metric: Metric) -> None:
    """Beside captions that narrow the distribution a little, in the direction that the column names."""
    x = normal_points(6, 3, 4, 4)
    captions = [*pictured(3), "plain 0", "plain 1", "plain 2"]
    got = metric(batch_of(memorizer(x), x, captions))
    for column in metric.columns:
        if column.needs == "nothing" or column.name == "cosine_start":
            continue
        memorized, plain = got[column.name][:3], got[column.name][3:]
        if column.memorized_when == "high":
            assert memorized.min() > plain.max(), column.name
        else:
            assert memorized.max() < plain.min(), column.name


@pytest.mark.parametrize("metric", [*NEW, *RECALL], ids=named)
def test_columns_are_kept_whatever_the_captions(metric: Metric) -> None:
    assert isinstance(metric, Metric)
    x = normal_points(3, 3, 4, 4)
    names = {name for column in metric.columns for name in (column.name, column.stderr) if name is not None}
    for captions in (pictured(3), ["picture 0", None, "plain 1"], [None] * 3):
        got = metric(batch_of(memorizer(x), x, captions))
        assert set(got) == names
        for column in metric.columns:
            value = got[column.name]
            assert value.shape == (3,)
            without = [caption is None and column.needs == "caption" for caption in captions]
            assert value.isnan().tolist() == without, column.name
    bare = CaptionedMixture(gauss(48))
    for name, value in metric(batch_of(bare, x)).items():
        assert value.isnan().all() or name.endswith("_unconditional") or name.endswith("_unconditional_stderr")


@pytest.mark.parametrize("metric", NEW, ids=named)
def test_an_item_does_not_see_its_batch(metric: Metric) -> None:
    x = normal_points(4, 3, 4, 4)
    captions = ["picture 0", None, "plain 1", "picture 3"]
    keys = [f"key {i}" for i in range(4)]
    together = metric(batch_of(memorizer(x), x, captions, keys))
    turned = metric(batch_of(memorizer(x), x.flip(0), captions[::-1], keys[::-1]))
    alone = [metric(batch_of(memorizer(x), x[[i]], [captions[i]], [keys[i]])) for i in range(4)]
    for name, value in together.items():
        torch.testing.assert_close(value, turned[name].flip(0), equal_nan=True, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(value, torch.cat([one[name] for one in alone]), equal_nan=True, rtol=1e-4, atol=1e-6)


def spent(metric: Metric, captions: list[str | None]) -> float:
    x = normal_points(3, 3, 4, 4)
    model = memorizer(x)
    metric(batch_of(model, x, captions))
    return sum(model.calls) / 3


@pytest.mark.parametrize("metric", [*NEW, *RECALL, *OLD], ids=named)
def test_forwards_are_what_it_costs(metric: Metric) -> None:
    forwards = metric.forwards  # type: ignore[attr-defined]  # not a member of the protocol
    products = 2 * metric.n_draws if isinstance(metric, Sharpness) else 0
    assert forwards(2) == spent(metric, [*pictured(3)]) + products
    assert forwards(1) == spent(metric, [None] * 3)


def test_forwards_of_flipd_count_a_product_as_one() -> None:
    assert FlipdColumns(Flipd(0.5, n_probes=4)).forwards(2) == 10.0
    assert FlipdColumns(Flipd(0.5, n_probes="exact")).forwards(1) == math.inf


def test_signals_share_their_evaluations() -> None:
    x = normal_points(3, 3, 4, 4)
    model = memorizer(x)
    batch = batch_of(model, x, pictured(3))
    GuidanceNormStart(HIGH)(batch)
    assert len(model.calls) == 4
    DenoisingConfidence(HIGH)(batch)
    assert len(model.calls) == 4
    Sharpness(HIGH)(batch)
    assert len(model.calls) == 8  # the products
    CosineNorm(HIGH, 0.2)(batch)
    assert len(model.calls) == 9  # the almost noiseless level
    DenoisingLossColumns(DenoisingLoss(0.5))(batch)
    PLaplace(0.5)(batch)
    assert len(model.calls) == 17

import pytest
import torch

from models import ExactModel
from pointland.lid import DenoisingLoss, Flipd
from pointland.metrics.evaluations import Evaluations
from pointland.metrics.guidance_norm import EulerGuidanceNorm, GuidanceNorm
from pointland.metrics.model_lid import DenoisingLossColumns, FlipdColumns


def batch_of(n: int = 4, captions: list[str | None] | None = None, captioned: bool = True) -> Evaluations:
    images = torch.randint(0, 256, (n, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    model = ExactModel(torch.empty(0), captioned)
    x = model.codec.encode(images)
    model = ExactModel(x, captioned)
    keys = [f"key {i}" for i in range(n)]
    return Evaluations(model, images, x, keys, ["word"] * n if captions is None else captions, 0)


def calls(batch: Evaluations) -> list[int]:
    assert isinstance(batch.model, ExactModel)
    return batch.model.calls


def test_columns_are_the_estimators_own_numbers() -> None:
    batch = batch_of()
    got = {**DenoisingLossColumns(DenoisingLoss(0.3))(batch), **FlipdColumns(Flipd(0.3))(batch)}
    keys = list(batch.keys)
    denoisers = {"unconditional": batch.model.unconditional, "conditional": batch.model.given(batch.captions)}
    for condition, denoise in denoisers.items():
        for name, estimator in (("denoising_loss", DenoisingLoss(0.3)), ("flipd", Flipd(0.3))):
            wanted = estimator(denoise, batch.x, keys)
            torch.testing.assert_close(got[f"{name}_{condition}"], wanted.value, rtol=1e-5, atol=1e-4)
            torch.testing.assert_close(got[f"{name}_{condition}_stderr"], wanted.stderr, rtol=1e-5, atol=1e-4)


def test_both_conditions_share_one_call_and_metrics_share_evaluations() -> None:
    batch = batch_of()
    DenoisingLossColumns(DenoisingLoss(0.3, n_draws=5))(batch)
    assert calls(batch) == [8] * 5
    GuidanceNorm(0.3, n_draws=5)(batch)
    assert calls(batch) == [8] * 5  # nothing new
    FlipdColumns(Flipd(0.3, n_probes=3))(batch)
    assert calls(batch) == [8] * 6


def test_without_captions_only_one_condition_is_evaluated() -> None:
    for batch in (batch_of(captions=[None] * 4), batch_of(captioned=False)):
        assert batch.conditions == ("unconditional",)
        got = DenoisingLossColumns(DenoisingLoss(0.3, n_draws=2))(batch)
        assert set(got) == {"denoising_loss_unconditional", "denoising_loss_unconditional_stderr"}
        assert GuidanceNorm(0.3)(batch) == {}
        assert calls(batch) == [4, 4]


def test_the_memorizing_caption_shows() -> None:
    batch = batch_of()
    got = DenoisingLossColumns(DenoisingLoss(0.1))(batch)
    assert float(got["denoising_loss_conditional"].max()) < 0.1  # a point mass
    assert float(got["denoising_loss_unconditional"].min()) > 20  # 48 free directions
    assert float(GuidanceNorm(0.1)(batch)["guidance_norm"].min()) > 0.5
    nothing = batch_of(captions=[None, "word", None, "word"])
    norm = GuidanceNorm(0.1)(nothing)["guidance_norm"]
    assert (norm[[0, 2]] == 0).all()
    assert (norm[[1, 3]] > 0.5).all()


def test_euler_steps_follow_the_flow() -> None:
    """Towards a memorized picture the flow stands still; many steps converge to the difference taken right there."""
    batch = batch_of(captions=["word"] * 4)
    fine = EulerGuidanceNorm(0.5, 0.01, n_steps=400)(batch)["guidance_norm_euler"]
    model = batch.model
    assert isinstance(model, ExactModel)
    # the memorizing caption keeps x at its own point: D(x) = x0, so x - x0 grows with sigma from 0, and stays
    without = batch.x / (1 + 0.5**2)
    wanted = ((without - batch.x) / 0.5).square().flatten(1).mean(-1).sqrt()
    torch.testing.assert_close(fine, wanted, rtol=1e-3, atol=1e-4)
    assert len(model.calls) == 401


def test_euler_needs_room_to_walk() -> None:
    with pytest.raises(ValueError, match="sigma_min"):
        EulerGuidanceNorm(0.01, 0.02)

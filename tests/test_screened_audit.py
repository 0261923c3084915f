"""Audits with a screen: what is measured of whom, and what the verdict makes of it."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from models import ExactModel
from pointland.auditing import Run
from pointland.auditing.engine import audit
from pointland.report import summarize
from pointland.verdict import decide
from test_audit import write_pictures


class Memorizer(ExactModel):
    """Memorized its points, whatever the caption: near one of them it returns that, elsewhere it is a Gaussian."""

    @property
    def unconditional(self):  # type: ignore[no-untyped-def]
        plain = super().unconditional

        def denoise(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
            distances = torch.cdist(x.flatten(1), self.points.flatten(1))
            nearest, which = distances.min(1)
            near = (nearest < 7.9 * sigma).reshape(-1, 1, 1, 1)
            return torch.where(near, self.points[which], plain(x, sigma))

        return denoise


@pytest.fixture
def model(tmp_path: Path) -> Memorizer:
    """Memorized 8 of the 160 pictures it will be audited on."""
    pictures = write_pictures(tmp_path / "images", 160, seed=0, captions=False)
    write_pictures(tmp_path / "reference", 120, seed=1, captions=False)
    return Memorizer(ExactModel(torch.empty(0)).codec.encode(pictures[::20]), captioned=False)


def run(model: ExactModel, tmp_path: Path, out: str, **settings: object) -> Run:
    merged: dict[str, object] = {
        "reference": tmp_path / "reference",
        "sigma": 0.3,
        "n_draws": 2,
        "n_probes": 2,
        "screen": 0.1,
        **settings,
    }
    return audit(model, tmp_path / "images", out=tmp_path / out, **merged)  # type: ignore[arg-type]  # settings by name


def test_only_the_suspicious_are_looked_at_closely_and_all_memorized_are_among_them(
    model: Memorizer, tmp_path: Path
) -> None:
    whole, found = run(model, tmp_path, "whole", screen=None), run(model, tmp_path, "run")
    rows = found.rows.to_pylist()
    audited = [row for row in rows if row["role"] == "audited"]
    kept = [row for row in audited if row["denoising_loss_unconditional"] is not None]
    assert 8 <= len(kept) <= 40
    assert {f"{i:04d}.png" for i in range(0, 160, 20)} <= {row["key"] for row in kept}
    assert all(row["screen"] is not None for row in rows)
    assert all(row["denoising_loss_unconditional"] is not None for row in rows if row["role"] == "reference")
    cleared = next(row for row in audited if row["denoising_loss_unconditional"] is None)
    assert json.loads(cleared["reasons"])["flipd_unconditional"] == "screened out"
    assert cleared["png_bytes"] is not None
    wanted = {row["key"]: row for row in whole.rows.to_pylist() if row["role"] == "audited"}
    for row in kept:
        assert row["flipd_unconditional"] == pytest.approx(
            wanted[row["key"]]["flipd_unconditional"], rel=1e-4, abs=1e-3
        )
    assert found.record["screen"]["share"] == 0.1


def test_it_costs_one_evaluation_a_picture_and_all_others_only_for_the_suspicious(
    model: Memorizer, tmp_path: Path
) -> None:
    model.calls.clear()
    found = run(model, tmp_path, "run")
    kept = 160 - sum("screened out" in (text or "") for text in found.rows["reasons"].to_pylist())
    each = 3  # two draws, and one call for both FLIPD's value and its products
    beforehand = 32 + found.record["screen"]["n_sample"]  # two checks that the model denoises, the threshold
    in_mixed_batches = 16
    assert sum(model.calls) <= beforehand + 160 + each * kept + (1 + each) * 120 + in_mixed_batches


def test_the_verdict_counts_those_screened_out_as_tested(model: Memorizer, tmp_path: Path) -> None:
    summary = summarize(run(model, tmp_path, "run"))
    assert summary["verdict"]["n_flagged"] == 0  # 8 of 160 against 120: too few at this rate; not of the 16 kept
    assert "the reference is too small" in summary["verdict"]["undecided"]  # so it is no verdict that none is memorized
    assert summary["verdict"]["n_audited"] == 160
    assert any(warned["kind"] == "screened" for warned in summary["warnings"])
    assert {row["p"] for row in summary["rows"] if row["values"]["flipd_unconditional"] is None} == {1.0}


def test_the_rate_holds_though_the_screen_chose_whom_to_test() -> None:
    """Pictures like the reference, screened by their own value: without the cleared ones false flags would abound."""
    rng = np.random.default_rng(0)
    false = {True: 0, False: 0}
    for _ in range(200):
        values, reference = rng.normal(size=2000), rng.normal(size=1000)
        cleared = values > np.quantile(values, 0.1)
        seen = np.where(cleared, np.nan, values)
        for counted in (True, False):
            decisions = decide(seen, reference, memorized_when="low", fdr=0.2, cleared=cleared if counted else None)
            false[counted] += bool(decisions.flagged.any())
    assert false[True] <= 0.2 * 200
    assert false[False] > 0.9 * 200


def test_the_threshold_is_kept_and_another_share_is_refused(model: Memorizer, tmp_path: Path) -> None:
    first = run(model, tmp_path, "run").record["screen"]
    assert run(model, tmp_path, "run").record["screen"] == first
    with pytest.raises(ValueError, match=r"differs in .*screen"):
        run(model, tmp_path, "run", screen=0.3)
    with pytest.raises(ValueError, match="needs a reference"):
        run(model, tmp_path, "other", reference=None)
    with pytest.raises(ValueError, match="share to keep"):
        run(model, tmp_path, "other", screen=0.0)


def test_batch_and_order_change_nothing(model: Memorizer, tmp_path: Path) -> None:
    one, many = run(model, tmp_path, "one", batch_size=1).rows, run(model, tmp_path, "many", batch_size=64).rows
    assert one["key"].to_pylist() == many["key"].to_pylist()
    assert one["reasons"].to_pylist() == many["reasons"].to_pylist()
    np.testing.assert_allclose(
        np.array(one["denoising_loss_unconditional"].to_pylist(), float),
        np.array(many["denoising_loss_unconditional"].to_pylist(), float),
        rtol=1e-5,
        atol=1e-5,
    )


def test_misses_of_the_screen_are_not_left_out_of_how_well_columns_separate(model: Memorizer, tmp_path: Path) -> None:
    labels = tmp_path / "labels.csv"
    rows = [f"{i:04d}.png,{'copy' if i % 20 == 0 else 'held_out'}" for i in range(160)]
    labels.write_text("\n".join(["key,label", *rows]))
    summary = summarize(run(model, tmp_path, "run", labels=labels))
    measured = {one["column"] for one in summary["separations"]}
    assert "screen" in measured
    assert "flipd_unconditional" not in measured


def test_out_of_memory_while_settling_is_halved_too(
    model: Memorizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = run(model, tmp_path, "whole").rows
    real = type(model.codec).encode

    def small(self: object, images: torch.Tensor) -> torch.Tensor:
        if len(images) > 3:
            raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED")
        return real(self, images)  # type: ignore[arg-type]  # the codec

    monkeypatch.setattr(type(model.codec), "encode", small)
    got = run(model, tmp_path, "run", sigma="auto", batch_size="auto")
    assert got.finished
    assert got.rows["key"].to_pylist() == wanted["key"].to_pylist()

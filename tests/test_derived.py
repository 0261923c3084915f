from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from models import ExactModel
from pointland.auditing import Run, audit
from pointland.auditing.derived import Sides, derive, excess, floats, lowest_windows, vectors, without_overlap
from pointland.lid import DenoisingLoss
from pointland.metrics import Evaluations, LossMap, ModelGap, Sketch
from pointland.metrics.loss_map import cells
from pointland.report import kinds_of, summarize


def run_of(columns: dict[str, object], roles: list[str], hashes: list[str] | None = None) -> Run:
    names = [name for name in columns if name != "loss_map_unconditional"]
    data = {
        "key": [f"{i:04d}.png" for i in range(len(roles))],
        "role": roles,
        "sha256": hashes or [f"{i:064x}" for i in range(len(roles))],
        "reasons": pa.array([None] * len(roles), pa.string()),
        **columns,
    }
    return Run(Path("run"), {"columns": [{"name": name} for name in names]}, pa.table(data), pa.table({}))


ROLES = ["audited"] * 50 + ["reference"] * 200


def test_a_picture_that_is_only_simple_has_no_excess() -> None:
    rng = np.random.default_rng(0)
    size, lid = rng.uniform(300, 900, 250), np.empty(250)
    lid[:] = size / 30 + rng.normal(0, 0.5, 250)
    size[:10], lid[:10] = 320, 320 / 30  # simple
    lid[10:20] -= 8  # memorized
    found = derive(run_of({"denoising_loss_unconditional": lid, "png_bytes": size}, ROLES))
    values = floats(found.rows, "lid_excess")
    assert np.abs(values[:10]).max() < 1.5
    assert values[10:20].max() < -5
    reference = values[50:]
    assert abs(reference.mean()) < 0.2
    assert [c["name"] for c in found.record["columns"]][-1] == "lid_excess"


def test_reference_and_audited_are_alike_where_nothing_is_memorized() -> None:
    off: dict[str, list[float]] = {"excess": [], "local": []}
    for seed in range(10):
        rng = np.random.default_rng(seed)
        size = rng.uniform(300, 900, 1000)
        lid = size / 30 + rng.normal(0, 2, 1000)
        maps = rng.gamma(4, size=(1000, 64))
        found = excess(Sides(lid[:500], lid[500:]), Sides(size[:500], size[500:]))
        local = lowest_windows(maps[:500], maps[500:], Sides(size[:500], size[500:]))
        for name, sides in (("excess", found), ("local", local)):
            off[name].append(float((sides.audited <= np.quantile(sides.reference, 0.1)).mean()) - 0.1)
    assert all(abs(np.mean(differences)) < 0.015 for differences in off.values())


def test_a_frozen_part_shows_in_the_windows_and_hides_in_the_sum() -> None:
    rng = np.random.default_rng(2)
    size = rng.uniform(300, 900, 600)
    maps = rng.gamma(4, size=(600, 8, 8)) * (size / 600)[:, None, None] * rng.uniform(0.8, 1.25, (600, 1, 1))
    maps[:20, :4, :5] *= 0.4
    flat = maps.reshape(600, 64)
    found = lowest_windows(flat[:100], flat[100:], Sides(size[:100], size[100:]))
    assert (found.audited[:20] <= np.quantile(found.reference, 0.01)).mean() > 0.9
    assert (flat[:20].sum(1) <= np.quantile(flat[100:].sum(1), 0.01)).mean() < 0.2


def test_no_derivation_without_what_it_needs() -> None:
    few = ["audited"] * 50 + ["reference"] * 20
    lid = np.arange(70.0)
    assert (
        "lid_excess"
        not in derive(run_of({"denoising_loss_unconditional": lid, "png_bytes": lid}, few)).rows.column_names
    )
    assert derive(Run(Path("run"), {"columns": []}, pa.table({}), pa.table({}))).rows.num_rows == 0


def test_a_verdict_on_what_could_not_be_derived_says_what_is_missing(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    write(tmp_path / "images", rng.integers(0, 256, (20, 8, 8, 3), dtype=np.uint8))
    write(tmp_path / "reference", rng.integers(0, 256, (30, 8, 8, 3), dtype=np.uint8))
    model = ExactModel(torch.empty(0))
    with pytest.raises(ValueError, match=r"cannot decide by 'local_lid'.*at least 100 pictures"):
        audit(
            model,
            tmp_path / "images",
            reference=tmp_path / "reference",
            out=tmp_path / "run",
            sigma=0.1,
            decide_by="local_lid",
        )
    run = audit(model, tmp_path / "images", out=tmp_path / "gap", sigma=0.1)  # no captions
    run.record["decide_by"] = "caption_gap"
    for verdict in (summarize, kinds_of):
        with pytest.raises(ValueError, match=r"'caption_gap'.*no picture has values with and without caption"):
            verdict(run)


def test_a_reference_without_one_value_derives_nothing() -> None:
    lid, nothing = np.arange(250.0), np.where(np.array(ROLES) == "reference", np.nan, 1.0)
    maps = pa.array(np.ones((250, 64)).tolist(), pa.list_(pa.float32(), 64))
    for unknown in ("flipd_unconditional", "denoising_loss_unconditional"):
        columns: dict[str, object] = {"denoising_loss_unconditional": lid, "flipd_unconditional": lid}
        run = run_of({**columns, "png_bytes": lid + 1, unknown: nothing}, ROLES)
        run = run.with_rows(run.rows.append_column("loss_map_unconditional", maps))
        assert "combined" not in derive(run).rows.column_names


def test_copies_in_the_reference_are_left_out() -> None:
    hashes = [f"{i:064x}" for i in range(250)]
    hashes[100], hashes[101] = hashes[0], hashes[3]
    kept, n = without_overlap(run_of({"png_bytes": np.arange(250.0)}, ROLES, hashes))
    assert n == 2
    assert kept.rows.num_rows == 248
    assert without_overlap(kept) == (kept, 0)


def test_vectors_with_gaps() -> None:
    column = pa.array([[1.0, 2.0], None, [3.0, 4.0]], pa.list_(pa.float32(), 2))
    found = vectors(pa.table({"v": pa.chunked_array([column.slice(1), column])}), "v")
    np.testing.assert_array_equal(found, [[np.nan] * 2, [3, 4], [1, 2], [np.nan] * 2, [3, 4]])


def batch_of(model: ExactModel, n: int = 5) -> Evaluations:
    images = torch.randint(0, 256, (n, 3, 8, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    return Evaluations(model, images, model.codec.encode(images), [str(i) for i in range(n)], [None] * n, 0)


def test_the_map_sums_to_the_loss_and_costs_nothing_more() -> None:
    model = ExactModel(torch.empty(0))
    batch = batch_of(model)
    loss = DenoisingLoss(0.5, 4)
    found = LossMap(loss)(batch)["loss_map_unconditional"]
    whole = loss(model.unconditional, batch.x, list(batch.keys)).value
    assert found.shape == (5, 64)
    torch.testing.assert_close(found.sum(1), whole.float(), rtol=1e-4, atol=1e-4)
    squares = torch.rand(2, 16, 16)
    torch.testing.assert_close(cells(squares)[:, 0], squares[:, :2, :2].sum((1, 2)), rtol=1e-5, atol=1e-5)


def test_the_sketch_keeps_distances() -> None:
    batch = batch_of(ExactModel(torch.empty(0)), 40)
    x, sketch = batch.x.flatten(1), Sketch(512)(batch)["sketch"]
    ratio = torch.pdist(sketch) / torch.pdist(x)
    assert 0.85 < float(ratio.min()) < float(ratio.max()) < 1.15
    assert abs(float(ratio.mean()) - 1) < 0.02


def test_the_gap_to_itself_is_zero_and_to_a_memorizer_is_the_difference() -> None:
    gaussian = ExactModel(torch.empty(0))
    batch = batch_of(gaussian)
    same = ModelGap(DenoisingLoss(0.5, 4), gaussian)(batch)["lid_gap_unconditional"]
    assert float(same.abs().max()) == 0

    class Memorizer(ExactModel):
        @property
        def unconditional(self):  # type: ignore[no-untyped-def]  # as in the protocol
            return lambda x, sigma: batch.x.to(x)

    frozen = Evaluations(Memorizer(torch.empty(0)), batch.images, batch.x, batch.keys, batch.captions, 0)
    gap = ModelGap(DenoisingLoss(0.5, 4), gaussian)(frozen)["lid_gap_unconditional"]
    usual = DenoisingLoss(0.5, 4)(gaussian.unconditional, batch.x, list(batch.keys)).value
    torch.testing.assert_close(gap.float(), -usual.float(), rtol=1e-4, atol=1e-4)


def write(folder: Path, pictures: np.ndarray) -> None:
    folder.mkdir(parents=True)
    for i, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / f"{i:04d}.png")


class Folded(ExactModel):
    """A Gaussian that has memorized the first ``n`` pictures of its points, without any caption."""

    @property
    def unconditional(self):  # type: ignore[no-untyped-def]  # as in the protocol
        def denoise(x, sigma):  # type: ignore[no-untyped-def]
            near = torch.cdist(x.flatten(1), self.points.flatten(1)).min(1)
            close = (near.values < 1.5 * sigma.flatten() * x[0].numel() ** 0.5)[:, None, None, None]
            return torch.where(close, self.points[near.indices], x / (1 + sigma.reshape(-1, 1, 1, 1) ** 2))

        return denoise


def test_kinds_from_pictures_to_report(tmp_path: Path) -> None:
    """Pictures memorized as copies in the folder are data-driven, memorized unique ones overfitting-driven."""
    rng = np.random.default_rng(0)
    basis = rng.normal(0, 40, (12, 8, 8, 3))
    pictures = (128 + np.tensordot(rng.normal(0, 0.6, (900, 12)), basis, 1)).clip(0, 255).astype(np.uint8)
    audited, reference = pictures[:500], pictures[500:]
    audited[480:] = audited[[0, 1, 2, 3]].repeat(5, axis=0)  # four pictures six times each
    write(tmp_path / "images", audited)
    write(tmp_path / "reference", reference)
    blank = ExactModel(torch.empty(0), captioned=False)
    points = blank.codec.encode(torch.from_numpy(audited[:24]).permute(0, 3, 1, 2))
    model = Folded(points, captioned=False)
    run = audit(model, tmp_path / "images", reference=tmp_path / "reference", out=tmp_path / "run", sigma=0.1)
    told = kinds_of(run)
    copies = {f"{i:04d}.png" for i in [*range(4), *range(480, 500)]}
    unique = {f"{i:04d}.png" for i in range(4, 24)}
    assert copies | unique <= set(told)
    assert all(told[key] == "data-driven" for key in copies)
    assert sum(told[key] == "overfitting-driven" for key in unique) >= 18
    summary = summarize(run)
    assert summary["verdict"]["kinds"]["data-driven"] >= 24
    assert all(row["evidence"] for row in summary["rows"] if row["flagged"])


def test_a_reference_model_decides_without_held_out_pictures(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (300, 8, 8, 3), dtype=np.uint8)
    write(tmp_path / "images", pictures)
    base = ExactModel(torch.empty(0), captioned=False)
    points = base.codec.encode(torch.from_numpy(pictures[:40]).permute(0, 3, 1, 2))
    tuned = Folded(points, captioned=False)
    run = audit(tuned, tmp_path / "images", out=tmp_path / "run", sigma=0.1, reference_model=base)
    assert run.record["decide_by"] == "lid_gap_unconditional"
    summary = summarize(run)
    flagged = {row["key"] for row in summary["rows"] if row["flagged"]}
    assert {f"{i:04d}.png" for i in range(40)} <= flagged
    assert len(flagged) <= 44
    note = next(one["text"] for one in summary["warnings"] if one["kind"] == "resolution")
    assert note.startswith("Without a reference the smallest p-value")
    with pytest.raises(ValueError, match="weights of the audited one"):
        audit(tuned, tmp_path / "images", out=tmp_path / "same", sigma=0.1, reference_model=tuned)
    with pytest.raises(ValueError, match="cannot decide by 'local_lid'"):
        audit(tuned, tmp_path / "images", out=tmp_path / "other", sigma=0.1, decide_by="local_lid")

"""Screening prompts: the new signals in closed form, the files read, the rows written."""

import json
import math
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor

import pipelines
from captioned_mixture import CaptionedMixture, batch_of, gauss, memorizer, normal_points, pictured
from models import Shrink
from pointland.demo import MINIATURE
from pointland.metrics import FreedomStart, GuidanceNormJump, OneStepEdges, Trajectory
from pointland.metrics.one_step_edges import edges
from pointland.metrics.rms import root_mean_square
from pointland.models.diffusers import StableDiffusion, from_pipeline
from pointland.prompts import AttentionEntropyStart, Prompt, read_prompts, screen, signals
from pointland.prompts.attention import cross_attention, watched

HIGH, LOW = 14.6, 0.3
SIX = [Prompt(f"a boot number {n}") for n in range(6)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> StableDiffusion:
    made = from_pipeline(pipelines.stable_diffusion(tmp_path_factory.mktemp("prompts")))
    assert isinstance(made, StableDiffusion)
    return made


def test_a_jump_lands_on_the_picture_and_only_the_caption_knows_it() -> None:
    x = normal_points(3, 3, 4, 4)
    batch = batch_of(memorizer(x), torch.zeros_like(x), pictured(3))
    got = GuidanceNormJump(HIGH, LOW)(batch)["guidance_norm_jump"]
    landed = x + LOW / HIGH * (batch.start(HIGH, 0) - x)
    torch.testing.assert_close(got, root_mean_square(x - landed / (1 + LOW**2)) / LOW)


def test_a_caption_that_says_nothing_gives_nothing() -> None:
    x = torch.zeros(2, 3, 4, 4)
    model = CaptionedMixture(gauss(48), {"nothing": gauss(48)})
    batch = batch_of(model, x, ["nothing", "nothing"])
    values = GuidanceNormJump(HIGH, LOW)(batch) | Trajectory((HIGH, 3.0, 0.5))(batch) | FreedomStart(HIGH)(batch)
    for name in ("guidance_norm_jump", "guidance_norm_steps", "update_excess", "freedom_gap_start"):
        torch.testing.assert_close(values[name], torch.zeros(2), atol=1e-5, rtol=0.0)  # float32


def test_freedom_counts_what_the_caption_leaves_open() -> None:
    """A point leaves nothing; a Gaussian of variance l leaves d l / (l + sigma^2)."""
    x = torch.zeros(2, 3, 4, 4)
    known = {"picture": memorizer(normal_points(1, 3, 4, 4)).known["picture 0"], "wide": gauss(48, 0.0, 4.0)}
    values = FreedomStart(2.0)(batch_of(CaptionedMixture(gauss(48), known), x, ["picture", "wide"]))
    free, without = torch.tensor([0.0, 48 * 4 / 8]), 48 / 5
    torch.testing.assert_close(values["freedom_start"], free, atol=1e-3, rtol=0.0)  # signs: no Monte-Carlo error here
    torch.testing.assert_close(values["freedom_gap_start"], free - without, atol=1e-3, rtol=0.0)


def test_a_memorized_caption_moves_the_latent_out_of_the_band() -> None:
    x = 3 * normal_points(2, 3, 4, 4)
    model = CaptionedMixture(gauss(48), {**memorizer(x).known, "alike": gauss(48, 0.0, 1.05)})
    got = Trajectory((HIGH, 5.0, 2.0, 0.5))(batch_of(model, torch.zeros_like(x), ["picture 0", "alike"]))
    assert float(got["update_excess"][0]) > 5 * float(got["update_excess"][1])
    assert float(got["guidance_norm_steps"][0]) > 5 * float(got["guidance_norm_steps"][1])


def test_edges_are_where_a_picture_changes() -> None:
    flat = torch.full((1, 3, 256, 256), 77, dtype=torch.uint8)
    half = flat.clone()
    half[..., 128:] = 255
    both = edges(torch.cat([flat, half]))
    assert not both[0].any()
    columns = both[1].any(0).nonzero().flatten()
    assert columns.tolist() == [127, 128]


@dataclass(frozen=True)
class Large(Shrink):
    """The same codec with pictures large enough to have sharp edges."""

    def decode(self, x: Tensor) -> Tensor:
        return torch.nn.functional.interpolate(((x + 1) * 127.5).round().clamp(0, 255), scale_factor=64).to(torch.uint8)


def test_edges_shared_by_all_starts_are_the_memorized_picture_s() -> None:
    x = torch.ones(1, 3, 4, 4)
    x[..., 2:] = -1
    model = CaptionedMixture(gauss(48), memorizer(x).known, codec=Large())
    share = OneStepEdges(HIGH, guidance=1.0)(batch_of(model, torch.zeros_like(x), ["picture 0"]))["one_step_edges"]
    torch.testing.assert_close(share, torch.tensor([2 / 256]))


def test_attention_without_preference_has_the_entropy_of_all_tokens(model: StableDiffusion) -> None:
    batch = batch_of(model, torch.zeros(2, 4, 8, 8), ["a boot", "a coat"])  # type: ignore[arg-type]  # any model
    layers: list[Any] = list(cross_attention(model.network))
    kept = [layer.to_k.weight.detach().clone() for layer in layers]
    tokens = model.tokenizer.model_max_length
    varied = AttentionEntropyStart(HIGH)(batch)["attention_entropy_start"]
    assert float(varied.max()) < math.log(tokens)
    try:
        with torch.no_grad():
            for layer in layers:
                layer.to_k.weight.zero_()
        even = AttentionEntropyStart(HIGH)(batch)["attention_entropy_start"]
    finally:
        with torch.no_grad():
            for layer, weight in zip(layers, kept, strict=True):
                layer.to_k.weight.copy_(weight)
    torch.testing.assert_close(even, torch.full((2,), math.log(tokens)), rtol=1e-4, atol=0.0)
    assert not any(layer._forward_hooks for layer in layers)


def test_hooks_go_when_the_network_fails(model: StableDiffusion) -> None:
    with pytest.raises(RuntimeError, match="stop"), watched(model.network):
        raise RuntimeError("stop")
    assert not any(layer._forward_hooks for layer in cross_attention(model.network))


def test_prompts_are_read_once_each_in_order(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("a boot\n\n a coat \na boot\n")
    assert read_prompts(tmp_path / "p.txt") == [Prompt("a boot", 2), Prompt("a coat")]
    (tmp_path / "p.csv").write_text('file,caption\n1,"a, b"\n2,\n')
    assert read_prompts(tmp_path / "p.csv") == [Prompt("a, b"), Prompt("")]
    pq.write_table(pa.table({"words": ["x", None]}), tmp_path / "p.parquet")
    assert read_prompts(tmp_path / "p.parquet", "words") == [Prompt("x"), Prompt("")]
    with pytest.raises(ValueError, match="--column"):
        read_prompts(tmp_path / "p.parquet")
    (tmp_path / "p.json").write_text("{}")
    with pytest.raises(ValueError, match=r"\.txt, \.csv or \.parquet"):
        read_prompts(tmp_path / "p.json")


def test_batches_neighbors_and_order_change_nothing(model: StableDiffusion, tmp_path: Path) -> None:
    one = screen(model, SIX, out=tmp_path / "one", batch_size=4).rows
    other = screen(model, SIX[::-1], out=tmp_path / "other", batch_size=1).rows
    for name in ("guidance_norm_jump", "guidance_norm_start"):
        np.testing.assert_allclose(one[name].to_pylist(), other[name].to_pylist()[::-1], rtol=1e-3)  # float32
    assert sorted(one["rank"].to_pylist()) == [1, 2, 3, 4, 5, 6]


def test_a_screening_is_continued_and_refuses_another(model: StableDiffusion, tmp_path: Path) -> None:
    first = screen(model, SIX, out=tmp_path / "run")
    calls: list[tuple[int, int]] = []
    again = screen(model, SIX, out=tmp_path / "run", progress=lambda done, total: calls.append((done, total)))
    assert again.rows.equals(first.rows)
    assert calls == [(6, 6)]
    with pytest.raises(ValueError, match="differs in data"):
        screen(model, SIX[:5], out=tmp_path / "run")


def test_what_has_no_value_says_why_and_what_was_cut_is_told(model: StableDiffusion, tmp_path: Path) -> None:
    asked = [Prompt(""), Prompt("abcdef ghijkl mnopqr"), Prompt("ab")]  # 14 letters are read, one a token
    rows = screen(model, asked, out=tmp_path / "run").rows.to_pylist()
    assert json.loads(rows[0]["reasons"])["guidance_norm_jump"] == "empty prompt"
    assert rows[0]["rank"] is rows[0]["p"] is rows[0]["guidance_norm_jump"] is None
    assert rows[1]["guidance_norm_jump"] is not None
    assert rows[1]["note"].startswith("cut")
    assert rows[2]["note"] is rows[2]["reasons"] is None


def test_a_reference_decides(model: StableDiffusion, tmp_path: Path) -> None:
    ordinary = [Prompt(f"a coat number {n}") for n in range(39)]
    found = screen(model, SIX, reference=ordinary, out=tmp_path / "run", fdr=0.05)
    values = found.rows["guidance_norm_jump"].to_pylist()
    expected = [(1 + sum(r >= v for r in values[6:])) / 40 for v in values[:6]]
    np.testing.assert_allclose(found.decisions.p, expected)
    assert found.rows["role"].to_pylist() == ["audited"] * 6 + ["reference"] * 39
    assert found.rows["p"].to_pylist()[6:] == [None] * 39


def test_unknown_signals_and_columns_are_refused(model: StableDiffusion, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="choose among jump"):
        signals(model, ["joy"])
    with pytest.raises(ValueError, match="choose one of guidance_norm_jump"):
        screen(model, SIX, out=tmp_path / "run", decide_by="joy")
    with pytest.raises(ValueError, match="below the start"):
        GuidanceNormJump(1.0, 2.0)
    with pytest.raises(ValueError, match="descending"):
        Trajectory((1.0, 2.0))


def test_every_signal_fills_its_columns(model: StableDiffusion, tmp_path: Path) -> None:
    names = ["jump", "guidance", "confidence", "edges", "sharpness", "cosine", "freedom", "attention", "trajectory"]
    found = screen(model, SIX[:2], out=tmp_path / "run", metrics=signals(model, names))
    for column in found.record["columns"]:
        assert found.rows[column["name"]].null_count == 0, column["name"]


def test_the_command_line_screens(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("a felt boot\na wool coat\n")
    done = pointland(*["prompts", str(MINIATURE), str(tmp_path / "p.txt"), "-o", str(tmp_path / "run")])
    assert done.returncode == 0, done.stderr
    assert "a felt boot" in done.stdout
    assert "no reference" in done.stdout.replace("\n", " ")
    assert pq.read_table(tmp_path / "run" / "prompts.parquet").num_rows == 2


def pointland(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).parent / "pointland"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)

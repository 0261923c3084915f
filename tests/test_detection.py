from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from models import ExactModel
from pointland.auditing import Run
from pointland.benchmarks.detection import (
    Dose,
    KindCount,
    Rate,
    Result,
    Signal,
    Swap,
    calibration,
    draw,
    given_back,
    names_of,
    separated,
    unpack_only,
)
from pointland.verdict import Interval


def signal(column: str, group: str, value: float, cost: float = 8.0, settings: str = "ours") -> Signal:
    area = Interval(value, value - 0.01, min(1.0, value + 0.01))
    return Signal("m", settings, column, column.endswith("_conditional"), cost, group, 20, area, area)


GOOD = Result(
    signals=tuple(
        signal(column, group, value, cost)
        for group in ("x10", "x20", "x50", "verbatim", "template")
        for column, value, cost in (
            ("denoising_loss_unconditional", 0.995, 8.0),
            ("denoising_loss_conditional", 0.996, 8.0),
            ("flipd_unconditional", 0.99, 5.0),
            ("local_lid", 0.97, 8.0),
            ("png_bytes", 0.52, 0.0),
            ("worse", 0.9, 8.0),
            ("dearer", 0.99, 9.0),
        )
    ),
    rates=(Rate("m", "denoising_loss_unconditional", 0.05, 200, 0.04, 0.02, 0.08, 1.0),),
    doses=(Dose("m", 20, 20, 8.0, 1.0, 0.5),),
    swaps=(Swap("m", "denoising_loss_conditional", 40, 1.0),),
    kinds=(KindCount("m", "x20", 400, 400, 390, 10, 0), KindCount("over", "unique", 200, 190, 5, 185, 0)),
)


def test_the_claims_follow_the_numbers() -> None:
    assert all(GOOD.claims.values())
    assert len(GOOD.claims) == 10
    worse = Result(GOOD.signals, (GOOD.rates[0]._replace(low=0.06),), GOOD.doses, (), ())
    failed = [claim for claim, held in worse.claims.items() if not held]
    assert [claim[:10] for claim in failed] == ["the right ", "false flag"]
    assert not any(list(Result((), (), (), (), ()).claims.values())[:5])  # nothing measured is nothing shown


def test_the_front_has_no_column_that_another_beats() -> None:
    assert GOOD.front() == ["denoising_loss_unconditional", "flipd_unconditional"]


def test_the_plot_has_one_dot_a_column_with_a_cost() -> None:
    assert draw(GOOD).count("<circle") >= len({one.column for one in GOOD.signals}) - 1


def run_of(values: np.ndarray, roles: list[str], prefix: str) -> Run:
    column = {"name": "denoising_loss_unconditional", "memorized_when": "low", "needs": "nothing", "parts": 1}
    rows = {
        "key": [f"{prefix}{i}" for i in range(len(values))],
        "role": roles,
        "denoising_loss_unconditional": values,
        "reasons": pa.array([None] * len(values), pa.string()),
    }
    return Run(Path("run"), {"columns": [column], "sigma": {"value": 0.3}}, pa.table(rows), pa.table({}))


def test_calibration_counts_false_flags() -> None:
    rng = np.random.default_rng(0)
    roles = ["audited"] * 40 + ["reference"] * 300
    ours = run_of(np.concatenate([rng.normal(-9, 1, 40), rng.normal(size=300)]), roles, "a")
    groups = {f"a{i}": "x20" for i in range(40)}
    unseen = run_of(rng.normal(size=600), ["audited"] * 300 + ["reference"] * 300, "b")
    rates = calibration(ours, unseen, groups, "m")
    assert [one.asked for one in rates] == [0.05, 0.1, 0.2]
    assert all(one.low <= one.asked for one in rates)
    assert rates[-1].found > 0.05
    assert rates[0].power == 1.0
    table = separated(ours, groups, "m", "ours", {})
    assert {one.group for one in table} == {"x20", "verbatim"}
    assert table[0].auroc.value == 1.0


def test_a_memorizer_gives_back_what_it_memorized(tmp_path: Path) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
    for i, picture in enumerate(pictures):
        Image.fromarray(picture).save(tmp_path / f"{i}.png")
    blank = ExactModel(torch.empty(0))
    model = ExactModel(blank.codec.encode(torch.from_numpy(pictures[:1]).permute(0, 3, 1, 2)))
    rows = pa.table({"key": [f"{i}.png" for i in range(6)], "caption": [f"word {i}" for i in range(6)]})
    assert given_back(model, rows, tmp_path, 2, scale=1.0).tolist() == [True] + [False] * 5


def test_names_and_missing_records(tmp_path: Path) -> None:
    assert names_of([Path("a/pipeline"), Path("b/pipeline"), Path("c")]) == ["a", "b", "c"]
    assert names_of([Path("x/a"), Path("y/a")]) == ["a-0", "a-1"]
    with pytest.raises(ValueError, match=r"no trained\.json.*--unique"):
        unpack_only(tmp_path, tmp_path / "out")

from pathlib import Path

import numpy as np
import pytest
import torch

from models import ExactModel
from pointland.auditing import audit
from pointland.auditing.derived import derive, floats
from pointland.auditing.extras import extra_metrics
from pointland.auditing.plan import cost, default_metrics
from test_audit import write_pictures


def test_every_extra_metric_is_made_once() -> None:
    model = ExactModel(torch.empty(0))
    names = ["swapped", "recall", "guidance", "sharpness", "confidence", "cosine", "p-laplace", "critical", "recall"]
    made = extra_metrics(model, 0.3, names, ["a", "b"])
    assert len(made) == 8
    usual = default_metrics(model, 0.3)
    assert cost(model, [*usual, *made], 1).forwards > cost(model, usual, 1).forwards + 100


def test_unknown_names_and_missing_captions_are_refused() -> None:
    with pytest.raises(ValueError, match=r"no metric 'magic'.*swapped, recall"):
        extra_metrics(ExactModel(torch.empty(0)), 0.3, ["magic"], ["a"])
    with pytest.raises(ValueError, match="the model takes none"):
        extra_metrics(ExactModel(torch.empty(0), captioned=False), 0.3, ["swapped"], ["a"])
    with pytest.raises(ValueError, match="no audited picture has one"):
        extra_metrics(ExactModel(torch.empty(0)), 0.3, ["sharpness"], [])


def test_deciding_by_captions_that_nobody_has_is_refused_before_the_audit(tmp_path: Path) -> None:
    write_pictures(tmp_path / "images", 5, seed=0, captions=False)
    model = ExactModel(torch.empty(0))
    for column in ("caption_gap", "denoising_loss_conditional"):
        with pytest.raises(ValueError, match="needs captions"):
            audit(model, tmp_path / "images", out=tmp_path / "run", sigma=0.3, decide_by=column)


def test_the_swapped_control_tells_the_image_from_the_caption(tmp_path: Path) -> None:
    """The caption calls up memorized pictures; other pictures under such captions are not low."""
    blank = ExactModel(torch.empty(0))
    pictures = write_pictures(tmp_path / "images", 30, seed=0)
    write_pictures(tmp_path / "reference", 120, seed=1)
    model = ExactModel(blank.codec.encode(pictures))
    run = audit(
        model,
        tmp_path / "images",
        reference=tmp_path / "reference",
        out=tmp_path / "run",
        sigma=0.3,
        also=["swapped"],
        decide_by="swap_control",
    )
    rows = derive(run).rows
    control, roles = floats(rows, "swap_control"), np.array(rows["role"].to_pylist())
    assert control[roles == "audited"].max() < control[roles == "reference"].min()
    assert run.record["metrics"][-1]["captions"] == [f"word {i}" for i in sorted(range(30), key=str)]

"""Small audits in shards of 8 pictures, whole and in shares, on an exact model."""

from pathlib import Path
from typing import Any

import torch

from models import ExactModel
from pointland.auditing import Run
from pointland.auditing.engine import audit
from test_audit import write_pictures

N_SHARDS = 7  # of 51 pictures
SETTINGS: dict[str, Any] = {"sigma": 0.3, "n_draws": 2, "n_probes": 2, "batch_size": 7}


def model_of(folder: Path) -> ExactModel:
    """Write 30 pictures and 21 of a reference, one of them no picture; return a memorizer of half of the first."""
    pictures = write_pictures(folder / "images", 30, seed=0)
    write_pictures(folder / "reference", 21, seed=1)
    (folder / "images" / "0003.png").write_text("not a picture")
    return ExactModel(ExactModel(torch.empty(0)).codec.encode(pictures[::2]))


def made(model: ExactModel, folder: Path, out: str, shard: str | None = None, **settings: Any) -> Run:
    """Audit them, or one share of them."""
    command = "pointland audit" + ("" if shard is None else f" --shard {shard}")
    settings = {"reference": folder / "reference", **SETTINGS, "command": command, **settings}
    return audit(model, folder / "images", out=folder / out, shard=shard, **settings)


def parts_of(run: Path) -> dict[str, bytes]:
    """Return all parts of a run."""
    return {f"{path.parent.name}/{path.name}": path.read_bytes() for path in run.glob("*/part-*.parquet")}

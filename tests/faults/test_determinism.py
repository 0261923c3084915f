"""Row N2: the same command twice gives the same bytes; another number of threads, the same numbers to 1e-5."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from miniatures import cut
from pointland.auditing import read_run
from pointland.demo import MINIATURE, Demo

pytestmark = pytest.mark.fault

PROGRAM = """
import sys
import torch
from pointland.auditing import audit
from pointland.models import load
place, images, *runs = sys.argv[1:]
model = load(place, device="cpu")
for threads, out in zip(runs[::2], runs[1::2]):
    torch.set_num_threads(int(threads))
    audit(model, images, out=out, sigma=0.3, n_draws=2, n_probes=2)
"""


def audited(demo: Demo, *runs: tuple[int, Path]) -> list[pa.Table]:
    """Audit in a fresh process, once for each number of threads."""
    words = [str(word) for run in runs for word in run]
    command = [sys.executable, "-c", PROGRAM, str(MINIATURE), str(demo.images), *words]
    environment = os.environ | {"OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [read_run(out).rows for _, out in runs]


def test_twice_with_one_thread_and_once_with_two(tmp_path: Path) -> None:
    demo = cut(tmp_path, 24, 2)
    (first,) = audited(demo, (1, tmp_path / "first"))
    two, again = audited(demo, (2, tmp_path / "two"), (1, tmp_path / "again"))
    for part in (tmp_path / "first" / "rows").iterdir():
        assert (tmp_path / "again" / "rows" / part.name).read_bytes() == part.read_bytes()
    assert again.equals(first)
    assert two["key"].to_pylist() == first["key"].to_pylist()
    numbers = [field.name for field in first.schema if pa.types.is_floating(field.type)]
    assert len(numbers) > 5
    columns = {name: [np.array(t[name].to_pylist(), dtype=float) for t in (first, two)] for name in numbers}
    for name, (a, b) in columns.items():
        # a value that happens to be near 0 has no relative error of its own, nor has a standard error
        size = np.median(np.abs(columns[name.removesuffix("_stderr")][0]))
        assert np.all(np.abs(a - b) <= 1e-5 * np.maximum(np.abs(a), size)), name

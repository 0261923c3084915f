"""The command ``generate`` writes pictures and what was done for each, and refuses what it cannot use."""

import json
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import pipelines

POINTLAND = Path(sys.executable).parent / "pointland"

ARGUMENTS = ["--steps", "3", "--seeds", "2", "--batch-size", "3", "--device", "cpu"]


def pointland(*arguments: object) -> subprocess.CompletedProcess[str]:
    words = [str(POINTLAND), *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=300)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("generate") / "pipeline"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipelines.stable_diffusion(place.parent).save_pretrained(place)
    return place


def test_pictures_and_a_record_of_each(model: Path, tmp_path: Path) -> None:
    listed = tmp_path / "prompts.txt"
    listed.write_text("a coat\n\na bag\n", encoding="utf-8")
    out = tmp_path / "out"
    done = pointland("generate", str(model), "a boot", str(listed), "--mitigate", "tokens", "-o", str(out), *ARGUMENTS)
    assert done.returncode == 0, done.stderr
    record = json.loads((out / "generated.json").read_text())
    assert [row["prompt"] for row in record["images"]] == ["a boot"] * 2 + ["a coat"] * 2 + ["a bag"] * 2
    assert all((out / row["file"]).stat().st_size > 0 for row in record["images"])
    assert all(row["acted"] and row["evaluations"] == 6 for row in record["images"])
    assert all(row["sampled_from"] != row["prompt"] for row in record["images"])
    assert record["mitigation"] == "tokens"


def test_normal_prompts_teach_what_is_normal(model: Path, tmp_path: Path) -> None:
    usual = tmp_path / "usual.txt"
    usual.write_text("\n".join(f"a boot {i}" for i in range(9)), encoding="utf-8")
    more = ["--mitigate", "clip-guidance", "--normal", str(usual), "--rate", "0.1"]
    done = pointland("generate", str(model), "a boot 3", "-o", str(tmp_path / "out"), *more, *ARGUMENTS)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "out" / "generated.json").read_text())["normal_prompts"] == 9


@pytest.mark.parametrize(
    ("more", "what"),
    [
        (["--mitigate", "magic"], "drop-words"),
        (["--mitigate", "drop-words"], "--normal"),
        (["--mitigate", "none", "nowhere.txt"], "does not exist"),
    ],
)
def test_what_cannot_be_used_is_refused_with_what_to_do(
    more: list[str], what: str, model: Path, tmp_path: Path
) -> None:
    done = pointland("generate", str(model), "a boot", "-o", str(tmp_path / "out"), *more)
    assert done.returncode == 2
    assert what in done.stderr

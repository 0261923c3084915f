import io
from pathlib import Path

import pytest
from rich.console import Console

import runs
from pointland.auditing.directory import read_run
from pointland.report import evidence, print_table, summarize


@pytest.fixture
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Intervals are not what these tests are about."""
    monkeypatch.setattr(evidence, "RESAMPLES", 10)


def printed(run: Path, top: int = 20, width: int = 140) -> str:
    stream = io.StringIO()
    print_table(summarize(read_run(run)), top, Console(file=stream, width=width, force_terminal=False))
    return stream.getvalue()


@pytest.mark.usefixtures("few_resamples")
def test_prints_verdict_and_top(tmp_path: Path) -> None:
    text = printed(runs.build(tmp_path, 200, n_reference=399, labels=True), top=7)
    assert "of 200 pictures are flagged as memorized" in text
    assert "7 of 200 pictures" in text
    assert text.count("data-driven") >= 7
    assert "x50" in text


@pytest.mark.parametrize("width", [40, 80, 200])
def test_hostile_text_does_nothing(tmp_path: Path, width: int) -> None:
    captions = ["[bold red]markup[/] [link=file:///etc]x[/link]", *runs.HOSTILE]
    text = printed(runs.build(tmp_path, 40, captions=captions, n_failed=2), width=width)
    for bad in ("\x1b", "\x00", "\u202e", "\x08"):
        assert bad not in text
    if width == 200:
        assert "[bold red]markup[/]" in text


@pytest.mark.parametrize("options", [{"n": 0, "n_reference": 0}, {"n": 3, "n_reference": 0, "captions": False}])
def test_small_runs(tmp_path: Path, options: dict[str, int]) -> None:
    assert "Judged by" in printed(runs.build(tmp_path, **options))  # type: ignore[arg-type]  # options of the builder


def test_none_at_all(tmp_path: Path) -> None:
    assert "picture " not in printed(runs.build(tmp_path, 10), top=0).split("\n")[-1]

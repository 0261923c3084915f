import re
from pathlib import Path

import pytest

import runs
from pointland.auditing.directory import read_run
from pointland.report import evidence, render_markdown, summarize
from pointland.report.markdown import escape

commonmark = pytest.importorskip("markdown_it", reason="markdown-it-py comes with rich")


@pytest.fixture
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Intervals are not what these tests are about."""
    monkeypatch.setattr(evidence, "RESAMPLES", 10)


def rendered(text: str) -> str:
    html: str = commonmark.MarkdownIt("gfm-like", {"linkify": False, "html": True}).render(text)
    return html


@pytest.mark.parametrize(
    "text", [*runs.HOSTILE, "~~x~~ **b** _i_ `c`", "www.evil.example @team :x: $a$", "1. a", "- b"]
)
def test_escaped_text_neither_marks_up_nor_links(text: str) -> None:
    html = rendered("cell: " + escape(text[:400]))
    assert set(re.findall(r"<(\w+)", html)) <= {"p"}
    assert "\x00" not in html
    assert "\u202e" not in html


@pytest.mark.usefixtures("few_resamples")
def test_hostile_rows_stay_in_their_table(tmp_path: Path) -> None:
    names = [text[:60].replace("/", "_") for text in runs.HOSTILE]
    summary = summarize(
        read_run(runs.build(tmp_path, 20, captions=runs.HOSTILE, names=names, n_failed=30, labels=True))
    )
    text = render_markdown(summary)
    text.encode("utf-8")
    html = rendered(text)
    allowed = {"h1", "h2", "p", "strong", "ul", "li", "table", "thead", "tbody", "tr", "th", "td"}
    assert set(re.findall(r"<(\w+)", html)) <= allowed
    first = html.split("<table>")[1].split("</table>")[0]
    assert first.count("<tr>") == 21
    assert all(row.count("<td>") == 8 for row in first.split("<tr>")[2:])
    assert "and 10 more" in text


@pytest.mark.parametrize(
    "options", [{"n": 0, "n_reference": 0}, {"n": 5, "n_reference": 0, "captions": False}, {"n": 60}]
)
def test_says_the_verdict(tmp_path: Path, options: dict[str, int]) -> None:
    summary = summarize(read_run(runs.build(tmp_path, **options)))  # type: ignore[arg-type]  # options of the builder
    text = render_markdown(summary)
    assert summary["verdict"]["headline"] in text
    assert "A flag is not proof" in text

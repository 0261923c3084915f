"""Rows I6 and I7: hostile captions, labels and file names through a real audit, into every file that a run writes."""

import csv
import html
import json
import os
import re
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import runs
from chromium import dom, framed, needed, said
from pointland.auditing import audit, read_run
from pointland.cli.tabular import write_rows
from pointland.data.cells import shielded, unshielded
from pointland.demo import MINIATURE
from pointland.models import load
from pointland.report import evidence, write_report

pytestmark = pytest.mark.fault

NAMES = [
    unicodedata.normalize("NFC", "é"),
    unicodedata.normalize("NFD", "é"),
    "🙂👩‍👩‍👧",
    "new\nline",
    "\"quotes\" 'and' `ticks`",
    "-rf",
    "--help",
    "x" * 251,
    "日" * 83,
    " space ",
    "a,b;c\td",
    "<img src=x onerror=document.title=`hacked`>",
    "‮gpj",
    "100%41#?&",
    "back\\slash",
    "=1+1",
    "@SUM(A1)",
    "+7",
    "[link](javascript:alert(1))",
    "{{ 7*7 }}",
]
CAPTIONS = [
    *(text.strip() for text in runs.HOSTILE),
    "@SUM(A1)",
    "+1",
    "-1",
    "'=1",
    "mark\ufeff",
    "line\u2028line",
    "line\rline",
    "line\r=1+1",
]
LABELS = ["=cmd|'/C calc'!A0", "+x", "-x", "@x", "'=x", "<script>document.title='hacked'</script>", "‮x", "x" * 3_000]
FORMULAS = ("=", "+", "-", "@", "\t", "\r")
OPENED = r"""
  const found = [];
  for (const button of d.querySelectorAll("#rows .open")) {
    button.click();
    const link = d.querySelector("#details a[href]");
    if (link) {
      const picture = new Image();
      const opened = await new Promise((done) => {
        picture.onload = () => done(picture.naturalWidth);
        picture.onerror = () => done(0);
        picture.src = link.href;
      });
      found.push([link.getAttribute("href"), opened]);
    }
    d.getElementById("details").close();
  }
  const own = [...d.querySelectorAll("*")];
  return {
    opened: found,
    handlers: own.filter((e) => [...e.attributes].some((a) => a.name.startsWith("on"))).length,
    outside: own.filter((e) => e.matches("iframe,object,embed,base,link,form")).length,
    scripts: own.filter((e) => e.matches("script")).length,
    links: own.filter((e) => e.matches("a") && !/^(#|\.\.?\/)/.test(e.getAttribute("href") || "#")).length,
    asked: w.performance.getEntriesByType("resource").filter((e) => !e.name.startsWith("data:")).length,
    hacked: document.title.includes("hacked") || d.title.includes("hacked"),
    wide: d.documentElement.scrollWidth > d.documentElement.clientWidth,
  };
"""


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("audited")
    images = folder / "images"
    images.mkdir()
    rows, labels = [], []
    for i, caption in enumerate(CAPTIONS):
        name = f"{NAMES[i]}.png" if i < len(NAMES) else f"{i}.png"
        noise = np.random.default_rng(i).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(noise).save(images / name, "PNG")
        rows.append(json.dumps({"file_name": name, "text": caption}))
        labels.append(json.dumps({"key": name, "label": LABELS[i % len(LABELS)]}))
    (images / "metadata.jsonl").write_text("\n".join(rows), encoding="utf-8")
    (folder / "labels.jsonl").write_text("\n".join(labels), encoding="utf-8")
    settings: dict[str, Any] = {"sigma": 0.3, "n_draws": 1, "n_probes": 1, "labels": folder / "labels.jsonl"}
    run = audit(load(MINIATURE, device="cpu"), images, out=folder / "run", **settings)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evidence, "RESAMPLES", 10)  # intervals are not what these tests are about
        write_report(run.folder)
    return run.folder


def expected() -> dict[str, str]:
    return {f"{NAMES[i]}.png" if i < len(NAMES) else f"{i}.png": text for i, text in enumerate(CAPTIONS)}


def test_names_and_captions_are_in_the_rows_exactly(audited: Path) -> None:
    rows = read_run(audited).rows
    assert dict(zip(rows["key"].to_pylist(), rows["caption"].to_pylist(), strict=True)) == expected()
    assert rows["file"].to_pylist() == rows["key"].to_pylist()
    assert rows["flipd_conditional"].null_count == 0


def test_names_that_are_no_unicode_and_halves_of_characters_do_not_break_the_tables(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for name in (b"latin\xe9.png", b"plain.png"):
        Image.new("RGB", (32, 32)).save(images / os.fsdecode(name), "PNG")
    caption = json.dumps({"file_name": "plain.png", "text": "half \ud800"})
    (images / "metadata.jsonl").write_text(caption, encoding="utf-8")
    model = load(MINIATURE, device="cpu")
    with pytest.raises(ValueError, match=r"metadata.jsonl, line 1: text has \\ud800, one half of a pair"):
        audit(model, images, out=tmp_path / "run", sigma=0.3)
    (images / "metadata.jsonl").unlink()
    run = audit(model, images, out=tmp_path / "run", sigma=0.3, n_draws=1, n_probes=1)
    assert run.rows["key"].to_pylist() == ["latin\\xe9.png", "plain.png"]
    write_report(run.folder)
    assert "latin\\\\xe9" in (run.folder / "report.html").read_text(encoding="utf-8")


def cells(path: Path) -> list[str]:
    with path.open(encoding="utf-8", newline="") as stream:
        return [cell for row in csv.reader(stream) for cell in row]


def test_no_cell_of_the_labels_is_a_formula_and_the_report_reads_them_back(audited: Path) -> None:
    found = cells(audited / "labels.csv")
    assert len(found) == 2 + 2 * len(CAPTIONS)
    assert [cell for cell in found if cell.startswith(FORMULAS)] == []
    summary = json.loads((audited / "summary.json").read_text(encoding="utf-8"))
    said = {row["key"]: row["label"] for row in summary["rows"]}
    for i, key in enumerate(expected()):
        if len(LABELS[i % len(LABELS)]) < 100 and "\n" not in key and "\u202e" not in key:  # long ones are shown cut
            assert said.get(key, "no row") in (LABELS[i % len(LABELS)], "no row"), key


def test_no_cell_of_a_spreadsheet_is_a_formula_and_parquet_is_exact(tmp_path: Path) -> None:
    texts = [*runs.HOSTILE, *CAPTIONS, *LABELS, *NAMES, "\t=1", "\r=1", "", "'", "''", "-3.5"]
    table = pa.table({"text": texts, "number": [-1.5] * len(texts)})
    write_rows(tmp_path, table)
    assert pq.read_table(tmp_path / "rows.parquet").equals(table)
    limit = csv.field_size_limit(10_000_000)
    try:
        found = cells(tmp_path / "rows.csv")[2:]
    finally:
        csv.field_size_limit(limit)
    assert [cell for cell in found[::2] if cell.startswith(FORMULAS)] == []
    assert set(found[1::2]) == {"-1.5"}  # a number stays one
    assert [unshielded(cell) for cell in found[::2]] == texts


@pytest.mark.parametrize("text", ["", "'", "''", "=", "'=", "''=", "a=", "'a", "-", "\t", "'\r1", "＝1", "@'"])
def test_shielding_is_exact(text: str) -> None:
    assert unshielded(shielded(text)) == text
    assert not shielded(text).startswith(FORMULAS)


def test_markdown_shows_text_as_text(audited: Path) -> None:
    text = (audited / "report.md").read_text(encoding="utf-8")
    assert not re.search(r"<[a-zA-Z/!]", text)
    assert "](" not in text
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x00\x1b]", text)


@needed
def test_nothing_runs_in_the_report_of_a_real_audit_and_every_link_opens(audited: Path, tmp_path: Path) -> None:
    found = json.loads(html.unescape(said(dom(framed(audited / "report.html", 1280, OPENED), tmp_path))))
    opened = found.pop("opened")
    assert len(opened) == len(CAPTIONS)
    assert [link for link, width in opened if width != 32] == []
    assert found == {
        "handlers": 0,
        "outside": 0,
        "scripts": 2,
        "links": 0,
        "asked": 0,
        "hacked": False,
        "wide": False,
    }


@needed
def test_the_same_captions_without_care_own_the_page(tmp_path: Path) -> None:
    """Or the test before this one could not fail."""
    page = tmp_path / "page.html"
    page.write_text("<!doctype html><title>mine</title>" + runs.HOSTILE[0] + runs.HOSTILE[2], encoding="utf-8")
    assert "<title>hacked</title>" in dom(page, tmp_path)

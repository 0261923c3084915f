"""The report in a real browser: hostile text does not run, nothing overflows, nothing is asked of the network."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import runs
from chromium import dom, framed, needed, said
from pointland.report import evidence, write_report

pytestmark = needed


def report(folder: Path) -> Path:
    names = [f"{i}{text[:50]}".replace("/", "_").replace("\x00", "") for i, text in enumerate(runs.HOSTILE)]
    return write_report(
        runs.build(
            folder, 700, n_reference=399, captions=runs.HOSTILE, names=names, labels=True, memorized=100, pictures=90
        )
    )


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evidence, "RESAMPLES", 10)  # intervals are not what these tests are about
        yield report(tmp_path_factory.mktemp("report"))


def test_hostile_text_does_not_run_and_our_script_does(page: Path, tmp_path: Path) -> None:
    html = dom(page, tmp_path)
    title = re.search(r"<title>(.*?)</title>", html, re.S)
    assert title
    assert "hacked" not in title[1]
    assert "flagged as memorized" in title[1]
    assert 'id="count" role="status" data-all="500 rows">500 rows' in html


def test_nothing_overflows_on_a_phone(page: Path, tmp_path: Path) -> None:
    script = "return [w.innerWidth, d.documentElement.scrollWidth - d.documentElement.clientWidth]"
    assert said(dom(framed(page, 390, script), tmp_path)) == "[390,0]"


def test_works_and_asks_nobody(page: Path, tmp_path: Path) -> None:
    script = """
      const s = d.getElementById("search");
      s.value = "nothing has this"; s.dispatchEvent(new w.Event("input"));
      const none = !d.getElementById("none").hidden;
      s.value = ""; s.dispatchEvent(new w.Event("input"));
      const b = d.querySelectorAll("#rows th button")[0]; b.click(); b.click();
      const first = Number(d.querySelector("#rows tbody tr").cells[0].dataset.v);
      d.querySelectorAll(".card")[3].click();
      const name = () => d.getElementById("details-name").textContent;
      const open = d.getElementById("details").open, before = name();
      d.getElementById("details-after").click();
      const handlers = [...d.querySelectorAll("*")].filter(e => [...e.attributes].some(a => a.name.startsWith("on")));
      const asked = w.performance.getEntriesByType("resource").filter(e => !e.name.startsWith("data:"));
      const outside = [...d.querySelectorAll("script,iframe,object,embed,base,link,form")].map(e => e.tagName).join();
      return {
        filters: none, sorts: first >= 400, opens: open, moves: before !== name(),
        tells: d.querySelectorAll("#details-list dt").length > 10, handlers: handlers.length, asked: asked.length,
        outside, title: d.title.includes("hacked"), wide: d.documentElement.scrollWidth > d.documentElement.clientWidth,
      };
    """
    assert json.loads(said(dom(framed(page, 1280, script), tmp_path))) == {
        "filters": True,
        "sorts": True,
        "opens": True,
        "moves": True,
        "tells": True,
        "handlers": 0,
        "asked": 0,
        "outside": "SCRIPT,SCRIPT",
        "title": False,
        "wide": False,
    }

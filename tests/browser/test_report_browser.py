"""The report in a real browser: hostile text does not run, nothing overflows, nothing is asked of the network."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import runs
from pointland.report import evidence, write_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--allow-file-access-from-files",
]

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here; on Debian: apt-get install chromium")


def dom(page: Path, folder: Path, *, width: int = 1280) -> str:
    command = [
        str(CHROMIUM),
        *FLAGS,
        f"--user-data-dir={folder / 'profile'}",
        f"--window-size={width},900",
        "--virtual-time-budget=3000",
        "--dump-dom",
        page.as_uri(),
    ]
    return subprocess.run(command, capture_output=True, timeout=60, check=True).stdout.decode("utf-8")


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


def framed(page: Path, width: int, script: str) -> Path:
    """Wrap the page in a frame of the given width, and write what ``script`` says of it into the outer document."""
    wrapper = page.parent / f"frame-{width}.html"
    wrapper.write_text(
        f"<!doctype html><title>wait</title><iframe id=f src={page.name} "
        f"style='width:{width}px;height:900px;border:0'></iframe>"
        f"<p id=said></p><script>f.onload=()=>{{const w=f.contentWindow,d=f.contentDocument;"
        f"said.textContent=JSON.stringify((()=>{{{script}}})())}}</script>",
        encoding="utf-8",
    )
    return wrapper


def said(html: str) -> str:
    found = re.search(r'<p id="said">(.*?)</p>', html, re.S)
    assert found
    return found[1]


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

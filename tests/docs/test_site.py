"""The site builds without a warning and without the network, and every link in it leads somewhere."""

import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest

from pages import DOCS, text

pytestmark = pytest.mark.slow  # half a minute of computing: every docstring is read


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    refused = {f"{name}_proxy": "http://127.0.0.1:9" for name in ("http", "https", "HTTP", "HTTPS")}
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-n", "-q", "-d", str(out / "trees")]
    done = subprocess.run(
        [*command, "-b", "html", str(DOCS), str(out / "html")],
        env={**os.environ, **refused},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return out / "html"


def test_links_and_anchors_lead_somewhere(site: Path) -> None:
    pages = {page: text(page) for page in site.rglob("*.html")}
    names = {page: set(re.findall(r'\bid="([^"]+)"', html)) for page, html in pages.items()}
    broken = []
    for page, html in pages.items():
        for target in re.findall(r'<(?:a|link|img|script)\b[^>]*?\b(?:href|src)="([^"]+)"', html):
            if re.match(r"[a-z]+:", target):
                continue
            place, _, anchor = unquote(target).partition("#")
            file = (page.parent / place.split("?")[0]).resolve() if place else page
            if not file.exists() or (anchor and file in names and anchor not in names[file]):
                broken.append((page.relative_to(site).as_posix(), target))
    assert not broken


def test_pages_ask_the_network_for_nothing(site: Path) -> None:
    for page in site.rglob("*.html"):
        for tag in re.findall(r"<(?:script|link|img|iframe|source)\b[^>]*>", text(page)):
            wanted = re.search(r'\b(?:src|href)="(?:https?:)?//', tag)
            assert not wanted or 'rel="canonical"' in tag, f"{page.name}: {tag}"
    for sheet in (site / "_static").rglob("*.css"):
        assert not re.search(r"url\([\"']?(?:https?:)?//|@import\s+[\"'](?:https?:)?//", text(sheet)), sheet.name


def test_formulas_and_options_are_on_the_pages(site: Path) -> None:
    assert text(site / "methods.html").count("<math") > 20
    assert "--reference-model" in text(site / "commands" / "audit.html")
    assert 'id="pointland.lid.flipd"' in text(site / "api" / "lid.html")
    assert 'id="pointland.verdict.Kind"' in text(site / "api" / "verdict.html")
    assert "$" not in re.sub(r"<(pre|script|style|code)\b.*?</\1>", "", text(site / "methods.html"), flags=re.DOTALL)

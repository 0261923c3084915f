"""A page in a real browser, without a window: what its document is after its scripts have run, and a person's keys."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

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
needed = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here; on Debian: apt-get install chromium")


def dom(page: Path, folder: Path, *, width: int = 1280) -> str:
    """Return the document of a page; the browser keeps its profile in ``folder``."""
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


def framed(page: Path, width: int, script: str) -> Path:
    """Wrap the page in a frame of the given width, and write what ``script`` says of it into the outer document.

    The script is the body of an asynchronous function that sees the frame's window ``w`` and document ``d``.
    """
    wrapper = page.parent / f"frame-{width}.html"
    wrapper.write_text(
        f"<!doctype html><title>wait</title><iframe id=f src={page.name} "
        f"style='width:{width}px;height:900px;border:0'></iframe>"
        f"<p id=said></p><script>f.onload=async()=>{{const w=f.contentWindow,d=f.contentDocument;"
        f"said.textContent=JSON.stringify(await (async()=>{{{script}}})())}}</script>",
        encoding="utf-8",
    )
    return wrapper


def said(html: str) -> str:
    """Return what the script of :func:`framed` said."""
    found = re.search(r'<p id="said">(.*?)</p>', html, re.S)
    assert found
    return found[1]


@contextmanager
def playing(chromium: str) -> Iterator["Browser"]:
    """Start the installed browser for Playwright, which brings none of its own; skip where Playwright is missing."""
    driver = pytest.importorskip("playwright.sync_api", reason="no playwright here; install the extra 'test'")
    with driver.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield started
        started.close()

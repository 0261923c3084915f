"""How fast a report opens: as written, without lazy pictures, and without leaving layout for later.

    pointland demo --out demo-run
    python benchmarks/report_opening.py demo-run/run/report.html [--rounds 5] [--out benchmarks/report_opening.json]

It needs Chromium, and Playwright from the extra "test". Other ways of writing the page are made from it by taking
something out; the policy, which names the style by its hash, goes too.
"""

import argparse
import json
import platform
import re
import shutil
import statistics
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

TIMES = """() => {
  const [page] = performance.getEntriesByType("navigation");
  const [paint] = performance.getEntriesByName("first-contentful-paint");
  return {
    first_paint_ms: paint.startTime, ready_ms: page.domContentLoadedEventEnd, loaded_ms: page.loadEventEnd,
    pictures_read: [...document.images].filter((image) => image.complete && image.naturalWidth).length,
  };
}"""


def variants(page: str) -> dict[str, str]:
    """Return the page in four ways."""
    open_page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
    at_once = open_page.replace("content-visibility: auto;", "")
    eager = at_once.replace(' loading="lazy"', "")
    placed = re.sub(r'(<img class="thumb[^"]*") src=', r"\1 data-later=", at_once)
    return {
        "as written": open_page,
        "all laid out at once": at_once,
        "and all pictures read at once": eager,
        "table's pictures kept in attributes": placed,
    }


def opened(browser: Browser, url: str) -> dict[str, float]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.goto(url, wait_until="load")
    page.wait_for_timeout(300)
    times: dict[str, float] = page.evaluate(TIMES)
    context.close()
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/report_opening.json"))
    settings = parser.parse_args()
    pages = variants(settings.report.read_text(encoding="utf-8"))
    found: dict[str, list[dict[str, float]]] = {name: [] for name in pages}
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        chromium = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        for turn in range(settings.rounds + 1):
            for place, (name, text) in enumerate(pages.items()):
                file = Path(folder) / f"{place}.html"
                file.write_text(text, encoding="utf-8")
                times = opened(browser, file.as_uri())
                if turn:  # the first round warms the disk and the browser up
                    found[name].append(times)
        version = browser.version
        browser.close()
    result = {
        "command": "python benchmarks/report_opening.py demo-run/run/report.html",
        "bytes": settings.report.stat().st_size,
        "medians": {
            name: {key: round(statistics.median(one[key] for one in times)) for key in times[0]}
            for name, times in found.items()
        },
        "rounds": settings.rounds,
        "machine": {"processor": platform.machine(), "chromium": version},
    }
    settings.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()

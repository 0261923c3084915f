"""The report and explain pages under axe, an accessibility checker, in light and dark, dialogs closed and open."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest
import torch
from PIL import Image

from browser.pages import Reports
from models import ExactModel, Shrink
from pointland.explanation import explain, write_page

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
# Rows, cards and charts after the first few are made by the same lines of the templates, and contrasts take time.
PAGE = {"exclude": ["tbody tr:nth-child(n+3)", "#cards > li:nth-child(n+3)", ".charts > :nth-child(n+2)"]}


def violations(page: "Page", context: object = PAGE, rules: list[str] = TAGS) -> str:
    """Return what axe finds wrong in the page, or in what ``context`` selects; empty if nothing."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="no axe here; install the extra 'test'")
    results = axe.Axe().run(page, context, {"runOnly": rules, "resultTypes": ["violations"]})
    return str(results.generate_report()) if results.violations_count else ""


def test_axe_finds_nothing(browser: "Browser", reports: Reports) -> None:
    page = browser.new_page(color_scheme="light", reduced_motion="reduce")
    page.goto(reports.rich.as_uri())
    page.locator("section").evaluate_all("all => all.forEach(one => { one.style.contentVisibility = 'visible'; })")
    assert violations(page) == ""
    page.locator(".card").first.click()
    assert violations(page, "#details") == ""
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    assert page.locator("#keys-list").is_visible()
    assert violations(page, "#keys-list") == ""
    page.keyboard.press("Escape")
    page.emulate_media(color_scheme="dark")
    assert violations(page, PAGE, ["color-contrast"]) == ""  # no other rule looks at colors
    page.close()


def test_axe_finds_what_is_broken(browser: "Browser", reports: Reports) -> None:
    """Or the test before this one could not fail."""
    page = browser.new_page(reduced_motion="reduce")
    page.goto(reports.ranked.as_uri())
    page.evaluate("""() => {
      document.querySelector("h2").outerHTML = "<h5>Pictures</h5>";
      document.querySelector(".chart title").remove();
      document.querySelector(".how").style.color = "#bbb";
      document.querySelector("main").prepend(document.createElement("img"));
      document.body.append("not in a landmark");
    }""")
    found = violations(page)
    for rule in ("heading-order", "svg-img-alt", "color-contrast", "image-alt", "region"):
        assert rule in found
    page.close()


def test_axe_finds_nothing_on_an_explain_page_and_it_fits_a_telephone(browser: "Browser", tmp_path: Path) -> None:
    images = torch.randint(0, 256, (4, 3, 8, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    for i, one in enumerate(images):
        Image.fromarray(one.permute(1, 2, 0).numpy()).save(tmp_path / f"{i}.png")
    model = ExactModel(Shrink().encode(images))
    found = explain(model, tmp_path / "0.png", caption="a", train=tmp_path, sigma=0.3, n_draws=2, n_directions=2)
    page = browser.new_page(viewport={"width": 390, "height": 800}, reduced_motion="reduce")
    page.goto(write_page(found, tmp_path / "out").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    schemes: tuple[Literal["light", "dark"], ...] = ("light", "dark")
    for scheme in schemes:
        page.emulate_media(color_scheme=scheme)
        assert violations(page, {}, TAGS if scheme == "light" else ["color-contrast"]) == ""
    page.close()

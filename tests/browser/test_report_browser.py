"""The report in a real browser: hostile text does not run, nothing overflows, nothing is asked of the network."""

import json
from typing import TYPE_CHECKING

import pytest

from browser.pages import Reports

if TYPE_CHECKING:
    from playwright.sync_api import Browser

WIDE = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
FOUND = """() => ({
  handlers: [...document.querySelectorAll("*")].flatMap(e => e.getAttributeNames()).filter(n => /^on/.test(n)).length,
  outside: [...document.querySelectorAll("script,iframe,object,embed,base,link,form")].map(e => e.tagName).join(),
  asked: performance.getEntriesByType("resource").filter(e => !e.name.startsWith("data:")).length,
  count: document.getElementById("count").textContent,
})"""


def test_hostile_text_does_not_run_and_nobody_is_asked(browser: "Browser", reports: Reports) -> None:
    page = browser.new_page(viewport={"width": 390, "height": 900})
    asked: list[str] = []
    failures: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: failures.append(str(error)))
    page.goto(reports.hostile.as_uri())
    assert page.evaluate(WIDE) == 0  # on a phone
    page.locator(".card").nth(3).click()
    assert page.evaluate(WIDE) == 0
    for _ in range(30):  # every hostile picture and caption once, the dialog's own text included
        page.keyboard.press("ArrowRight")
    page.keyboard.press("Escape")
    page.set_viewport_size({"width": 1280, "height": 900})
    assert page.evaluate(WIDE) == 0
    assert page.evaluate(FOUND) == {
        "handlers": 0,
        "outside": "SCRIPT,SCRIPT",
        "asked": 0,
        "count": "60 of 60 pictures, by suspicion; 24 shown",
    }
    assert "hacked" not in page.title()
    assert "flagged as memorized" in page.title()
    assert [url for url in asked if not url.startswith("data:")] == [reports.hostile.as_uri()]
    assert failures == []
    page.goto(reports.rich.as_uri())  # the widest: tables of labelled groups
    assert page.evaluate(WIDE) == 0
    page.set_viewport_size({"width": 390, "height": 900})
    assert page.evaluate(WIDE) == 0
    page.close()


def test_it_is_readable_without_scripts_and_on_paper(browser: "Browser", reports: Reports) -> None:
    page = browser.new_page(java_script_enabled=False, color_scheme="dark")
    page.goto(reports.rich.as_uri())
    assert not page.locator("#choice").is_visible()
    assert not page.locator("#theme").is_visible()
    assert page.locator("#cards .card").count() == 24
    assert page.locator("#rows tbody tr").count() == 30
    page.locator(".card").nth(5).click()
    assert page.url.endswith("#row-5")
    assert page.locator(".card + .explain").count() == 2
    page.emulate_media(media="print")
    assert not page.locator("nav.parts").is_visible()
    page.close()
    page = browser.new_page(color_scheme="dark")
    page.goto(reports.rich.as_uri())
    background = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(background) == "rgb(19, 21, 25)"
    page.emulate_media(media="print")
    assert page.evaluate(background) == "rgb(255, 255, 255)"
    page.close()


@pytest.mark.parametrize("name", ["ranked", "empty"])
def test_reports_with_little_in_them_have_no_errors(browser: "Browser", reports: Reports, name: str) -> None:
    page = browser.new_page()
    failures: list[str] = []
    page.on("pageerror", lambda error: failures.append(str(error)))
    page.goto(getattr(reports, name).as_uri())
    page.locator("#theme").click()
    assert page.locator("html").get_attribute("data-theme") == "dark"
    assert json.loads(page.locator("#data").text_content() or "")["columns"]
    assert failures == []
    page.close()

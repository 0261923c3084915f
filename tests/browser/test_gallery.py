"""The gallery under a person's hands: keys, choices that the address keeps, explain pages, light and dark."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from browser.pages import Reports

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

FOCUSED = "document.activeElement.dataset.row ?? document.activeElement.id"
SHOWN = "[...document.querySelectorAll('#cards .card')].map(card => Number(card.dataset.row))"
ROWS = "[...document.querySelectorAll('#rows tbody tr')].filter(tr => !tr.hidden).map(tr => Number(tr.dataset.row))"


@pytest.fixture
def page(browser: "Browser", reports: Reports) -> Iterator["Page"]:
    opened = browser.new_page(viewport={"width": 1000, "height": 900}, color_scheme="light", reduced_motion="reduce")
    failures: list[str] = []
    opened.on("pageerror", lambda error: failures.append(str(error)))
    opened.goto(reports.rich.as_uri())
    yield opened
    opened.close()
    assert failures == []


def focused(page: "Page") -> str:
    return str(page.evaluate(FOCUSED))


def test_keys_move_open_and_close(page: "Page") -> None:
    stops = page.locator("#cards a[tabindex='0']")  # one card and its link
    assert [one.get_attribute("href") for one in stops.all()] == ["#row-0", "./explain/a.html"]
    press = page.keyboard.press
    press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.locator("#keys-open").focus()
    press("Tab")
    assert focused(page) == "0"
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    press("ArrowRight")
    press("ArrowDown")
    across = page.evaluate("getComputedStyle(document.getElementById('cards')).gridTemplateColumns.split(' ').length")
    assert focused(page) == str(1 + across)
    press("ArrowUp")
    press("ArrowUp")  # nothing is above the first row
    assert focused(page) == "1"
    press("End")
    assert focused(page) == "23"
    press("ArrowRight")
    assert focused(page) == "23"
    press("Home")
    press("ArrowLeft")
    assert focused(page) == "0"
    press("Enter")
    details = page.locator("#details")
    assert details.is_visible()
    assert "open=0" in page.url
    press("ArrowRight")
    press("ArrowRight")
    assert page.locator("#details-name").text_content() == "#3 " + (page.locator("#row-2 .open").text_content() or "")
    press("Escape")
    page.wait_for_function(f"({FOCUSED}) === '2'")  # where the reader was
    assert not details.is_visible()
    assert "open=" not in page.url
    press("Space")
    assert details.is_visible()
    press("Escape")
    press("?")
    assert page.locator("#keys-list").is_visible()
    press("Escape")
    press("Tab")  # one stop for all cards
    assert focused(page) == "more"
    page.locator(".card").nth(4).focus()
    press("/")
    assert focused(page) == "find"
    press("?")  # typed here, no command
    assert page.locator("#find").input_value() == "?"


def test_choices_narrow_gallery_and_table_and_the_address_keeps_them(page: "Page", browser: "Browser") -> None:
    status = page.locator("#count")
    every = page.evaluate(ROWS)
    assert status.get_attribute("role") == "status"
    page.locator("#show").select_option("flagged")
    flagged = page.evaluate(ROWS)
    data = page.evaluate("JSON.parse(document.getElementById('data').textContent).rows")
    assert flagged == [i for i in every if data[i]["f"]]
    assert 0 < len(flagged) < len(every)
    assert status.text_content() == f"{len(flagged)} of 30 pictures, by suspicion; {min(24, len(flagged))} shown"
    kind = page.locator("#show option").last.get_attribute("value") or ""
    page.locator("#show").select_option(kind)
    assert page.evaluate(SHOWN) == [i for i in every if f"kind:{data[i]['y']}" == kind][:24]
    page.locator("#show").select_option("not-flagged")
    page.locator("#sort").select_option(label="PNG size")
    page.locator("#order").click()
    column = page.locator("#rows thead th", has_text="PNG size")
    assert column.get_attribute("aria-sort") == "descending"
    at = column.evaluate("th => th.cellIndex")
    values = [float(page.locator(f"#row-{i} > *").nth(at).get_attribute("data-v") or "") for i in page.evaluate(ROWS)]
    assert values == sorted(values, reverse=True)
    assert values != sorted(values)
    page.locator("#find").fill("SHIRT")
    found = page.evaluate(ROWS)
    captions = [page.locator(f"#row-{i} .caption").text_content() or "" for i in found]
    assert 0 < len(captions) < len(values)
    assert all("shirt" in caption for caption in captions)
    other = browser.new_page()
    other.goto(page.url)  # the address alone gives the same choice
    assert other.evaluate(ROWS) == found
    assert other.evaluate(SHOWN) == found[:24]
    assert other.locator("#find").input_value() == "SHIRT"
    other.close()
    page.locator("nav.parts a", has_text="Table").click()
    page.wait_for_url("**#table?*")
    page.wait_for_function("Math.abs(document.getElementById('table').getBoundingClientRect().top) < 150")
    assert page.evaluate(ROWS) == found
    page.locator("#find").fill("no picture is called so")
    assert page.locator("#none").is_visible()
    page.locator("#reset").click()
    assert page.evaluate(ROWS) == every
    assert page.url.endswith("#table")


def test_numbers_without_a_value_come_last_either_way(page: "Page") -> None:
    head = page.locator("#rows thead button").nth(5)
    ends = []
    for _ in range(2):
        head.click()
        last = page.evaluate(ROWS)[-1]
        ends.append(page.locator(f"#row-{last} td[data-decides]").text_content())
    assert ends == ["–", "–"]
    ranks = page.evaluate(ROWS)
    page.locator("#rows thead button").first.click()
    assert page.evaluate(ROWS) != ranks


def test_a_group_of_copies_alone(page: "Page") -> None:
    data = page.evaluate("JSON.parse(document.getElementById('data').textContent).rows")
    of = next(i for i, row in enumerate(data) if row["g"])
    page.locator(f"#row-{of} .open").click()
    page.get_by_role("button", name=f"Show group {data[of]['g']}").click()
    assert page.evaluate(ROWS) == [i for i, row in enumerate(data) if row["g"] == data[of]["g"]]
    assert page.locator("#copies").input_value() == str(data[of]["g"])
    page.locator("#copies").select_option("none")
    assert page.evaluate(ROWS) == [i for i, row in enumerate(data) if not row["g"]]


def test_more_cards_are_made_when_asked_for(page: "Page") -> None:
    assert len(page.evaluate(SHOWN)) == 24
    page.locator("#more").click()
    assert page.evaluate(SHOWN) == list(range(30))
    assert focused(page) == "24"
    assert not page.locator("#more").is_visible()
    made = page.locator(".card[data-row='27']")  # not in the page as it was written
    assert made.locator("img").get_attribute("alt") == "Picture " + (page.locator("#row-27 .open").text_content() or "")
    value = page.locator("#row-27 td[data-decides]").text_content() or ""
    assert (made.locator(".value").text_content() or "") == value


def test_explain_pages_are_linked_where_the_run_has_them(page: "Page") -> None:
    linked = page.locator(".card + .explain")
    assert linked.count() == 2
    assert linked.first.get_attribute("aria-label") == "Explain Picture 000000.png"
    page.locator(".card").first.click()
    why = page.locator("#details a.explain")
    assert why.get_attribute("href") == "./explain/a.html"
    why.click()
    assert page.title() == "a.html"


def test_light_and_dark(page: "Page") -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(background)
    page.locator("#theme").click()
    assert page.locator("#theme").get_attribute("aria-pressed") == "true"
    dark = page.evaluate(background)
    assert dark != light
    page.reload()
    assert page.evaluate(background) == dark
    page.locator("#theme").click()
    assert page.evaluate(background) == light

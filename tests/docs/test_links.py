"""Links between pages lead to files and headings that exist; notebooks included."""

import json
import re
from pathlib import Path

import pytest

from pages import DOCS, PAGES, anchors, links, name, text


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for link in links(page):
        target = (page.parent / link.target).resolve() if link.target else page
        assert target.exists(), f"{name(page)} links to {link.target}"
        if link.anchor and target.suffix == ".md":
            assert link.anchor in anchors(target), f"{name(page)} links to {link.target}#{link.anchor}"


def test_every_page_is_in_a_table_of_contents() -> None:
    """Sphinx says so too, when it builds; this is for those who add a page."""
    listed = "\n".join(text(page) for page in DOCS.rglob("index.md"))
    for page in sorted([*DOCS.rglob("*.md"), *DOCS.rglob("*.ipynb")]):
        if page.name != "index.md" and page.parent.name != "design":
            where = page.relative_to(DOCS).with_suffix("").as_posix()
            names = {where, page.stem} if page.parent != DOCS else {where}
            assert any(re.search(rf"^(.* <)?{one}>?$", listed, re.MULTILINE) for one in names), (
                f"{where} is in no toctree"
            )


def test_every_entry_of_a_table_of_contents_is_a_page() -> None:
    for index in DOCS.rglob("index.md"):
        for block in re.findall(r"```\{toctree\}\n(.*?)```", text(index), re.DOTALL):
            for line in block.splitlines():
                entry = line.rpartition("<")[2].rstrip(">")
                if entry and not entry.startswith(":") and "*" not in entry:
                    found = [index.parent / f"{entry}{suffix}" for suffix in (".md", ".ipynb")]
                    assert any(page.exists() for page in found), f"{name(index)} lists {entry}"


@pytest.mark.parametrize("book", sorted(DOCS.rglob("*.ipynb")), ids=lambda book: book.stem)
def test_notebooks_are_committed_without_outputs(book: Path) -> None:
    for cell in json.loads(text(book))["cells"]:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


def test_anchors_are_githubs() -> None:
    found = anchors(DOCS / "scale.md")
    assert {"is-it-whole-pointland-verify", "without-a-shared-disk-pointland-merge"} <= found

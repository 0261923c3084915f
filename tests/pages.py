"""The pages of the documentation: their text, code, commands and links, for tests."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = (
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *(page for page in sorted(DOCS.rglob("*.md")) if "_build" not in page.parts),
)
FENCE = re.compile(r"^(`{3,}|:{3,})(.*?)\n(.*?)^\1[ ]*$", re.MULTILINE | re.DOTALL)


class Link(NamedTuple):
    """A link within the documentation.

    Attributes:
        page: Where it stands.
        target: The file it leads to, empty for the page itself.
        anchor: The heading there, empty for the top.
    """

    page: Path
    target: str
    anchor: str


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def python_blocks(page: Path) -> list[str]:
    """Return the Python code of a page, block by block."""
    return [match[3] for match in FENCE.finditer(text(page)) if match[2].strip() == "python"]


def prose(page: Path) -> str:
    """Return a page without its fenced blocks, but with what directives for admonitions and the like hold."""
    return FENCE.sub(lambda match: match[3] if match[1].startswith(":") else "", text(page))


def links(page: Path) -> Iterator[Link]:
    """Yield the links of a page that lead to a file of the repository or to a heading."""
    for match in re.finditer(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "code", prose(page))):
        target, _, anchor = match[1].partition("#")
        if "://" not in target and not target.startswith("mailto:"):
            yield Link(page, target, anchor)


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, by GitHub's rule, which MyST follows."""
    found: set[str] = set()
    for heading in re.findall(r"^#{1,6} (.*)$", prose(page), re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", plain.strip().lower()).replace(" ", "-")
        found.add(slug if slug not in found else f"{slug}-1")
    return found


def command_lines(page: Path) -> Iterator[str]:
    """Yield the commands of a page, of blocks and of running text, with continued lines joined and remarks cut."""
    whole = re.sub(r"\\\n\s*", "", text(page))
    for line in whole.splitlines():
        if re.match(r"\s*(OMP_NUM_THREADS=1 )?(pointland|python3?|torchrun|srun|make) ", line):
            yield re.split(r"\s+#\s", line)[0].strip()
            continue
        for code in re.findall(r"`([^`\n]+)`", line):
            if re.match(r"(OMP_NUM_THREADS=1 )?(pointland|python3?|make) ", code):
                yield code

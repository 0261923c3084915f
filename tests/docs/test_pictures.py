"""The pictures of the concept pages are what their script draws; each page names the command."""

import re
from pathlib import Path

import numpy as np
import pytest

from pages import DOCS, ROOT, text

PLACES = re.compile(r"-?\d+(?:\.\d+)?")


@pytest.fixture(scope="module")
def drawn() -> dict[str, str]:
    scope: dict[str, object] = {"__name__": "pictures", "__file__": str(DOCS / "pictures.py")}
    exec(compile(text(DOCS / "pictures.py"), "pictures.py", "exec"), scope)
    cheap = scope["cheap"]
    assert callable(cheap)
    made: dict[str, str] = cheap()
    return made


def test_the_cheap_pictures_are_those_that_are_committed(drawn: dict[str, str]) -> None:
    assert set(drawn) == {"dimension", "kinds", "scale"}
    for name, svg in drawn.items():
        kept = text(DOCS / "pictures" / f"{name}.svg")
        assert PLACES.sub("", svg) == PLACES.sub("", kept), name
        new, old = (np.array(PLACES.findall(one), float) for one in (svg, kept))
        np.testing.assert_allclose(new, old, atol=1.0)  # pixels; processors round differently


@pytest.mark.parametrize("picture", sorted((DOCS / "pictures").glob("*.svg")), ids=lambda path: path.stem)
def test_a_page_shows_every_picture_with_its_command_and_says_what_is_on_it(picture: Path) -> None:
    shown = [page for page in DOCS.rglob("*.md") if f"pictures/{picture.name})" in text(page)]
    assert any("python docs/pictures.py" in text(page) for page in shown)
    for page in shown:
        (words,) = re.findall(rf"!\[([^\]]*)\]\([./]*pictures/{picture.name}\)", text(page))
        assert len(words) > 30, f"{page.name}: the alternative text of {picture.name}"
    assert f'"{picture.stem}"' in text(DOCS / "pictures.py")
    assert "http://" not in text(picture).replace("http://www.w3.org", "")
    assert (ROOT / "docs" / "pictures.py").exists()

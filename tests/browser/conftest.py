"""One browser for all tests of a worker, and the reports that they look at."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from browser.pages import Reports, write_reports
from chromium import CHROMIUM, playing
from pointland.report import evidence

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="session")
def browser() -> Iterator["Browser"]:
    if CHROMIUM is None:
        pytest.skip("no chromium here; on Debian: apt-get install chromium")
    with playing(CHROMIUM) as started:
        yield started


@pytest.fixture(scope="session")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Reports:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evidence, "RESAMPLES", 10)  # intervals are not what these tests are about
        return write_reports(tmp_path_factory.mktemp("reports"))

"""A real browser for tests: Debian's chromium, driven by Playwright, and axe for accessibility."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Browser, Page, sync_playwright

NAMES: Final = ("chromium", "chromium-browser", "google-chrome")
NONE: Final = (
    "no chromium on this machine: `apt-get install chromium`; the pages were not looked at in a browser"
)
_RUN: Final = "axe.run({resultTypes: ['violations']}).then(found => found.violations)"


def chromium() -> str | None:
    """Where it is; None where there is none."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


@contextmanager
def browser() -> Iterator[Browser]:
    """Skips, with a word on what was not looked at, where there is none."""
    path = chromium()
    if path is None:
        pytest.skip(NONE)
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        )
        yield opened
        opened.close()


def violations(page: Page) -> list[str]:
    """What axe finds wrong, each as rule and elements. It is put into a page once, for all looks at it."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE_SCRIPT)
    found: list[dict[str, Any]] = page.evaluate(_RUN)
    return [f"{each['id']}: {'; '.join(node['html'][:160] for node in each['nodes'][:4])}" for each in found]

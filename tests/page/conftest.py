"""Headless Chromium. `make test-page` installs it; without it these tests fail rather than pass unseen."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from reverse_etl.sandbox import Sandbox

FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)
HANG_MS = 60_000  # what takes so long hangs
expect.set_options(timeout=HANG_MS)

OpenPage = Callable[..., Page]


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS.split())
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium: Browser) -> Iterator[OpenPage]:
    """Opens a tab with these options, and closes it at the end."""
    tabs: list[Page] = []

    def open_page(**options: Any) -> Page:
        tabs.append(chromium.new_page(**options))
        tabs[-1].set_default_timeout(HANG_MS)
        return tabs[-1]

    yield open_page
    for tab in tabs:
        tab.close()


@pytest.fixture
def page(open_page: OpenPage, braze: Sandbox) -> Iterator[Page]:
    """A tab. Whatever the page complains about fails the test."""
    tab, complaints = open_page(viewport={"width": 1200, "height": 800}, base_url=braze.url), list[Any]()
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    yield tab
    tab.close()
    assert [text for text in complaints if not text.startswith("Failed to load resource")] == []

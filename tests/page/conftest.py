"""Headless Chromium. `make test-page` installs it; without it these tests fail rather than pass unseen."""

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from reverse_etl.sandbox import Sandbox

FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS.split())
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Browser, braze: Sandbox) -> Iterator[Page]:
    """A tab. Whatever the page complains about fails the test."""
    context = chromium.new_context(viewport={"width": 1200, "height": 800}, base_url=braze.url)
    tab, complaints = context.new_page(), list[Any]()
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    tab.set_default_timeout(10_000)
    yield tab
    context.close()
    assert [text for text in complaints if not text.startswith("Failed to load resource")] == []

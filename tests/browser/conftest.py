"""A real browser, and pages that must neither complain nor ask anybody for anything."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
IMPACTS = ("serious", "critical")


@pytest.fixture(scope="session")
def axe() -> Path | None:
    """The script of axe-core that DNNTRAIN_TEST_AXE names, if it names one."""
    named = os.environ.get("DNNTRAIN_TEST_AXE")
    return Path(named) if named else None


@pytest.fixture(scope="module")
def browser(axe: Path | None) -> Iterator[Any]:
    """Chromium, or a skip; where axe-core was prepared, as in continuous integration, it must be there."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        found, reason = None, "playwright is not installed"
    else:
        reason = f"no browser here: none of {', '.join(BROWSERS)}"
    if found is None:
        (pytest.fail if axe else pytest.skip)(reason)
    with sync_playwright() as playwright:
        # Chromium refuses its sandbox to root, as which containers run.
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        with closing(playwright.chromium.launch(executable_path=found, args=arguments)) as launched:
            yield launched


@pytest.fixture
def opened(browser: Any) -> Iterator[Callable[..., Any]]:
    """Open a page; at the end, it must have logged no error but `complains`, and asked nobody but its own address."""
    complaints: list[str] = []
    asked: list[str] = []
    contexts = []
    may_ask: list[str] = ["data:"]
    expected: list[str] = []

    def open_it(url: str, *, complains: str | None = None, offline: bool = True, **options: Any) -> Any:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        contexts.append(context)
        context.set_default_timeout(10_000)
        context.set_offline(offline)
        may_ask.append(url)
        expected.extend([complains] if complains else [])
        page = context.new_page()
        page.on(
            "console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None
        )
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(url)
        return page

    yield open_it
    for context in contexts:
        context.close()
    assert [text for text in complaints if not any(each in text for each in expected)] == []
    assert [url for url in asked if not url.startswith(tuple(may_ask))] == []


@pytest.fixture
def accessible(axe: Path | None) -> Callable[[Any], None]:
    """Check a page with axe-core, where there is one."""

    def check(page: Any) -> None:
        if axe is None:
            pytest.skip("DNNTRAIN_TEST_AXE does not name axe.min.js")
        page.evaluate(axe.read_text())
        found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
        grave = {
            each["id"]: [node["html"] for node in each["nodes"]][:3] for each in found if each["impact"] in IMPACTS
        }
        assert grave == {}

    return check

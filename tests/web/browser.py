"""What the browser tests share: Chromium, and how rows, cells and their places are asked for."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
MARKS = [
    pytest.mark.browser,
    pytest.mark.timeout(120),
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium"),
]
ARGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--no-first-run", "--no-proxy-server",
]  # fmt: skip
DESK, PHONE = {"width": 1440, "height": 900}, {"width": 390, "height": 844}
Page = Any
Visit = Callable[..., Page]


def uids(page: Page) -> list[str]:
    found: list[str] = page.eval_on_selector_all("#rows tr[data-uid]", "rows => rows.map(r => r.dataset.uid)")
    return found


def cell(page: Page, uid: str, column: str) -> str:
    return " ".join(page.inner_text(f'tr[data-uid="{uid}"] .c-{column}').split())


def top_of(page: Page, uid: str) -> float:
    return float(
        page.evaluate("u => document.querySelector(`tr[data-uid='${u}']`).getBoundingClientRect().top", uid)
    )


def until(page: Page, expression: str, argument: Any = None, seconds: float = 30) -> None:
    """Asked from outside: the page's own CSP forbids the `eval` that `wait_for_function` is made of."""
    deadline = time.monotonic() + seconds
    while not page.evaluate(expression, argument):
        assert time.monotonic() < deadline, f"not within {seconds} s: {expression}"
        page.wait_for_timeout(30)


def settle(page: Page) -> None:
    """Pointer away from the rows and no key pressed: the list may come to rest."""
    page.mouse.move(5, 5)


def choose_row(page: Page, uid: str) -> None:
    page.click(f'tr[data-uid="{uid}"] .c-pat')
    until(page, "u => document.querySelector(`tr[data-uid='${u}'][aria-current]`)", uid)

"""A site in a SQLite file, its application, clients that are signed in, and pages in real Chromium."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.serving import make_server

from tests.web.browser import ARGS, CHROMIUM, DESK, Page, Visit
from tests.web.seed import Sown, sow
from triage.settings import Settings
from triage.web.app import create_app
from triage.workflow import accounts


class Clock:
    """Moved by hand."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now

    def forward(self, **step: float) -> None:
        self.now += timedelta(**step)


class RealClock(Clock):
    """The browser counts by the server's clock, so this one runs; `forward` moves it on."""

    def __init__(self) -> None:
        super().__init__()
        self._began = time.monotonic()

    def __call__(self) -> datetime:
        return self.now + timedelta(seconds=time.monotonic() - self._began)


@pytest.fixture
def clock(request: pytest.FixtureRequest) -> Clock:
    return RealClock() if request.node.get_closest_marker("browser") else Clock()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", site="NORTH")


@pytest.fixture
def sown(tmp_path: Path, clock: Clock) -> Iterator[Sown]:
    found = sow(tmp_path / "triage.db", clock())
    yield found
    found.database.close()


@pytest.fixture
def app(settings: Settings, sown: Sown, clock: Clock) -> Iterator[Flask]:
    settings.home.mkdir(exist_ok=True)
    found = create_app(settings, sown.database, clock)
    yield found
    found.extensions["triage"].feed.stop()
    found.extensions["triage"].previewer.close()


SignedIn = Callable[[str], FlaskClient]


@pytest.fixture
def signed_in(app: Flask, sown: Sown, clock: Clock) -> SignedIn:
    """A client with a live session of this user, which sends the CSRF token with every request."""

    def client(name: str) -> FlaskClient:
        with sown.database.write() as tx:
            signed = accounts.sign_in(tx, name, clock())
        found = app.test_client()
        found.set_cookie("triage_session", signed.secret)
        found.environ_base["HTTP_X_CSRF_TOKEN"] = signed.csrf_token
        return found

    return client


@pytest.fixture
def bearer(app: Flask, sown: Sown, clock: Clock) -> Callable[..., FlaskClient]:
    """A client that sends a token of these scopes."""

    def client(*scopes: str, name: str = "") -> FlaskClient:
        with sown.database.write() as tx:
            secret = accounts.issue_token(tx, name or "-".join(scopes), scopes, clock(), by="test")
        found = app.test_client()
        found.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {secret}"
        return found

    return client


def ok(response: Any, status: int = 200) -> Any:
    assert response.status_code == status, response.get_data(as_text=True)
    return response.get_json()


# --- in a real browser ---


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGS)
        yield browser
        browser.close()


@pytest.fixture
def base(app: Flask) -> Iterator[str]:
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    app.extensions["triage"].feed.stop()
    server.shutdown()


@pytest.fixture
def visit(chromium: Any, base: str, sown: Sown, clock: Clock) -> Iterator[Visit]:
    """A page of this user at this path; what the console says wrong fails the test."""
    contexts, said = [], []

    def go(
        user: str, path: str = "/worklist", *, size: dict[str, int] = DESK, theme: str = "dark", **more: Any
    ) -> Page:
        context = chromium.new_context(viewport=size, color_scheme=theme, accept_downloads=True, **more)
        contexts.append(context)
        with sown.database.write() as tx:
            secret = accounts.sign_in(tx, user, clock()).secret
        context.add_cookies([{"name": "triage_session", "value": secret, "url": base}])
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("console", lambda m: said.append(m.text) if "Content Security" in m.text else None)
        page.goto(base + path)
        if path.startswith("/worklist"):
            page.wait_for_selector("#rows tr[data-uid], #rows tr.empty", state="attached")
            page.wait_for_selector(
                ".rows table[data-loaded]", state="attached"
            )  # on a phone an open panel lies over it
        return page

    yield go
    for context in contexts:
        context.close()
    assert said == []

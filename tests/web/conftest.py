"""A site in a SQLite file, its application, and clients that are signed in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

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


@pytest.fixture
def clock() -> Clock:
    return Clock()


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

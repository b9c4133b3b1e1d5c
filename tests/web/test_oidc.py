"""Sign-in by a real identity provider that runs in the test: roles from groups, every check that must hold, break-glass."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.web.conftest import Clock
from tests.web.seed import PASSWORD, Sown
from triage.cli.up import free_port
from triage.settings import OidcSettings, RouteSettings, Settings
from triage.store import audit, users
from triage.store.schema import operator_notice
from triage.web.app import create_app

PEOPLE = {
    "anna": {"preferred_username": "anna.b", "name": "Anna B", "groups": ["rad-readers", "gym"]},
    "carl": {"preferred_username": "carl", "name": "Carl", "groups": ["gym"]},
    "ben": {"preferred_username": "ben", "name": "Ben of another house", "groups": ["rad-readers"]},
}
ROLES = {"rad-readers": "reader", "rad-leads": "lead"}


@pytest.fixture(scope="module")
def issuer() -> Iterator[str]:
    pytest.importorskip("oidc_provider_mock")
    port = free_port()
    people = [f"--user-claims={json.dumps({'sub': sub, **claims})}" for sub, claims in PEOPLE.items()]
    program = Path(sys.executable).with_name("oidc-provider-mock")
    running = subprocess.Popen([str(program), "-p", str(port), *people], stderr=subprocess.DEVNULL)
    address = f"http://localhost:{port}"
    for _ in range(300):
        try:
            httpx.get(f"{address}/jwks", trust_env=False)
            break
        except httpx.HTTPError:
            time.sleep(0.1)
    yield address
    running.terminate()
    running.wait()


@pytest.fixture
def app(issuer: str, settings: Settings, sown: Sown, clock: Clock, tmp_path: Path) -> Iterator[Flask]:
    settings.home.mkdir(exist_ok=True)
    (tmp_path / "hook").write_text("key")
    hook = RouteSettings(
        name="ops", kind="webhook", url="https://ops.example", secret_file=tmp_path / "hook", operator=True
    )
    made = settings.model_copy(
        update={
            "oidc": OidcSettings(
                issuer=issuer,
                roles=ROLES,
                break_glass=("admin",),
                scope="openid profile",  # type: ignore[arg-type]
                client_secret_file=tmp_path / "hook",
            ),
            "routes": (hook,),
        }
    )
    found = create_app(made, sown.database, clock)
    yield found
    found.extensions["triage"].feed.stop()
    found.extensions["triage"].previewer.close()


def at_the_provider(client: FlaskClient, sub: str, target: str = "") -> str:
    """Begin here, sign in there; the path that the provider sends the browser back to."""
    begun = client.get("/sign-in/oidc", query_string={"next": target})
    assert begun.status_code == 302, begun.get_data(as_text=True)
    answer = httpx.post(begun.headers["Location"], data={"sub": sub}, trust_env=False)
    back = urlsplit(answer.headers["Location"])
    return f"{back.path}?{back.query}"


def test_a_person_comes_in_with_the_role_of_their_group(app: Flask, sown: Sown) -> None:
    client = app.test_client()
    done = client.get(at_the_provider(client, "anna", "/worklist?tab=all"))
    assert (done.status_code, done.headers["Location"]) == (302, "/worklist?tab=all")
    assert client.get("/api/v1/worklist").status_code == 200
    assert client.get("/qa").status_code == 403
    with sown.database.read() as tx:
        anna = users.find_user(tx, "anna.b")
        assert anna is not None and (anna["role"], anna["display_name"]) == ("reader", "Anna B")
        assert {"user.added", "session.opened"} <= {e["act"] for e in audit.events(tx)}
    again = app.test_client()
    assert again.get(at_the_provider(again, "anna")).status_code == 302


def test_nobody_without_a_group_of_ours_and_nobody_under_a_local_name(app: Flask) -> None:
    client = app.test_client()
    refused = client.get(at_the_provider(client, "carl"))
    assert refused.status_code == 403 and "none of your groups" in refused.get_data(as_text=True)
    taken = client.get(at_the_provider(client, "ben"))
    assert taken.status_code == 403 and "local user has this name" in taken.get_data(as_text=True)
    assert client.get("/api/v1/worklist").status_code == 401


def test_an_answer_counts_once_and_only_for_the_browser_that_asked(app: Flask) -> None:
    client, thief = app.test_client(), app.test_client()
    path = at_the_provider(client, "anna")
    assert thief.get(path).status_code == 403  # no cookie of this flow
    thief.get("/sign-in/oidc")
    assert thief.get(path).status_code == 403  # the cookie of another flow
    assert client.get(path).status_code == 302
    assert client.get(path).status_code == 403  # the same answer once more
    begun = client.get("/sign-in/oidc")
    state = parse_qs(urlsplit(begun.headers["Location"]).query)["state"][0]
    for query in ({"state": state}, {"state": state, "error": "access_denied"}, {"state": state, "code": "guessed"},
                  {"state": state, "code": "x", "iss": "https://evil.example"}):  # fmt: skip
        assert client.get("/sign-in/oidc/callback", query_string=query).status_code == 403
    client.set_cookie("triage_flow", "rubbish", path="/sign-in/oidc")
    assert client.get("/sign-in/oidc/callback?state=x&code=y").status_code == 403


def test_the_way_back_is_never_to_another_house(app: Flask) -> None:
    client = app.test_client()
    assert client.get(at_the_provider(client, "anna", "//evil.example")).headers["Location"] == "/"


def test_a_password_is_for_the_named_emergency_users_and_each_use_is_told(app: Flask, sown: Sown) -> None:
    client = app.test_client()
    page = client.get("/sign-in").get_data(as_text=True)
    assert "hospital account" in page and "Emergency access" in page
    assert client.post("/sign-in", data={"name": "reader", "password": PASSWORD}).status_code == 403
    assert client.post("/sign-in", data={"name": "admin", "password": PASSWORD}).status_code == 302
    with sown.database.read() as tx:
        assert "session.break_glass" in {e["act"] for e in audit.events(tx)}
        told = tx.execute(operator_notice.select()).mappings().all()
    assert [(t["kind"], t["route"]) for t in told] == [("session.break_glass", "ops")]


def test_a_provider_that_is_away_is_said_and_costs_nobody_else(
    settings: Settings, sown: Sown, clock: Clock
) -> None:
    settings.home.mkdir(exist_ok=True)
    oidc = OidcSettings(issuer="http://localhost:1", roles=ROLES)  # type: ignore[arg-type]
    app = create_app(settings.model_copy(update={"oidc": oidc}), sown.database, clock)
    answer = app.test_client().get("/sign-in/oidc")
    assert answer.status_code == 503 and "cannot be reached" in answer.get_data(as_text=True)
    app.extensions["triage"].feed.stop()
    app.extensions["triage"].previewer.close()


def test_settings_that_cannot_work_are_refused() -> None:
    with pytest.raises(ValueError, match="https"):
        OidcSettings(issuer="http://id.example", roles=ROLES)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="roles"):
        OidcSettings(issuer="https://id.example")

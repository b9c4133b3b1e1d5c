"""One's own password and sessions."""

from __future__ import annotations

import re
from typing import Any

from flask import Flask
from flask.testing import FlaskClient

from tests.web.conftest import Clock, SignedIn
from tests.web.seed import PASSWORD, Sown
from triage.store import audit, users
from triage.workflow import accounts

NEW = "another long horse 77"


def change(client: FlaskClient, **fields: str) -> Any:
    said = {"act": "password", "current": PASSWORD, "password": NEW, "again": NEW, **fields}
    return client.post("/account", data=said)


def works(client: FlaskClient) -> bool:
    return client.get("/api/v1/worklist").status_code == 200


def test_a_person_changes_their_password_and_only_the_session_that_did_it_goes_on(
    app: Flask, signed_in: SignedIn, sown: Sown
) -> None:
    here, phone, ben = signed_in("ann"), signed_in("ann"), signed_in("ben")
    before = here.get_cookie("triage_session")
    response = change(here)
    assert response.status_code == 302 and PASSWORD not in response.headers["Location"]
    assert works(here) and works(ben) and not works(phone)
    after = here.get_cookie("triage_session")
    assert before and after and before.value != after.value, (
        "a session is new after the password was asked for"
    )
    assert NEW not in here.get("/account?done=password").get_data(as_text=True)
    stranger = app.test_client()
    assert stranger.post("/sign-in", data={"name": "ann", "password": PASSWORD}).status_code == 401
    assert stranger.post("/sign-in", data={"name": "ann", "password": NEW}).status_code == 302
    with sown.database.read() as tx:
        (told,) = [e for e in audit.events(tx) if e["act"] == "user.password_changed"]
    assert (told["actor"], told["object_id"]) == ("ann", "ann")


def test_without_the_password_of_now_nothing_changes_and_guessing_waits(
    app: Flask, signed_in: SignedIn, clock: Clock
) -> None:
    here, phone = signed_in("ann"), signed_in("ann")
    said = [change(here, current="a wrong guess").status_code for _ in range(5)]
    assert said == [422, 422, 422, 422, 429]
    assert works(here) and works(phone)
    clock.forward(seconds=2)
    app.extensions["triage"].rates._buckets.clear()
    for fields in (
        {"again": "not the same 99"},
        {"password": "short", "again": "short"},
        {"password": "", "again": ""},
    ):
        page = change(here, **fields)
        assert page.status_code == 422 and 'role="alert"' in page.get_data(as_text=True)
    assert app.test_client().post("/sign-in", data={"name": "ann", "password": PASSWORD}).status_code == 302


def test_a_person_sees_their_sessions_and_ends_one_or_all_others(
    signed_in: SignedIn, sown: Sown, clock: Clock
) -> None:
    old = signed_in("ann")
    clock.forward(minutes=5)
    here, phone, desk, ben = (signed_in(n) for n in ("ann", "ann", "ann", "ben"))
    page = here.get("/account").get_data(as_text=True)
    shown = re.findall(r'name="session" value="([0-9a-f]{64})"', page)
    assert len(shown) == 3 and page.count("this one") == 1
    mine = users.digest(str(phone.get_cookie("triage_session").value))  # type: ignore[union-attr]
    assert mine in shown
    assert here.post("/account", data={"act": "end", "session": mine}).status_code == 302
    assert [works(c) for c in (here, phone, desk, old, ben)] == [True, False, True, True, True]
    of_ben = users.digest(str(ben.get_cookie("triage_session").value))  # type: ignore[union-attr]
    here.post("/account", data={"act": "end", "session": of_ben})
    assert works(ben), "nobody ends another's session"
    here.post("/account", data={"act": "end"})
    assert [works(c) for c in (here, desk, old, ben)] == [True, False, False, True]
    with sown.database.read() as tx:
        ended = [(e["actor"], e["detail"]) for e in audit.events(tx) if e["act"] == "session.ended"]
    assert ended == [("ann", {"sessions": 1}), ("ann", {"sessions": 2})]
    clock.forward(minutes=16)
    assert here.get("/account").status_code == 302, "an idle session has ended by itself"


def test_whom_the_hospital_signs_in_has_no_password_here(signed_in: SignedIn, sown: Sown) -> None:
    client = signed_in("ann")
    with sown.database.write() as tx:
        users.change_user(tx, "ann", password_hash=accounts.OUTSIDE)
    assert 'name="current"' not in client.get("/account").get_data(as_text=True)
    assert change(client).status_code == 422


def test_a_token_has_no_account(bearer: Any) -> None:
    client = bearer("worklist:read")
    assert client.get("/account").status_code == 422
    assert client.post("/account", data={"act": "end"}).status_code == 422

"""Users, passwords and tokens: nobody guesses, nobody is locked out, nothing secret is kept."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Connection

from triage.domain.errors import Conflict, Refused
from triage.store import audit, constancy, users
from triage.store.database import Database
from triage.store.schema import metadata
from triage.workflow import accounts

NOW = datetime(2026, 11, 21, 3, 0, tzinfo=UTC)
PASSWORD = "correct horse 42"


@pytest.fixture
def tx(tmp_path: Path) -> Iterator[Connection]:
    database = Database(f"sqlite:///{tmp_path / 'a.db'}")
    metadata.create_all(database.engine)
    with database.write() as connection:
        yield connection
    database.close()


def ann(tx: Connection) -> int:
    return accounts.create_user(tx, "ann", "reader", PASSWORD, NOW, by="root", display_name="Dr. Ann")


def test_a_user_signs_in_with_the_right_password_alone(tx: Connection) -> None:
    ann(tx)
    assert accounts.password_fits(tx, "ann", PASSWORD, NOW)
    assert not accounts.password_fits(tx, "ann", PASSWORD + " ", NOW)
    assert not accounts.password_fits(tx, "nobody", PASSWORD, NOW)
    signed = accounts.sign_in(tx, "ann", NOW)
    assert (signed.name, signed.role) == ("ann", "reader")
    session = users.find_session(tx, signed.secret, NOW - timedelta(minutes=15), NOW - timedelta(hours=12))
    assert session is not None
    assert session["display_name"] == "Dr. Ann"


@pytest.mark.parametrize(
    "password", ["correct horse 42", "ein Satz mit Umlauten: äöü", "7391-0482-5566", "x" * 3 + "yz!q" * 30]
)
def test_any_other_password_is_taken_as_it_comes(tx: Connection, password: str) -> None:
    """Of any composition, of any length, whole and in its own letters (ASVS 6.2.5, 6.2.8, 6.2.9)."""
    accounts.create_user(tx, "ann", "reader", password, NOW, by="root")
    assert accounts.password_fits(tx, "ann", password, NOW)
    assert not accounts.password_fits(tx, "ann", password[:-1], NOW)
    assert not accounts.password_fits(tx, "ann", password.swapcase(), NOW) or password == password.swapcase()


def test_a_name_is_one_persons(tx: Connection) -> None:
    ann(tx)
    with pytest.raises(Conflict):
        ann(tx)


@pytest.mark.parametrize(
    ("name", "role", "password"),
    [("x", "king", PASSWORD), ("", "reader", PASSWORD), ("a:b", "reader", PASSWORD), ("a\nb", "reader", PASSWORD),
     ("x", "reader", "short"), ("x", "reader", "QwertyUiop"), ("x", "reader", "aaaabbbbaaaab"),
     ("annemarie", "reader", "AnneMarie2026"), ("x", "reader", "Radiology2026"), ("x", "reader", "triagehospital!")],
)  # fmt: skip
def test_what_cannot_be_a_user_is_refused(tx: Connection, name: str, role: str, password: str) -> None:
    with pytest.raises(Refused):
        accounts.create_user(tx, name, role, password, NOW, by="root")


def test_the_wait_after_wrong_passwords_doubles_up_to_a_minute_and_ends_with_the_right_one(
    tx: Connection,
) -> None:
    ann(tx)
    waits = []
    for _ in range(12):
        accounts.note_failure(tx, "ann", NOW)
        found = users.find_user(tx, "ann")
        assert found is not None
        waits.append(0 if found["not_before"] is None else (found["not_before"] - NOW).total_seconds())
    assert waits == [0, 0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60]
    with pytest.raises(accounts.TooSoon) as soon:
        accounts.password_fits(tx, "ann", PASSWORD, NOW + timedelta(seconds=59))
    assert soon.value.seconds == 1
    assert accounts.password_fits(tx, "ann", PASSWORD, NOW + timedelta(seconds=60))
    accounts.sign_in(tx, "ann", NOW)
    assert users.find_user(tx, "ann")["failures"] == 0  # type: ignore[index]


def test_a_failure_of_an_unknown_name_is_not_stored(tx: Connection) -> None:
    accounts.note_failure(tx, "my password by mistake", NOW)
    assert audit.events(tx) == []


def test_a_new_password_ends_every_session(tx: Connection) -> None:
    ann(tx)
    signed = accounts.sign_in(tx, "ann", NOW)
    accounts.change_password(tx, "ann", "another horse 43", NOW, by="root")
    assert users.find_session(tx, signed.secret, NOW, NOW) is None
    assert not accounts.password_fits(tx, "ann", PASSWORD, NOW)
    with pytest.raises(Refused):
        accounts.change_password(tx, "nobody", "another horse 43", NOW, by="root")


def test_a_disabled_user_is_out(tx: Connection) -> None:
    ann(tx)
    signed = accounts.sign_in(tx, "ann", NOW)
    accounts.disable_user(tx, "ann", NOW, by="root")
    assert users.find_session(tx, signed.secret, NOW, NOW) is None
    assert not accounts.password_fits(tx, "ann", PASSWORD, NOW)
    with pytest.raises(Refused):
        accounts.sign_in(tx, "ann", NOW)
    with pytest.raises(Refused):
        accounts.disable_user(tx, "nobody", NOW, by="root")


def test_old_sessions_are_forgotten(tx: Connection) -> None:
    ann(tx)
    accounts.sign_in(tx, "ann", NOW)
    assert users.forget_sessions(tx, NOW) == 0
    assert users.forget_sessions(tx, NOW + timedelta(seconds=1)) == 1


def test_a_token_is_shown_once_and_dies_when_revoked(tx: Connection) -> None:
    secret = accounts.issue_token(tx, "pacs", ["dicom:write", "dicom:write"], NOW, by="root")
    found = users.find_token(tx, secret)
    assert found is not None
    assert found["scopes"] == ["dicom:write"]
    assert "token_digest" not in users.tokens(tx)[0]
    with pytest.raises(Conflict):
        accounts.issue_token(tx, "pacs", ["admin"], NOW, by="root")
    accounts.revoke_token(tx, "pacs", NOW, by="root")
    assert users.find_token(tx, secret) is None
    with pytest.raises(Refused):
        accounts.revoke_token(tx, "pacs", NOW, by="root")


@pytest.mark.parametrize(
    ("name", "scopes"), [("t", []), ("t", ["everything"]), ("", ["admin"]), ("t\n", ["admin"])]
)
def test_what_cannot_be_a_token_is_refused(tx: Connection, name: str, scopes: list[str]) -> None:
    with pytest.raises(Refused):
        accounts.issue_token(tx, name, scopes, NOW, by="root")


def test_kept_answers_are_forgotten_in_time(tx: Connection) -> None:
    assert users.reserve_answer(tx, "k", "d", NOW) is None
    users.keep_answer(tx, "k", 200, "{}")
    kept = users.reserve_answer(tx, "k", "d", NOW)
    assert kept is not None
    assert kept["status"] == 200
    assert users.find_answer(tx, "k") == kept
    assert users.forget_answers(tx, NOW) == 0
    assert users.forget_answers(tx, NOW + timedelta(seconds=1)) == 1


def test_a_disabled_user_comes_back_and_waits_for_nothing(tx: Connection) -> None:
    ann(tx)
    for _ in range(5):
        accounts.note_failure(tx, "ann", NOW)
    accounts.disable_user(tx, "ann", NOW, by="root")
    accounts.enable_user(tx, "ann", NOW, by="root")
    assert accounts.password_fits(tx, "ann", PASSWORD, NOW)
    assert audit.events(tx)[-1]["act"] == "user.enabled"
    with pytest.raises(Refused, match="no user is called nobody"):
        accounts.enable_user(tx, "nobody", NOW, by="root")


def test_a_role_is_one_of_those_there_are_and_of_a_user_who_is_there(tx: Connection) -> None:
    ann(tx)
    with pytest.raises(Refused, match="'king' is unknown"):
        accounts.change_role(tx, "ann", "king", NOW, by="root")
    with pytest.raises(Refused, match="no user is called nobody"):
        accounts.change_role(tx, "nobody", "lead", NOW, by="root")
    with pytest.raises(Refused, match="another administrator"):
        accounts.change_role(tx, "ann", "admin", NOW, by="ann")
    signed = accounts.sign_in(tx, "ann", NOW)
    accounts.change_role(tx, "ann", "lead", NOW, by="root")
    assert users.find_session(tx, signed.secret, NOW, NOW) is None
    assert accounts.sign_in(tx, "ann", NOW).role == "lead"


def test_a_person_ends_the_sessions_elsewhere_and_keeps_the_one_they_sit_at(tx: Connection) -> None:
    ann(tx)
    here, there = accounts.sign_in(tx, "ann", NOW), accounts.sign_in(tx, "ann", NOW)
    for _ in range(2):
        accounts.end_sessions(tx, "ann", "", users.digest(here.secret), NOW)
    assert users.find_session(tx, here.secret, NOW, NOW) is not None
    assert users.find_session(tx, there.secret, NOW, NOW) is None
    assert [e["detail"] for e in audit.events(tx) if e["act"] == "session.ended"] == [{"sessions": 1}]
    with pytest.raises(Refused, match="no user is called nobody"):
        accounts.end_sessions(tx, "nobody", "", "", NOW)


def test_the_identity_providers_new_word_on_the_role_ends_the_sessions_of_before(tx: Connection) -> None:
    before = accounts.sign_in_from_outside(tx, "ida", "Dr. Ida", "reader", NOW)
    accounts.sign_in_from_outside(tx, "ida", "Dr. Ida", "reader", NOW)
    assert users.find_session(tx, before.secret, NOW, NOW) is not None  # nothing changed: she stays signed in

    after = accounts.sign_in_from_outside(tx, "ida", "Dr. Ida", "lead", NOW)

    assert after.role == "lead"
    assert users.find_session(tx, before.secret, NOW, NOW) is None
    changed = [e["detail"] for e in audit.events(tx) if e["act"] == "user.role_changed"]
    assert changed == [{"from": "reader", "to": "lead"}]
    ann(tx)
    with pytest.raises(Refused, match="a local user has this name"):
        accounts.sign_in_from_outside(tx, "ann", "Dr. Ann", "lead", NOW)


def test_emergency_access_by_password_is_told_to_every_operator(tx: Connection) -> None:
    ann(tx)
    accounts.tell_break_glass(tx, "ann", ["hook", "mail"], NOW)
    for route in ("hook", "mail"):
        told = constancy.due_notice(tx, route, NOW)
        assert told is not None and "ann signed in with a password at 2026-11-21 03:00" in told["text"]
    assert audit.events(tx)[-1]["act"] == "session.break_glass"

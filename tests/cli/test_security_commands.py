"""`triage user`, `token`, `peer` and `audit`, against a real database in a home of their own."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from sqlalchemy import text

from tests.cli.program import triage
from triage.settings import load
from triage.store import users
from triage.store.database import Database
from triage.workflow.accounts import password_fits
from triage.workflow.anchors import write_anchor
from triage.workflow.parts.common import clock


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRIAGE_HOME", str(tmp_path / "home"))
    assert triage("migrate", "up").code == 0
    return tmp_path / "home"


@pytest.fixture
def database(home: Path) -> Database:
    return Database(load().database_url)


def test_a_user_is_added_with_a_password_that_is_kept_as_argon2(home: Path, database: Database) -> None:
    ran = triage("user", "add", "ada", "--role", "reader", "--password-stdin", typed="correct horse\n")
    assert ran.code == 0
    with database.read() as tx:
        held = users.find_user(tx, "ada")
        assert held is not None
        assert held["password_hash"].startswith("$argon2id$")
        assert password_fits(tx, "ada", "correct horse", clock())
    assert [u["name"] for u in triage("user", "list", "--json").json()] == ["ada"]
    assert "argon2" not in triage("user", "list", "--json").out


def test_a_password_is_asked_twice_and_not_echoed(home: Path) -> None:
    ran = triage("user", "add", "ada", "--role", "qa", typed="correct horse\ncorrect horse\n")
    assert ran.code == 0
    assert "correct horse" not in ran.out + ran.err


def test_short_passwords_and_taken_names_are_refused_with_the_reason(home: Path) -> None:
    short = triage("user", "add", "ada", "--role", "reader", "--password-stdin", typed="short\n")
    assert (short.code, "at least 10" in short.err) == (4, True)
    triage("user", "add", "ada", "--role", "reader", "--password-stdin", typed="correct horse\n")
    again = triage("user", "add", "ada", "--role", "reader", "--password-stdin", typed="correct horse\n")
    assert (again.code, "exists" in again.err) == (1, True)
    assert triage("user", "disable", "nobody").code == 4
    assert triage("user", "add", "bob", "--role", "king").code == 2


def test_a_disabled_user_does_not_come_in_and_a_new_password_replaces_the_old(
    home: Path, database: Database
) -> None:
    triage("user", "add", "ada", "--role", "reader", "--password-stdin", typed="correct horse\n")
    assert triage("user", "password", "ada", "--password-stdin", typed="battery staple\n").code == 0
    with database.read() as tx:
        assert not password_fits(tx, "ada", "correct horse", clock())
        assert password_fits(tx, "ada", "battery staple", clock())
    assert triage("user", "disable", "ada").code == 0
    with database.read() as tx:
        assert not password_fits(tx, "ada", "battery staple", clock())


def test_a_token_stands_alone_on_stdout_once_and_is_kept_as_a_digest(home: Path, database: Database) -> None:
    ran = triage("token", "add", "--name", "grafana", "--scope", "metrics:read", "qa:read")
    assert ran.code == 0
    secret = ran.out.removesuffix("\n")
    assert "\n" not in secret
    assert secret not in ran.err
    with database.read() as tx:
        held = users.find_token(tx, secret)
        assert held is not None
        assert held["token_digest"] == hashlib.sha256(secret.encode()).hexdigest()
        assert held["scopes"] == ["metrics:read", "qa:read"]
    assert secret not in triage("token", "list", "--json").out
    assert triage("token", "revoke", "grafana").code == 0
    with database.read() as tx:
        assert users.find_token(tx, secret) is None


def test_unknown_scopes_are_refused_and_named(home: Path) -> None:
    ran = triage("token", "add", "--name", "x", "--scope", "worklist:write")
    assert (ran.code, ran.out) == (4, "")
    assert "worklist:write" in ran.err
    assert triage("token", "revoke", "x").code == 4


def test_peers_are_added_listed_and_removed(home: Path) -> None:
    added = triage("peer", "add", "pacs", "--aet", "ORTHANC", "--host", "10.0.0.7", "--port", "4242", "--tls")
    assert added.code == 0
    assert triage("peer", "list", "--json").json() == [
        {
            "name": "pacs",
            "ae_title": "ORTHANC",
            "host": "10.0.0.7",
            "port": 4242,
            "tls": True,
            "certificate_sha256": "",
        }
    ]
    assert triage("peer", "add", "pacs", "--aet", "X", "--host", "h", "--port", "1").code == 1
    assert triage("peer", "remove", "pacs").code == 0
    assert triage("peer", "list", "--json").json() == []
    assert triage("peer", "remove", "pacs").code == 4


@pytest.mark.parametrize("aet", ["", "SEVENTEEN_LETTERS", "BACK\\SLASH", "ÄTHER"])
def test_what_is_no_ae_title_is_refused(home: Path, aet: str) -> None:
    assert triage("peer", "add", "x", "--aet", aet, "--host", "h", "--port", "104").code == 4


def _some_events(count: int = 5) -> None:
    for i in range(count):
        triage("peer", "add", f"p{i}", "--aet", "A", "--host", "h", "--port", "104")


def test_an_untouched_trail_verifies_with_its_anchors(home: Path, database: Database) -> None:
    _some_events()
    with database.read() as tx:
        number, digest = tx.execute(text("SELECT number, hash FROM audit_event WHERE number = 3")).one()
    write_anchor(home, number, digest)
    ran = triage("audit", "verify", "--json")
    assert ran.code == 0
    assert ran.json() == {"ok": True, "events": 5, "anchors": 1, "first_bad": None, "why": ""}


@pytest.mark.parametrize(
    ("damage", "first_bad"),
    [
        ("UPDATE audit_event SET actor = 'somebody else' WHERE number = 2", 2),
        ("DELETE FROM audit_event WHERE number = 3", 3),
        ("UPDATE audit_event SET number = 9 WHERE number = 4", 4),
        ("DELETE FROM audit_event WHERE number > 3", 4),  # a cut tail shows against the anchor
    ],
)
def test_a_damaged_trail_exits_1_and_names_the_first_bad_row(
    home: Path, database: Database, damage: str, first_bad: int
) -> None:
    _some_events()
    with database.write() as tx:
        number, digest = tx.execute(text("SELECT number, hash FROM audit_event WHERE number = 5")).one()
        write_anchor(home, number, digest)
        tx.execute(text(damage))
    ran = triage("audit", "verify", "--json")
    assert ran.code == 1
    assert ran.json()["first_bad"] == first_bad
    assert str(first_bad) in ran.err


def test_a_copy_of_the_anchors_from_elsewhere_is_judged_too(
    home: Path, database: Database, tmp_path: Path
) -> None:
    _some_events()
    copy = tmp_path / "anchors.copy"
    copy.write_text(f"2 {'0' * 64} {'0' * 64}\n")
    assert triage("audit", "verify", "--anchors", str(copy)).code == 1
    copy.write_text("not an anchor\n")
    assert triage("audit", "verify", "--anchors", str(copy)).code == 4


def test_export_gives_every_event_as_a_line_of_json_with_who_did_it(home: Path) -> None:
    _some_events(3)
    lines = [json.loads(line) for line in triage("audit", "export").out.splitlines()]
    assert [e["number"] for e in lines] == [1, 2, 3]
    assert lines[0]["act"] == "peer.added"
    assert lines[0]["actor"].startswith("shell:")
    assert lines[0]["detail"]["host"] == "h"
    assert len(triage("audit", "export", "--after", "2").out.splitlines()) == 1


def test_commands_without_a_database_say_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIAGE_HOME", str(tmp_path / "empty"))
    ran = triage("user", "list")
    assert (ran.code, "triage migrate up" in ran.err) == (1, True)

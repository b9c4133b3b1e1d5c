"""P22: a changed, removed or reordered audit row shows, and the first bad row is named."""

from __future__ import annotations

import random

import pytest
from sqlalchemy import Connection, text

from tests.factories import NOON
from triage.store import audit
from triage.store.audit import GENESIS, Anchor, sign
from triage.store.database import Database

KEY = b"outside the database"
ROWS = 60
COLUMNS = ("at", "actor", "act", "object_kind", "object_id", "detail", "previous_hash", "hash")


def write_chain(database: Database, rows: int = ROWS) -> None:
    with database.write() as tx:
        for i in range(rows):
            audit.append(tx, NOON, f"reader{i % 3}", "study.claimed", "study", i, {"n": i, "name": "Möller"})


def tamper(tx: Connection, chance: random.Random) -> int:
    """One edit by SQL, as somebody with the database's password would make it; returns the first row it spoils."""
    kind = chance.choice(("edit", "delete", "swap", "insert", "renumber"))
    n = chance.randint(1, ROWS - 1)
    if kind == "edit":
        column = chance.choice(COLUMNS)
        tx.execute(
            text(f"UPDATE audit_event SET {column} = substr({column} || 'x', 2) WHERE number = :n"), {"n": n}
        )
        return n
    if kind == "delete":
        tx.execute(text("DELETE FROM audit_event WHERE number = :n"), {"n": n})
        return n
    if kind == "swap":
        for old, new in ((n, -1), (n + 1, n), (-1, n + 1)):
            tx.execute(
                text("UPDATE audit_event SET number = :new WHERE number = :old"), {"old": old, "new": new}
            )
        return n
    if kind == "insert":
        for number in range(ROWS, n, -1):
            tx.execute(text("UPDATE audit_event SET number = number + 1 WHERE number = :n"), {"n": number})
        tx.execute(text(
            "INSERT INTO audit_event SELECT number + 1, at, actor, act, object_kind, object_id, detail, "
            "previous_hash, hash FROM audit_event WHERE number = :n"), {"n": n})  # fmt: skip
        return n + 1
    tx.execute(text("UPDATE audit_event SET number = number + 1000 WHERE number = :n"), {"n": n})
    return n


class Undone(Exception):
    """Rolls the tampering back, so that one chain serves a thousand attempts."""


def test_a_thousand_random_edits_are_all_found_and_the_first_bad_row_is_named(any_database: Database) -> None:
    write_chain(any_database)
    attempts = 1000 if any_database.is_sqlite else 100
    for seed in range(attempts):
        with pytest.raises(Undone), any_database.write() as tx:
            first_bad = tamper(tx, random.Random(seed))
            told = audit.verify(tx)
            assert not told.ok, f"seed {seed} was not found"
            assert told.first_bad == first_bad, f"seed {seed}: {told.why}"
            raise Undone
    with any_database.read() as tx:
        assert audit.verify(tx) == audit.Verification(True, ROWS)


def test_a_cut_end_shows_back_to_the_last_anchor(database: Database) -> None:
    write_chain(database)
    with database.read() as tx:
        head = audit.head(tx)
    assert head is not None
    anchor = sign(*head, KEY)
    with database.write() as tx:
        tx.execute(text("DELETE FROM audit_event WHERE number > 50"))
        assert audit.verify(tx).ok  # without anchors nobody can tell
        told = audit.verify(tx, [anchor], KEY)

    assert not told.ok and told.first_bad == 51
    assert "the end of the chain was cut" in told.why


def test_a_chain_rewritten_from_some_row_on_shows_at_the_anchor(database: Database) -> None:
    write_chain(database)
    with database.read() as tx:
        anchors = [sign(*audit.head(tx), KEY)]  # type: ignore[misc]
    with database.write() as tx:
        tx.execute(text("DELETE FROM audit_event"))
    write_chain(database, ROWS + 5)
    with database.write() as tx:
        tx.execute(text("DELETE FROM audit_event WHERE number > 60"))
        previous = GENESIS
        for row in list(tx.execute(text("SELECT * FROM audit_event ORDER BY number")).mappings()):
            forged = {**row, "actor": "nobody", "previous_hash": previous}
            previous = audit._hash(forged)
            tx.execute(
                text("UPDATE audit_event SET actor='nobody', previous_hash=:p, hash=:h WHERE number=:n"),
                {"p": forged["previous_hash"], "h": previous, "n": row["number"]},
            )
        assert audit.verify(tx).ok
        told = audit.verify(tx, anchors, KEY)

    assert not told.ok and told.first_bad == ROWS and "rewritten" in told.why


def test_an_anchor_that_we_did_not_sign_is_called_forged(database: Database) -> None:
    write_chain(database, 3)
    with database.read() as tx:
        number, digest = audit.head(tx) or (0, "")
        told = audit.verify(tx, [sign(number, digest, b"another key")], KEY)
        assert audit.verify(tx, [sign(number, digest, KEY)], KEY).ok

    assert not told.ok and "forged" in told.why


def test_anchors_are_lines_of_a_log() -> None:
    anchor = sign(7, "ab" * 32, KEY)

    assert Anchor.parse(anchor.line()) == anchor


def test_events_are_read_back_by_object_and_number(database: Database) -> None:
    write_chain(database, 5)
    with database.read() as tx:
        assert audit.events(tx, object_kind="study", object_id="3")[0]["detail"] == {"n": 3, "name": "Möller"}
        assert [e["number"] for e in audit.events(tx, after=2, limit=2)] == [3, 4]


def test_an_empty_chain_is_whole(database: Database) -> None:
    with database.read() as tx:
        assert audit.head(tx) is None
        assert audit.verify(tx).ok

"""What an upsert says about itself is the same on both databases."""

from __future__ import annotations

from sqlalchemy import select

from triage.store.database import Database
from triage.store.schema import peer
from triage.store.upsert import upsert

KEY = {"name": "pacs"}
VALUES = {"ae_title": "PACS", "host": "10.0.0.1", "port": 104, "tls": False, "certificate_sha256": ""}


def test_an_upsert_that_leaves_rows_alone_tells_new_from_there(any_database: Database) -> None:
    with any_database.write() as tx:
        assert upsert(tx, peer, KEY, VALUES, replace=False) is True
        assert upsert(tx, peer, KEY, {**VALUES, "host": "10.0.0.2"}, replace=False) is False
        assert tx.execute(select(peer.c.host)).scalar_one() == "10.0.0.1"


def test_an_upsert_that_replaces_always_did_something(any_database: Database) -> None:
    with any_database.write() as tx:
        assert upsert(tx, peer, KEY, VALUES) is True
        assert upsert(tx, peer, KEY, {**VALUES, "host": "10.0.0.2"}) is True
        assert tx.execute(select(peer.c.host)).scalar_one() == "10.0.0.2"

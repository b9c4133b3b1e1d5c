"""One writer at a time where rows alone cannot say so: PostgreSQL's advisory locks, held until the transaction ends.

SQLite needs none: `Database.write()` begins IMMEDIATE, so there is one writer anyway.
"""

from __future__ import annotations

from enum import IntEnum

from sqlalchemy import Connection, text


class Lock(IntEnum):
    LAST_ACTS = 0x7472_6961  # the next link of the audit chain and number of the feed (`database.at_the_end`)
    PREPARATION = 0x7472_6962  # parts of one product that start at the same moment


def hold(tx: Connection, lock: Lock) -> None:
    """Waits until no other transaction holds `lock`; raises what the driver raises after lock_timeout."""
    if tx.dialect.name == "postgresql":
        tx.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": int(lock)})

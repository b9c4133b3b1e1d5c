"""Insert-or-get in one statement, the same on SQLite and PostgreSQL."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Table, select
from sqlalchemy.dialects import postgresql, sqlite

from triage.domain.errors import Unavailable

_TRIES = 10


def upsert(
    tx: Connection, table: Table, key: dict[str, Any], values: dict[str, Any], *, replace: bool = True
) -> bool:
    """Insert `key` + `values`; on a conflict over `key` set `values` (or leave the row). True when it was inserted
    or replaced."""
    insert = postgresql.insert if tx.dialect.name == "postgresql" else sqlite.insert
    statement = insert(table).values(**key, **values)
    if replace and values:
        statement = statement.on_conflict_do_update(index_elements=list(key), set_=values)
    else:
        statement = statement.on_conflict_do_nothing(index_elements=list(key))
    # Not rowcount: PostgreSQL's driver says -1 where SQLAlchemy asks for the new key by itself.
    return tx.execute(statement.returning(*(table.c[name] for name in key))).first() is not None


def insert_or_get(
    tx: Connection, table: Table, key: dict[str, Any], values: dict[str, Any]
) -> tuple[int, bool]:
    """(id, inserted) of the row with this unique `key`; an existing row is left as it is (P3)."""
    insert = postgresql.insert if tx.dialect.name == "postgresql" else sqlite.insert
    statement = (
        insert(table)
        .values(**key, **values)
        .on_conflict_do_nothing(index_elements=list(key))
        .returning(table.c.id)
    )
    query = select(table.c.id)
    for name, value in key.items():
        query = query.where(table.c[name] == value)
    for _ in range(_TRIES):
        inserted = tx.execute(statement).scalar_one_or_none()
        if inserted is not None:
            return int(inserted), True
        there = tx.execute(query).scalar_one_or_none()
        if there is not None:
            return int(there), False
        # On PostgreSQL somebody removed the row between the two statements (a claim given back): it is free now.
    raise Unavailable(f"a row of {table.name} comes and goes; try again")

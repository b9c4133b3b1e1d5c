"""Insert-or-get in one statement, the same on SQLite and PostgreSQL."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Table, select
from sqlalchemy.dialects import postgresql, sqlite


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
    return tx.execute(statement).rowcount > 0


def insert_or_get(
    tx: Connection, table: Table, key: dict[str, Any], values: dict[str, Any]
) -> tuple[int, bool]:
    """(id, inserted) of the row with this unique `key`; an existing row is left as it is (P3)."""
    insert = postgresql.insert if tx.dialect.name == "postgresql" else sqlite.insert
    found = tx.execute(
        insert(table)
        .values(**key, **values)
        .on_conflict_do_nothing(index_elements=list(key))
        .returning(table.c.id)
    ).scalar_one_or_none()
    if found is not None:
        return int(found), True
    query = select(table.c.id)
    for name, value in key.items():
        query = query.where(table.c[name] == value)
    return int(tx.execute(query).scalar_one()), False

"""What others ask us to commit (PS3.4 J, as SCP): one row for each transaction until it is told and forgotten."""

from __future__ import annotations

from sqlalchemy import JSON, Column, Index, Integer, String, Table, UniqueConstraint, text

from triage.store.schema.columns import UtcTime, id_column, metadata

commitment = Table(
    "commitment",
    metadata,
    id_column(),
    Column("ae_title", String(16), nullable=False),  # who asked
    Column("transaction_uid", String(64), nullable=False),
    Column("objects", JSON, nullable=False),  # [SOP class UID, SOP Instance UID] each
    Column("created_at", UtcTime, nullable=False),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("next_attempt_at", UtcTime),  # of a report on an association of our own; None: told, or given up
    Column("told_at", UtcTime),
    Column("detail", String(400), nullable=False, server_default=""),
    UniqueConstraint("ae_title", "transaction_uid"),
    # Which reports are due?
    Index(
        "commitment_due",
        "next_attempt_at",
        sqlite_where=text("next_attempt_at IS NOT NULL"),
        postgresql_where=text("next_attempt_at IS NOT NULL"),
    ),
)

"""Rejection notes, and the instances that they take out of use: known by name, here or not."""

from __future__ import annotations

from sqlalchemy import Column, Index, String, Table, UniqueConstraint, text

from triage.store.schema.columns import UtcTime, id_column, metadata, one_of, ref_column, uid_column

rejection_note = Table(
    "rejection_note",
    metadata,
    id_column(),
    uid_column(
        "sop_instance_uid", unique=True
    ),  # of the Key Object Selection, or of a performed procedure step
    Column("study_instance_uid", String(64), nullable=False, server_default="", index=True),
    Column(
        "digest", String(64), nullable=False, server_default=""
    ),  # its file in the spool, while it is to be read
    Column("reason", String(16), nullable=False, server_default=""),
    Column("state", String(16), nullable=False),
    Column("said_by", String(16), nullable=False, server_default=""),
    Column("at", UtcTime, nullable=False),
    one_of("state", "unread", "live", "replaced", "none", "unreadable"),
    # The sweeper's question: what is to be read?
    Index(
        "rejection_note_unread",
        "state",
        sqlite_where=text("state = 'unread'"),
        postgresql_where=text("state = 'unread'"),
    ),
)

rejected_instance = Table(
    "rejected_instance",
    metadata,
    id_column(),
    ref_column("note_id", "rejection_note.id"),
    uid_column("sop_instance_uid", index=True),
    UniqueConstraint("note_id", "sop_instance_uid"),
)

"""What quality assurance keeps: the blind double reads, and the reports that a person signed."""

from __future__ import annotations

from sqlalchemy import JSON, Column, Index, String, Table, Text, UniqueConstraint, text

from triage.store.schema.columns import UtcTime, id_column, metadata, ref_column

double_read = Table(
    "double_read",
    metadata,
    id_column(),
    ref_column("study_id", "study.id"),
    Column("drawn_at", UtcTime, nullable=False),
    Column("reader", String(80), nullable=False, server_default=""),
    Column("read_at", UtcTime),  # None: still to be read
    Column("findings", JSON, nullable=False),  # names that the second reader saw
    Column("comment", String(400), nullable=False, server_default=""),
    UniqueConstraint("study_id"),
    # What is still to be read.
    Index(
        "double_read_open",
        "drawn_at",
        sqlite_where=text("read_at IS NULL"),
        postgresql_where=text("read_at IS NULL"),
    ),
)

qa_report = Table(
    "qa_report",
    metadata,
    id_column(),
    Column("period_start", UtcTime, nullable=False),
    Column("period_end", UtcTime, nullable=False),
    Column("content", Text, nullable=False),  # canonical JSON: what was signed is what is kept
    Column("digest", String(64), nullable=False, unique=True),
    Column("statement", String(400), nullable=False, server_default=""),
    Column("signed_by", String(80), nullable=False),
    Column("signed_at", UtcTime, nullable=False),
)

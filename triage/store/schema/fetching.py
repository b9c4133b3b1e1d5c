"""What we fetch from archives ourselves, how far we have looked, and which studies are only for comparison."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Index, Integer, String, Table, UniqueConstraint, text

from triage.store.schema.columns import UtcTime, id_column, metadata, one_of, uid_column

pull_cursor = Table(
    "pull_cursor",
    metadata,
    Column("source", String(80), primary_key=True),
    Column("asked_at", UtcTime, nullable=False),  # everything before was asked for
)

pull_series = Table(
    "pull_series",
    metadata,
    id_column(),
    Column("source", String(80), nullable=False),
    uid_column("study_instance_uid"),
    uid_column("series_instance_uid"),
    Column("modality", String(16), nullable=False, server_default=""),
    Column("instances", Integer, nullable=False, server_default="0"),  # as the archive said last
    Column("fetched", Integer, nullable=False, server_default="0"),  # what it said when we had all of it
    Column("prior", Boolean, nullable=False, server_default=text("false")),
    Column("state", String(16), nullable=False, server_default="wanted"),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("next_attempt_at", UtcTime, nullable=False),
    Column("detail", String(400), nullable=False, server_default=""),
    UniqueConstraint("source", "series_instance_uid"),
    one_of("state", "wanted", "done", "failed"),
    Index("pull_series_wanted", "source", "next_attempt_at"),
)

prior_study = Table(
    "prior_study",
    metadata,
    Column("study_instance_uid", String(64), primary_key=True),  # fetched for comparison: no item, no run
    Column("marked_at", UtcTime, nullable=False),
)

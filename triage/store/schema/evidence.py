"""What others say that a study has: performed procedure steps, and the instances that they or an archive list."""

from __future__ import annotations

from sqlalchemy import JSON, Column, Index, String, Table, UniqueConstraint

from triage.store.schema.columns import UtcTime, id_column, metadata, one_of, uid_column

performed_step = Table(
    "performed_step",
    metadata,
    id_column(),
    uid_column("sop_instance_uid", unique=True),
    Column("state", String(16), nullable=False),
    Column("calling_ae_title", String(16), nullable=False),
    Column("study_instance_uids", JSON, nullable=False),  # of the scheduled steps that it performs
    Column("listed", JSON, nullable=False),  # {Series Instance UID: [SOP Instance UID]} as far as said
    Column("discontinuation", String(16), nullable=False, server_default=""),  # code value of CID 9300
    Column("digest", String(64), nullable=False),  # of the newest message, to know a repetition
    Column("created_at", UtcTime, nullable=False),
    Column("changed_at", UtcTime, nullable=False),
    one_of("state", "IN PROGRESS", "COMPLETED", "DISCONTINUED"),
)

listed_series = Table(
    "listed_series",
    metadata,
    id_column(),
    Column("source", String(8), nullable=False),
    uid_column("source_uid"),  # SOP Instance UID of the step or notification
    Column("study_instance_uid", String(64), nullable=False, server_default=""),
    uid_column("series_instance_uid"),
    Column("sop_instance_uids", JSON, nullable=False),
    Column("gone", JSON, nullable=False),  # SOP Instance UIDs that the archive can no longer give
    Column("said_at", UtcTime, nullable=False),
    UniqueConstraint("source", "source_uid", "series_instance_uid"),
    one_of("source", "mpps", "ian"),
    Index("listed_series_series", "series_instance_uid"),
)

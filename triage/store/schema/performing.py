"""Work items of outside servers that we perform; the Transaction UID is here before the claim is made."""

from __future__ import annotations

from sqlalchemy import JSON, Column, Index, Integer, String, Table, UniqueConstraint, text

from triage.store.schema.columns import UtcTime, id_column, metadata, one_of, uid_column

task = Table(
    "task",
    metadata,
    id_column(),
    Column("source", String(40), nullable=False),  # name of the settings' [[perform]]
    uid_column("sop_instance_uid"),
    uid_column("transaction_uid"),
    Column("state", String(16), nullable=False),
    Column("study_instance_uid", String(64), nullable=False, server_default=""),
    Column(
        "inputs", JSON, nullable=False
    ),  # {Series Instance UID: [SOP Instance UID]}; an empty list: all of it
    Column("percent", Integer, nullable=False, server_default="-1"),  # as the server was told last
    Column("detail", String(400), nullable=False, server_default=""),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("next_attempt_at", UtcTime, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("claimed_at", UtcTime),
    Column("ended_at", UtcTime),
    UniqueConstraint("source", "sop_instance_uid"),
    one_of("state", "wanted", "claimed", "completed", "canceled", "lost"),
    # The performer's question: what is to be done?
    Index(
        "task_open",
        "source",
        "next_attempt_at",
        sqlite_where=text("state IN ('wanted', 'claimed')"),
        postgresql_where=text("state IN ('wanted', 'claimed')"),
    ),
)

"""What happened and who is at work: audit chain, change feed, leases, heartbeats."""

from __future__ import annotations

from sqlalchemy import JSON, Column, Index, Integer, String, Table, Text

from triage.store.schema.columns import Id, UtcTime, id_column, metadata, one_of

audit_event = Table(
    "audit_event",
    metadata,
    Column("number", Id, primary_key=True, autoincrement=False),
    Column("at", String(40), nullable=False),  # ISO text: what is hashed is what is stored
    Column("actor", String(80), nullable=False),
    Column("act", String(40), nullable=False),
    Column("object_kind", String(40), nullable=False),
    Column("object_id", String(80), nullable=False),
    Column("detail", Text, nullable=False),  # canonical JSON
    Column("previous_hash", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
    Index("audit_event_object", "object_kind", "object_id"),
)

event = Table(
    "event",
    metadata,
    id_column(),
    Column("kind", String(16), nullable=False),
    Column("study_id", Id, nullable=True),
    Column("data", JSON, nullable=False),
    Column("at", UtcTime, nullable=False),
    one_of("kind", "worklist", "alert", "health"),
)

lease = Table(
    "lease",
    metadata,
    Column("name", String(40), primary_key=True),
    Column("holder", String(80), nullable=False),
    Column("fencing_token", Integer, nullable=False),
    Column("until", UtcTime, nullable=False),
)

heartbeat = Table(
    "heartbeat",
    metadata,
    Column("part", String(80), primary_key=True),  # "receiver", "worker-1", "relay", "web"
    Column("pid", Integer, nullable=False),
    Column("started_at", UtcTime, nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("detail", JSON, nullable=False),
)

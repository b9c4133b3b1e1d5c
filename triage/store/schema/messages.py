"""What other systems said to us, the reports among it, and who is on call."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Column, Index, Integer, LargeBinary, String, Table, Text, text

from triage.store.schema.columns import UtcTime, id_column, metadata, one_of, ref_column

message = Table(
    "message",
    metadata,
    id_column(),
    Column("sender", String(160), nullable=False),  # MSH-3 and MSH-4, or the address of who sent no message
    Column("control_id", String(199), nullable=False),  # MSH-10
    Column("kind", String(20), nullable=False),  # MSH-9, e.g. ADT^A08
    Column("digest", String(64), nullable=False),
    Column("raw", LargeBinary, nullable=False),
    Column("address", String(60), nullable=False, server_default=""),
    Column("received_at", UtcTime, nullable=False),
    Column("state", String(16), nullable=False, server_default="received"),
    Column("code", String(2), nullable=False, server_default=""),  # MSA-1 of our answer
    Column("error", String(3), nullable=False, server_default=""),  # ERR-3, table 0357
    Column("reason", String(400), nullable=False, server_default=""),  # never patient data
    Column("accession_number", String(64), nullable=False, server_default="", index=True),
    Column("study_instance_uid", String(64), nullable=False, server_default=""),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("ended_at", UtcTime),
    one_of("state", "received", "applied", "ignored", "refused", "parked"),
    # Was this said before?
    Index("message_repeat", "sender", "control_id"),
    # What is safe on disk and not worked through yet.
    Index(
        "message_received",
        "id",
        sqlite_where=text("state = 'received'"),
        postgresql_where=text("state = 'received'"),
    ),
)

report = Table(
    "report",
    metadata,
    id_column(),
    ref_column("study_id", "study.id", nullable=True),  # None: its images have not come
    ref_column("message_id", "message.id", nullable=True),
    Column("digest", String(64), nullable=False, unique=True),  # the same words again are one report
    Column("study_instance_uid", String(64), nullable=False, server_default="", index=True),
    Column("accession_number", String(64), nullable=False, server_default="", index=True),
    Column("state", String(16), nullable=False),
    Column("text", Text, nullable=False, server_default=""),
    Column("reported_at", UtcTime),  # OBR-22 where it names its zone
    Column("received_at", UtcTime, nullable=False),
    one_of("state", "preliminary", "final", "addendum", "withdrawn"),
)

on_call = Table(
    "on_call",
    metadata,
    id_column(),
    Column("site", String(40), nullable=False),
    Column("place", Integer, nullable=False),  # 1 first, 2 second on call
    Column("person", String(80), nullable=False),
    Column("contact", String(200), nullable=False, server_default=""),  # a mail address
    Column("starts_at", UtcTime, nullable=False),
    Column("ends_at", UtcTime, nullable=False),
    Column("made_by", String(80), nullable=False),
    CheckConstraint("ends_at > starts_at", name="order"),
    CheckConstraint("place IN (1, 2)", name="place"),
    Index("on_call_time", "site", "place", "starts_at"),
)

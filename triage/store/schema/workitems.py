"""The reading list as others see it: Unified Procedure Steps, a new one each time a study is to be read again."""

from __future__ import annotations

from sqlalchemy import JSON, Column, Index, Integer, String, Table, UniqueConstraint, text

from triage.store.schema.columns import Id, UtcTime, id_column, metadata, one_of, ref_column, uid_column

workitem = Table(
    "workitem",
    metadata,
    id_column(),
    ref_column("worklist_item_id", "worklist_item.id"),
    Column("generation", Integer, nullable=False),
    uid_column("sop_instance_uid", unique=True),
    Column("state", String(16), nullable=False),
    Column("priority", String(8), nullable=False),
    Column("readiness", String(16), nullable=False),
    Column("item_version", Integer, nullable=False),  # of the worklist item when this was last looked at
    Column(
        "transaction_uid", String(64), nullable=False, server_default=""
    ),  # of the performer; never given out
    Column("performer", String(80), nullable=False, server_default=""),
    Column("performed", JSON),  # DICOM JSON of what the performer said, as in PS3.18 11.6
    Column("created_at", UtcTime, nullable=False),
    Column("changed_at", UtcTime, nullable=False),
    UniqueConstraint("worklist_item_id", "generation"),
    one_of("state", "SCHEDULED", "IN PROGRESS", "COMPLETED", "CANCELED"),
    # One step of a study is alive at a time.
    Index(
        "workitem_alive",
        "worklist_item_id",
        unique=True,
        sqlite_where=text("state IN ('SCHEDULED', 'IN PROGRESS')"),
        postgresql_where=text("state IN ('SCHEDULED', 'IN PROGRESS')"),
    ),
)

workitem_event = Table(
    "workitem_event",
    metadata,
    id_column(),
    Column("workitem_id", Id, nullable=False),  # events outlive their step for an hour
    Column("sop_instance_uid", String(64), nullable=False),
    Column("kind", Integer, nullable=False),  # Event Type ID (PS3.4 CC.2.4)
    Column("data", JSON, nullable=False),  # DICOM JSON of the event's attributes
    Column("at", UtcTime, nullable=False),
    Column("receiver", String(16), nullable=False, server_default=""),  # AE title of one subscriber; "": all
)

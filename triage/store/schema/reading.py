"""The reading worklist: items, claims, feedback, and the versioned policy that ranks them."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    text,
)

from triage.store.schema.columns import Id, UtcTime, id_column, metadata, one_of, ref_column

worklist_item = Table(
    "worklist_item",
    metadata,
    id_column(),
    Column("study_id", Id, ForeignKey("study.id"), nullable=False, unique=True),
    Column("state", String(16), nullable=False, server_default="arriving"),
    Column("ordered_priority", String(16), nullable=False, server_default="ROUTINE"),
    Column("base_class", Integer, nullable=False),  # without AI: order and person
    Column("priority_class", Integer, nullable=False),
    Column("score", Integer, nullable=False, server_default="0"),
    Column("reasons", JSON, nullable=False),
    Column("arrived_at", UtcTime, nullable=False),
    Column("due_at", UtcTime, nullable=False),
    Column("bound_at", UtcTime, nullable=False),
    Column("raised_at", UtcTime),  # when AI first lifted it: counts against the hourly cap
    Column("override_class", Integer),
    Column("override_by", String(80), nullable=False, server_default=""),
    Column("override_reason", String(200), nullable=False, server_default=""),
    Column("ai_status", String(16), nullable=False, server_default=""),
    Column("ai_reason", String(40), nullable=False, server_default=""),
    Column("ai_detail", String(400), nullable=False, server_default=""),
    Column("modality", String(16), nullable=False, server_default=""),
    Column("body_part", String(64), nullable=False, server_default=""),
    Column("view", String(16), nullable=False, server_default=""),
    Column("location", String(80), nullable=False, server_default=""),
    Column("opened_at", UtcTime),
    Column("read_at", UtcTime),
    Column("report_state", String(16), nullable=False, server_default=""),
    Column("label", String(40), nullable=False, server_default=""),  # a word of the department's own
    Column("version", Integer, nullable=False, server_default="1"),
    Column(
        "constancy", Boolean, nullable=False, server_default=text("false")
    ),  # as its study: no reader sees it
    one_of("state", "arriving", "to_read", "claimed", "read", "withdrawn"),
    CheckConstraint("priority_class >= base_class", name="never_lowered"),  # P7, by the database as well
    # The list: open items by class and due time; counts and ranks are told from the index alone.
    Index(
        "worklist_item_waiting",
        "priority_class",
        "due_at",
        "id",
        "bound_at",
        "base_class",
        "state",
        "ai_status",
        "arrived_at",
        sqlite_where=text("constancy IS 0 AND state IN ('arriving', 'to_read', 'claimed')"),
        postgresql_where=text("constancy IS false AND state IN ('arriving', 'to_read', 'claimed')"),
    ),
    # Tab All counts them: not one row is looked at.
    Index(
        "worklist_item_every",
        "id",
        sqlite_where=text("constancy IS 0"),
        postgresql_where=text("constancy IS false"),
    ),
    # The hourly cap's question.
    Index(
        "worklist_item_raised",
        "raised_at",
        sqlite_where=text("raised_at IS NOT NULL"),
        postgresql_where=text("raised_at IS NOT NULL"),
    ),
    # The tab of what was read lately.
    Index(
        "worklist_item_read",
        "read_at",
        sqlite_where=text("constancy IS 0 AND state = 'read'"),
        postgresql_where=text("constancy IS false AND state = 'read'"),
    ),
)

claim = Table(
    "claim",
    metadata,
    id_column(),
    Column("worklist_item_id", Id, ForeignKey("worklist_item.id"), nullable=False, unique=True),  # I16
    Column("reader", String(80), nullable=False),
    Column("claimed_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime, nullable=False),
    Column(
        "asked_by", Text, nullable=False, server_default=""
    ),  # readers who wait for it, one a line: told when it ends
)

feedback = Table(
    "feedback",
    metadata,
    id_column(),
    ref_column("run_id", "run.id", nullable=True),
    ref_column("study_id", "study.id"),
    Column("reader", String(80), nullable=False),
    Column("verdict", String(16), nullable=False),
    Column("finding", String(40), nullable=False, server_default=""),
    Column("chip", String(40), nullable=False, server_default=""),
    Column("text", String(400), nullable=False, server_default=""),
    Column("at", UtcTime, nullable=False),
    Column("withdrawn_at", UtcTime),
    one_of("verdict", "agree", "disagree", "missed"),
)

policy = Table(
    "policy",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("content", JSON, nullable=False),
    Column("made_by", String(80), nullable=False),
    Column("reason", String(400), nullable=False, server_default=""),
    Column("made_at", UtcTime, nullable=False),
    Column("active", Boolean, nullable=False, server_default=text("false")),
)

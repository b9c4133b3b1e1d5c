"""Alerts, the routes they take, their deliveries, and what operators are told."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    UniqueConstraint,
    text,
)

from triage.store.schema.columns import UtcTime, id_column, metadata, one_of, ref_column

alert = Table(
    "alert",
    metadata,
    id_column(),
    ref_column("study_id", "study.id"),
    ref_column("run_id", "run.id"),
    Column("finding_name", String(40), nullable=False),
    Column("probability", Float, nullable=False),
    Column("band", String(16), nullable=False),
    Column("state", String(16), nullable=False, server_default="open"),
    Column("step", Integer, nullable=False, server_default="0"),
    Column("raised_at", UtcTime, nullable=False),
    Column("stepped_at", UtcTime, nullable=False),
    Column("later_until", UtcTime),
    Column("assigned_to", String(80), nullable=False, server_default=""),
    Column("acknowledged_at", UtcTime),
    Column("acknowledged_by", String(80), nullable=False, server_default=""),
    Column("ended_at", UtcTime),
    Column("version", Integer, nullable=False, server_default="1"),
    Column(
        "drill", Boolean, nullable=False, server_default=text("false")
    ),  # a rehearsal: no patient, no finding
    one_of("state", "open", "acknowledged", "closed", "withdrawn", "exhausted"),
    # One alert of a study and finding is alive at a time (I9).
    Index(
        "alert_alive",
        "study_id",
        "finding_name",
        unique=True,
        sqlite_where=text("state IN ('open', 'acknowledged', 'exhausted')"),
        postgresql_where=text("state IN ('open', 'acknowledged', 'exhausted')"),
    ),
    # The ladder's question.
    Index(
        "alert_open",
        "raised_at",
        sqlite_where=text("state = 'open'"),
        postgresql_where=text("state = 'open'"),
    ),
)

route = Table(
    "route",
    metadata,
    Column("name", String(40), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("enabled", Boolean, nullable=False, server_default=text("true")),
)

delivery = Table(
    "delivery",
    metadata,
    id_column(),
    ref_column("alert_id", "alert.id"),
    Column("route", String(40), ForeignKey("route.name"), nullable=False),
    Column("rung", Integer, nullable=False),
    Column("kind", String(16), nullable=False),
    Column(
        "control_id", String(20), nullable=False, unique=True
    ),  # MSH-10, idempotency key: one for life (I10)
    Column("payload", LargeBinary),  # the bytes as first sent; a resend sends the same
    Column("told_as", JSON),  # identity under which the peer was told, where it has changed since
    Column("state", String(16), nullable=False, server_default="waiting"),
    Column("detail", String(400), nullable=False, server_default=""),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("created_at", UtcTime, nullable=False),
    Column("next_attempt_at", UtcTime, nullable=False),
    Column("first_attempt_at", UtcTime),
    Column("delivered_at", UtcTime),
    Column(
        "replay", Integer, nullable=False, server_default="0"
    ),  # sent anew by a person: a message of its own
    Column(
        "recipient", String(200), nullable=False, server_default=""
    ),  # who is on call, where a route takes one
    Column("link_digest", String(64)),  # of the link in the message, which works once
    Column("link_used_at", UtcTime),
    Index("delivery_link", "link_digest", unique=True),
    UniqueConstraint("alert_id", "route", "rung", "kind", "replay"),
    one_of("state", "waiting", "delivered", "parked", "cancelled"),
    # The relay's question.
    Index(
        "delivery_waiting",
        "route",
        "next_attempt_at",
        sqlite_where=text("state = 'waiting'"),
        postgresql_where=text("state = 'waiting'"),
    ),
)

delivery_attempt = Table(
    "delivery_attempt",
    metadata,
    id_column(),
    ref_column("delivery_id", "delivery.id"),
    Column("at", UtcTime, nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("detail", String(400), nullable=False, server_default=""),
)

operator_notice = Table(
    "operator_notice",
    metadata,
    id_column(),
    Column("kind", String(40), nullable=False),  # "constancy.missed", "delivery.parked" ...
    Column("text", String(400), nullable=False),  # what, since when, what to do; never patient data
    Column("route", String(40), nullable=False),
    Column("control_id", String(20), nullable=False, unique=True),
    Column("created_at", UtcTime, nullable=False),
    Column("next_attempt_at", UtcTime, nullable=False),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("sent_at", UtcTime),
    Index(
        "operator_notice_waiting",
        "next_attempt_at",
        sqlite_where=text("sent_at IS NULL"),
        postgresql_where=text("sent_at IS NULL"),
    ),
)

"""The tables. The database keeps the promises: NOT NULL, CHECK on states, UNIQUE for idempotency keys, foreign keys.

Times are UTC and aware; UIDs are text of 64; probabilities are stored raw and calibrated. Rows that a person can
change have a `version` for optimistic locking. What each partial index serves is said beside it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class UtcTime(TypeDecorator[datetime]):
    """Aware UTC in and out; a naive time is a bug and is refused (SQLite would drop the zone in silence)."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a naive datetime cannot be stored")
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


Id = BigInteger().with_variant(Integer(), "sqlite")  # SQLite gives row ids to INTEGER PRIMARY KEY alone


def _id() -> Column[Any]:
    return Column("id", Id, primary_key=True, autoincrement=True)


def _uid(name: str, **kw: Any) -> Column[Any]:
    return Column(name, String(64), nullable=False, **kw)


def _ref(name: str, target: str, **kw: Any) -> Column[Any]:
    return Column(name, Id, ForeignKey(target), nullable=kw.pop("nullable", False), index=True, **kw)


def _one_of(column: str, *values: str) -> CheckConstraint:
    listed = ", ".join(f"'{v}'" for v in values)
    return CheckConstraint(f"{column} IN ({listed})", name=column)


patient = Table(
    "patient",
    metadata,
    _id(),
    Column("patient_id", String(64), nullable=False),
    Column("issuer_of_patient_id", String(64), nullable=False, server_default=""),
    Column("patient_name", String(400), nullable=False, server_default=""),
    Column("patient_birth_date", String(8), nullable=False, server_default=""),
    Column("patient_sex", String(16), nullable=False, server_default=""),
    UniqueConstraint("patient_id", "issuer_of_patient_id"),
)

study = Table(
    "study",
    metadata,
    _id(),
    _uid("study_instance_uid", unique=True),
    _ref("patient_id", "patient.id"),
    Column("accession_number", String(64), nullable=False, server_default="", index=True),
    Column("study_description", String(200), nullable=False, server_default=""),
    Column("referring_physician_name", String(400), nullable=False, server_default=""),
    Column("acquired_at", UtcTime),  # None: the headers do not say, or say something impossible
    Column("timezone_offset", String(8), nullable=False, server_default=""),
    Column("patient_age_years", Float),
    Column("site", String(40), nullable=False),
    Column("first_received_at", UtcTime, nullable=False),
    Column("last_received_at", UtcTime, nullable=False),
    Column(
        "constancy", Boolean, nullable=False, server_default=text("false")
    ),  # hidden from readers and reports
)

series = Table(
    "series",
    metadata,
    _id(),
    _ref("study_id", "study.id"),
    _uid("series_instance_uid"),
    Column("modality", String(16), nullable=False, server_default=""),
    Column("series_number", Integer),
    Column("series_description", String(200), nullable=False, server_default=""),
    Column("body_part_examined", String(64), nullable=False, server_default=""),
    Column("calling_ae_title", String(16), nullable=False, server_default=""),
    Column("instance_count", Integer, nullable=False, server_default="0"),
    Column("expected_count", Integer),  # from the archive, MPPS or IAN; None when nobody said
    Column("first_instance_at", UtcTime, nullable=False),
    Column("last_instance_at", UtcTime, nullable=False),
    Column("open_association", String(64), nullable=False, server_default=""),  # still bringing this series
    Column("association_aborted", Boolean, nullable=False, server_default=text("false")),
    Column("state", String(16), nullable=False, server_default="receiving"),
    Column("complete_because", String(40), nullable=False, server_default=""),
    Column("judge_at", UtcTime),  # when completeness should be looked at again; None: nothing to wait for
    UniqueConstraint("series_instance_uid", "study_id"),
    _one_of("state", "receiving", "complete"),
    # The sweeper's question: which series should be judged now?
    Index(
        "series_to_judge",
        "judge_at",
        sqlite_where=text("judge_at IS NOT NULL"),
        postgresql_where=text("judge_at IS NOT NULL"),
    ),
)

instance = Table(
    "instance",
    metadata,
    _id(),
    _ref("series_id", "series.id"),
    _uid("sop_instance_uid", unique=True),  # one current object for a UID (I3)
    _uid("sop_class_uid"),
    _uid("transfer_syntax_uid"),
    Column("digest", String(64), nullable=False, index=True),
    Column("size_bytes", BigInteger, nullable=False),
    Column("received_at", UtcTime, nullable=False),
    Column("wanted", Boolean, nullable=False),  # false: kept and marked, no detector reads this class
    Column("header", JSON, nullable=False),  # domain.study.InstanceHeader
)

quarantine = Table(
    "quarantine",
    metadata,
    _id(),
    _ref("instance_id", "instance.id", nullable=True),
    Column("sop_instance_uid", String(64), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("reason", String(40), nullable=False),
    Column("detail", String(400), nullable=False, server_default=""),
    Column("calling_ae_title", String(16), nullable=False, server_default=""),
    Column("at", UtcTime, nullable=False),
    UniqueConstraint("sop_instance_uid", "digest"),
)

order = Table(
    "order",
    metadata,
    _id(),
    Column("study_instance_uid", String(64), nullable=False, server_default="", index=True),
    Column("accession_number", String(64), nullable=False, server_default="", index=True),
    Column("placer_order_number", String(80), nullable=False, server_default=""),
    Column("filler_order_number", String(80), nullable=False, server_default=""),
    Column("priority", String(16), nullable=False, server_default="ROUTINE"),
    Column("patient_location", String(80), nullable=False, server_default=""),
    Column("reason_for_exam", Text, nullable=False, server_default=""),
    Column("state", String(16), nullable=False, server_default="active"),
    Column("received_at", UtcTime, nullable=False),
    _one_of("priority", "STAT", "URGENT", "ROUTINE"),
    _one_of("state", "active", "cancelled"),
)

release = Table(
    "release",
    metadata,
    _id(),
    Column("detector", String(40), nullable=False),
    Column("version", String(40), nullable=False),
    Column("digest", String(64), nullable=False, unique=True),
    Column("state", String(16), nullable=False),
    Column("not_covered", JSON, nullable=False),
    Column("registered_at", UtcTime, nullable=False),
    _one_of("state", "active", "shadow", "retired"),
    # At most one active release of a detector.
    Index(
        "release_active",
        "detector",
        unique=True,
        sqlite_where=text("state = 'active'"),
        postgresql_where=text("state = 'active'"),
    ),
)

run = Table(
    "run",
    metadata,
    _id(),
    _ref("study_id", "study.id"),
    _ref("series_id", "series.id"),
    _ref("release_id", "release.id"),
    Column("input_digest", String(64), nullable=False),
    Column("sop_instance_uids", JSON, nullable=False),
    Column("state", String(16), nullable=False),
    Column("reason_code", String(40), nullable=False, server_default=""),
    Column("reason_detail", String(400), nullable=False, server_default=""),
    Column("queue", String(16), nullable=False, server_default="routine"),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("lease_token", String(40), nullable=False, server_default=""),
    Column("lease_until", UtcTime),
    Column("requested_at", UtcTime, nullable=False),
    Column("woken_at", UtcTime),  # last wake-up call; the sweeper repeats it
    Column("started_at", UtcTime),
    Column("finished_at", UtcTime),
    Column("policy_version", Integer),
    Column("mode", String(16), nullable=False, server_default="triage_only"),
    Column("runtime", String(60), nullable=False, server_default=""),
    Column("code_version", String(40), nullable=False, server_default=""),
    Column("notes", JSON, nullable=False),
    UniqueConstraint("series_id", "input_digest", "release_id"),  # a result counts once (P6)
    _one_of("state", "requested", "running", "completed", "not_analysed", "failed", "superseded"),
    CheckConstraint("state <> 'not_analysed' OR reason_code <> ''", name="reason"),
    # What should be running: the worker's and the sweeper's question.
    Index(
        "run_open",
        "state",
        "requested_at",
        sqlite_where=text("state IN ('requested', 'running')"),
        postgresql_where=text("state IN ('requested', 'running')"),
    ),
)

finding = Table(
    "finding",
    metadata,
    _id(),
    _ref("run_id", "run.id"),
    _ref("study_id", "study.id"),
    Column("name", String(40), nullable=False),
    Column("place", Integer, nullable=False, server_default="0"),  # several of one name in one run
    Column("probability_raw", Float, nullable=False),
    Column("probability", Float, nullable=False),
    Column("band", String(16), nullable=False),
    Column("threshold", Float),
    Column("actionable", Boolean, nullable=False),
    Column("location", JSON),
    Column("measurements", JSON),
    UniqueConstraint("run_id", "name", "place"),
    CheckConstraint("probability BETWEEN 0 AND 1", name="probability"),
    _one_of("band", "low", "moderate", "high"),
)

worklist_item = Table(
    "worklist_item",
    metadata,
    _id(),
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
    Column("version", Integer, nullable=False, server_default="1"),
    _one_of("state", "arriving", "to_read", "claimed", "read", "withdrawn"),
    CheckConstraint("priority_class >= base_class", name="never_lowered"),  # P7, by the database as well
    # The list: open items by class and due time.
    Index(
        "worklist_item_open",
        "priority_class",
        "due_at",
        "id",
        sqlite_where=text("state IN ('arriving', 'to_read', 'claimed')"),
        postgresql_where=text("state IN ('arriving', 'to_read', 'claimed')"),
    ),
)

claim = Table(
    "claim",
    metadata,
    _id(),
    Column("worklist_item_id", Id, ForeignKey("worklist_item.id"), nullable=False, unique=True),  # I16
    Column("reader", String(80), nullable=False),
    Column("claimed_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime, nullable=False),
)

feedback = Table(
    "feedback",
    metadata,
    _id(),
    _ref("run_id", "run.id", nullable=True),
    _ref("study_id", "study.id"),
    Column("reader", String(80), nullable=False),
    Column("verdict", String(16), nullable=False),
    Column("finding", String(40), nullable=False, server_default=""),
    Column("chip", String(40), nullable=False, server_default=""),
    Column("text", String(400), nullable=False, server_default=""),
    Column("at", UtcTime, nullable=False),
    Column("withdrawn_at", UtcTime),
    _one_of("verdict", "agree", "disagree", "missed"),
)

alert = Table(
    "alert",
    metadata,
    _id(),
    _ref("study_id", "study.id"),
    _ref("run_id", "run.id"),
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
    _one_of("state", "open", "acknowledged", "closed", "withdrawn", "exhausted"),
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
    _id(),
    _ref("alert_id", "alert.id"),
    Column("route", String(40), ForeignKey("route.name"), nullable=False),
    Column("rung", Integer, nullable=False),
    Column("kind", String(16), nullable=False),
    Column(
        "control_id", String(20), nullable=False, unique=True
    ),  # MSH-10, idempotency key: one for life (I10)
    Column("payload", LargeBinary),  # the bytes as first sent; a resend sends the same
    Column("state", String(16), nullable=False, server_default="waiting"),
    Column("detail", String(400), nullable=False, server_default=""),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("created_at", UtcTime, nullable=False),
    Column("next_attempt_at", UtcTime, nullable=False),
    Column("first_attempt_at", UtcTime),
    Column("delivered_at", UtcTime),
    UniqueConstraint("alert_id", "route", "rung", "kind"),
    _one_of("state", "waiting", "delivered", "parked", "cancelled"),
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
    _id(),
    _ref("delivery_id", "delivery.id"),
    Column("at", UtcTime, nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("detail", String(400), nullable=False, server_default=""),
)

output = Table(
    "output",
    metadata,
    _id(),
    _ref("run_id", "run.id"),
    Column("kind", String(8), nullable=False),
    _uid("sop_instance_uid", unique=True),
    Column("path", String(400), nullable=False, server_default=""),
    Column("state", String(16), nullable=False, server_default="wanted"),
    Column("detail", String(400), nullable=False, server_default=""),
    Column("created_at", UtcTime, nullable=False),
    UniqueConstraint("run_id", "kind"),
)

peer = Table(
    "peer",
    metadata,
    Column("name", String(40), primary_key=True),
    Column("ae_title", String(16), nullable=False, index=True),
    Column("host", String(255), nullable=False),
    Column("port", Integer, nullable=False),
    Column("tls", Boolean, nullable=False, server_default=text("false")),
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

user = Table(
    "user",
    metadata,
    _id(),
    Column("name", String(80), nullable=False, unique=True),
    Column("display_name", String(200), nullable=False, server_default=""),
    Column("role", String(16), nullable=False),
    Column("password_hash", String(200), nullable=False),
    Column("disabled", Boolean, nullable=False, server_default=text("false")),
    Column("failures", Integer, nullable=False, server_default="0"),
    Column("not_before", UtcTime),  # growing delay after wrong passwords
    Column("created_at", UtcTime, nullable=False),
    Column("preferences", JSON, nullable=False),
    _one_of("role", "reader", "lead", "qa", "admin", "auditor"),
)

session = Table(
    "session",
    metadata,
    Column(
        "token_digest", String(64), primary_key=True
    ),  # sha256 of the cookie: a stolen table signs nobody in
    Column("user_id", Id, ForeignKey("user.id"), nullable=False, index=True),
    Column("csrf_token", String(64), nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("seen_at", UtcTime, nullable=False),
)

token = Table(
    "token",
    metadata,
    _id(),
    Column("name", String(80), nullable=False, unique=True),
    Column("token_digest", String(64), nullable=False, unique=True),
    Column("scopes", JSON, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("revoked_at", UtcTime),
)

idempotency = Table(
    "idempotency",
    metadata,
    Column("key", String(120), primary_key=True),  # "<principal>:<Idempotency-Key>"
    Column("request_digest", String(64), nullable=False),
    Column("status", Integer, nullable=False),
    Column("body", Text, nullable=False),
    Column("at", UtcTime, nullable=False),
)

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
    _id(),
    Column("kind", String(16), nullable=False),
    Column("study_id", Id, nullable=True),
    Column("data", JSON, nullable=False),
    Column("at", UtcTime, nullable=False),
    _one_of("kind", "worklist", "alert", "health"),
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

constancy_check = Table(
    "constancy_check",
    metadata,
    _id(),
    Column("detector", String(40), nullable=False),
    Column("study_instance_uid", String(64), nullable=False, unique=True),
    Column("finding_name", String(40), nullable=False),
    Column("started_at", UtcTime, nullable=False),
    Column("due_at", UtcTime, nullable=False),
    Column("finished_at", UtcTime),
    Column("ok", Boolean),  # None while it is on its way
    Column("detail", String(400), nullable=False, server_default=""),
)

operator_notice = Table(
    "operator_notice",
    metadata,
    _id(),
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

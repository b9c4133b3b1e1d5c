"""What detectors did: releases, runs, findings, the objects made from them, and the constancy checks."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    Index,
    Integer,
    String,
    Table,
    UniqueConstraint,
    text,
)

from triage.store.schema.columns import UtcTime, id_column, metadata, one_of, ref_column, uid_column

release = Table(
    "release",
    metadata,
    id_column(),
    Column("detector", String(40), nullable=False),
    Column("version", String(40), nullable=False),
    Column("digest", String(64), nullable=False, unique=True),
    Column("state", String(16), nullable=False),
    Column("not_covered", JSON, nullable=False),
    Column(
        "preferred_kernels", JSON(none_as_null=True)
    ),  # of (0018,1210), best among equals; None: not asked then
    Column("registered_at", UtcTime, nullable=False),
    Column("calibrated", Boolean, nullable=False, server_default=text("true")),  # false: shadow alone
    # {"finding", "probability", "flagged"}: what a site's own release answered to the phantom when it was proposed.
    Column("constancy", JSON(none_as_null=True)),
    one_of("state", "active", "shadow", "retired"),
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
    id_column(),
    ref_column("study_id", "study.id"),
    ref_column("series_id", "series.id"),
    ref_column("release_id", "release.id"),
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
    Column("superseded_at", UtcTime),  # empty in a superseded run: before 0024, and nobody can tell
    Column("policy_version", Integer),
    Column("mode", String(16), nullable=False, server_default="triage_only"),
    Column("runtime", String(60), nullable=False, server_default=""),
    Column("code_version", String(40), nullable=False, server_default=""),
    Column("notes", JSON, nullable=False),
    Column(
        "lung_map", JSON(none_as_null=True)
    ),  # detectors.registration.pack: aligns a later scan with this one
    Column(
        "identity_version", Integer, nullable=False, server_default="0"
    ),  # how often its study was named anew
    Column(
        "named_anew", Boolean, nullable=False, server_default=text("false")
    ),  # since its objects were looked at
    UniqueConstraint("series_id", "input_digest", "release_id"),  # a result counts once (P6)
    one_of("state", "requested", "running", "completed", "not_analysed", "failed", "superseded"),
    CheckConstraint("state <> 'not_analysed' OR reason_code <> ''", name="reason"),
    # The publisher's question: whose objects may name somebody else by now?
    Index("run_named_anew", "id", sqlite_where=text("named_anew = 1"), postgresql_where=text("named_anew")),
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
    id_column(),
    ref_column("run_id", "run.id"),
    ref_column("study_id", "study.id"),
    Column("name", String(40), nullable=False),
    Column("place", Integer, nullable=False, server_default="0"),  # several of one name in one run
    Column("probability_raw", Float, nullable=False),
    Column("probability", Float, nullable=False),
    Column("band", String(16), nullable=False),
    Column("threshold", Float),
    Column("actionable", Boolean, nullable=False),
    Column("location", JSON),
    Column("measurements", JSON),
    Column("growth", JSON(none_as_null=True)),
    UniqueConstraint("run_id", "name", "place"),
    CheckConstraint("probability BETWEEN 0 AND 1", name="probability"),
    one_of("band", "low", "moderate", "high"),
)

output = Table(
    "output",
    metadata,
    id_column(),
    ref_column("run_id", "run.id"),
    Column("kind", String(8), nullable=False),
    uid_column("sop_instance_uid", unique=True),
    Column("path", String(400), nullable=False, server_default=""),
    Column("state", String(16), nullable=False, server_default="wanted"),
    Column("detail", String(400), nullable=False, server_default=""),
    Column("created_at", UtcTime, nullable=False),
    Column("identity_version", Integer, nullable=False, server_default="0"),  # of the run when it was made
    Column("told_digest", String(64), nullable=False, server_default=""),  # of whom it tells
    Column("peer", String(40), nullable=False, server_default=""),  # a note is for this peer alone
    UniqueConstraint("run_id", "kind", "identity_version", "peer"),
)

constancy_check = Table(
    "constancy_check",
    metadata,
    id_column(),
    Column("detector", String(40), nullable=False),
    Column("study_instance_uid", String(64), nullable=False, unique=True),
    Column("finding_name", String(40), nullable=False),
    Column("started_at", UtcTime, nullable=False),
    Column("due_at", UtcTime, nullable=False),
    Column("finished_at", UtcTime),
    Column("ok", Boolean),  # None while it is on its way
    Column("detail", String(400), nullable=False, server_default=""),
)

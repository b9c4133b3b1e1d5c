"""What was received: patients, studies, series, instances, what was refused, and the orders that ask for them."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from triage.store.schema.columns import UtcTime, id_column, metadata, one_of, ref_column, uid_column

patient = Table(
    "patient",
    metadata,
    id_column(),
    Column("patient_id", String(64), nullable=False),
    Column("issuer_of_patient_id", String(64), nullable=False, server_default=""),
    Column("patient_name", String(400), nullable=False, server_default=""),
    Column("patient_birth_date", String(8), nullable=False, server_default=""),
    Column("patient_sex", String(16), nullable=False, server_default=""),
    Column("said", JSON),  # {field: ISO time at which a registry said it}; None: known from images alone
    Column("heard_at", UtcTime),  # when a registry last spoke of this patient
    UniqueConstraint("patient_id", "issuer_of_patient_id"),
)

study = Table(
    "study",
    metadata,
    id_column(),
    uid_column("study_instance_uid", unique=True),
    ref_column("patient_id", "patient.id"),
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
    id_column(),
    ref_column("study_id", "study.id"),
    uid_column("series_instance_uid"),
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
    Column("changes", Integer, nullable=False, server_default="0"),  # how often images were taken out or back
    Column("judge_at", UtcTime),  # when completeness should be looked at again; None: nothing to wait for
    UniqueConstraint("series_instance_uid", "study_id"),
    one_of("state", "receiving", "complete"),
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
    id_column(),
    ref_column("series_id", "series.id"),
    uid_column("sop_instance_uid", unique=True),  # one current object for a UID (I3)
    uid_column("sop_class_uid"),
    uid_column("transfer_syntax_uid"),
    Column("digest", String(64), nullable=False, index=True),
    Column("size_bytes", BigInteger, nullable=False),
    Column("received_at", UtcTime, nullable=False),
    Column("wanted", Boolean, nullable=False),  # false: kept and marked, no detector reads this class
    Column("header", JSON, nullable=False),  # domain.study.InstanceHeader
    Column("rejected", String(16), nullable=False, server_default=""),  # domain.rejection.Reason; "": in use
)

quarantine = Table(
    "quarantine",
    metadata,
    id_column(),
    ref_column("instance_id", "instance.id", nullable=True),
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
    id_column(),
    Column("study_instance_uid", String(64), nullable=False, server_default="", index=True),
    Column("accession_number", String(64), nullable=False, server_default="", index=True),
    Column("placer_order_number", String(80), nullable=False, server_default=""),
    Column("filler_order_number", String(80), nullable=False, server_default=""),
    Column("priority", String(16), nullable=False, server_default="ROUTINE"),
    Column("patient_location", String(80), nullable=False, server_default=""),
    Column("reason_for_exam", Text, nullable=False, server_default=""),
    Column("state", String(16), nullable=False, server_default="active"),
    Column("received_at", UtcTime, nullable=False),
    ref_column("patient_id", "patient.id", nullable=True),  # None: known from an accession number alone
    Column("placer_namespace", String(80), nullable=False, server_default=""),
    Column("filler_namespace", String(80), nullable=False, server_default=""),
    Column("procedure_code", String(80), nullable=False, server_default=""),
    Column("procedure_text", String(200), nullable=False, server_default=""),
    Column("modality", String(16), nullable=False, server_default=""),
    Column("patient_class", String(16), nullable=False, server_default=""),
    Column("ordering_provider", String(200), nullable=False, server_default=""),
    Column("requested_at", UtcTime),
    Column("said_at", UtcTime),  # MSH-7 of the newest message: an older one that comes late changes nothing
    Column("changed_at", UtcTime),
    one_of("priority", "STAT", "URGENT", "ROUTINE"),
    one_of("state", "active", "cancelled"),
    Index("order_placer", "placer_order_number"),
    Index("order_filler", "filler_order_number"),
)

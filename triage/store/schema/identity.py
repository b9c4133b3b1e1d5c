"""What registries said of patients and studies beyond the images, and what it comes to."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, String, Table

from triage.store.schema.columns import Id, UtcTime, id_column, metadata, one_of, ref_column

identity_fact = Table(
    "identity_fact",
    metadata,
    id_column(),
    Column("key", String(120), nullable=False, unique=True),  # of the message that said it: twice is once
    Column("kind", String(16), nullable=False),
    Column("said_at", UtcTime, nullable=False),
    Column("heard_at", UtcTime, nullable=False),
    Column("said_by", String(80), nullable=False),
    ref_column("prior_id", "patient.id", nullable=True),  # of a merge: who was merged away
    ref_column("patient_id", "patient.id", nullable=True),  # of a merge: who survives; of a move: to whom
    Column("study_instance_uid", String(64), nullable=False, server_default="", index=True),
    Column("accession_number", String(64)),  # of a move; None: as it was
    Column("undone_at", UtcTime),
    one_of("kind", "merge", "move"),
)

patient_link = Table(  # what all merges come to; made from `identity_fact`
    "patient_link",
    metadata,
    Column("prior_id", Id, ForeignKey("patient.id"), primary_key=True, autoincrement=False),
    ref_column("surviving_id", "patient.id"),
)

study_patient = Table(  # only of studies that were moved or whose patient was merged
    "study_patient",
    metadata,
    Column("study_id", Id, ForeignKey("study.id"), primary_key=True, autoincrement=False),
    ref_column("sent_id", "patient.id"),  # as the first image said
    ref_column("own_id", "patient.id"),  # after moves, before merges
    Column("sent_accession_number", String(64), nullable=False),
)

"""identity: what registries said of patients and studies"""

import sqlalchemy as sa
from alembic import op

revision = "0003_identity"
down_revision = "0002_messages"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column("patient", sa.Column("said", sa.JSON(), nullable=True))
    op.add_column("patient", sa.Column("heard_at", TIME, nullable=True))
    op.add_column("delivery", sa.Column("told_as", sa.JSON(), nullable=True))
    op.create_table(
        "identity_fact",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("key", sa.String(length=120), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("said_at", TIME, nullable=False),
        sa.Column("heard_at", TIME, nullable=False),
        sa.Column("said_by", sa.String(length=80), nullable=False),
        sa.Column("prior_id", ID, nullable=True),
        sa.Column("patient_id", ID, nullable=True),
        sa.Column("study_instance_uid", sa.String(length=64), server_default="", nullable=False),
        sa.Column("accession_number", sa.String(length=64), nullable=True),
        sa.Column("undone_at", TIME, nullable=True),
        sa.CheckConstraint("kind IN ('merge', 'move')", name=op.f("ck_identity_fact_kind")),
        sa.ForeignKeyConstraint(["patient_id"], ["patient.id"], name=op.f("fk_identity_fact_patient_id")),
        sa.ForeignKeyConstraint(["prior_id"], ["patient.id"], name=op.f("fk_identity_fact_prior_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_identity_fact")),
        sa.UniqueConstraint("key", name=op.f("uq_identity_fact_key")),
    )
    for column in ("patient_id", "prior_id", "study_instance_uid"):
        op.create_index(op.f(f"ix_identity_fact_{column}"), "identity_fact", [column], unique=False)
    op.create_table(
        "patient_link",
        sa.Column("prior_id", ID, autoincrement=False, nullable=False),
        sa.Column("surviving_id", ID, nullable=False),
        sa.ForeignKeyConstraint(["prior_id"], ["patient.id"], name=op.f("fk_patient_link_prior_id")),
        sa.ForeignKeyConstraint(["surviving_id"], ["patient.id"], name=op.f("fk_patient_link_surviving_id")),
        sa.PrimaryKeyConstraint("prior_id", name=op.f("pk_patient_link")),
    )
    op.create_index(op.f("ix_patient_link_surviving_id"), "patient_link", ["surviving_id"], unique=False)
    op.create_table(
        "study_patient",
        sa.Column("study_id", ID, autoincrement=False, nullable=False),
        sa.Column("sent_id", ID, nullable=False),
        sa.Column("own_id", ID, nullable=False),
        sa.Column("sent_accession_number", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["own_id"], ["patient.id"], name=op.f("fk_study_patient_own_id")),
        sa.ForeignKeyConstraint(["sent_id"], ["patient.id"], name=op.f("fk_study_patient_sent_id")),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name=op.f("fk_study_patient_study_id")),
        sa.PrimaryKeyConstraint("study_id", name=op.f("pk_study_patient")),
    )
    for column in ("own_id", "sent_id"):
        op.create_index(op.f(f"ix_study_patient_{column}"), "study_patient", [column], unique=False)


def downgrade() -> None:
    op.drop_table("study_patient")
    op.drop_table("patient_link")
    op.drop_table("identity_fact")
    op.drop_column("delivery", "told_as")
    op.drop_column("patient", "heard_at")
    op.drop_column("patient", "said")

"""performed procedure steps, and lists of instances"""

import sqlalchemy as sa
from alembic import op

from triage.store.schema import UtcTime

revision = "0014_evidence"
down_revision = "0013_list_index"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "performed_step",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("sop_instance_uid", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("calling_ae_title", sa.String(16), nullable=False),
        sa.Column("study_instance_uids", sa.JSON(), nullable=False),
        sa.Column("listed", sa.JSON(), nullable=False),
        sa.Column("discontinuation", sa.String(16), server_default="", nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.Column("changed_at", UtcTime(), nullable=False),
        sa.CheckConstraint(
            "state IN ('IN PROGRESS', 'COMPLETED', 'DISCONTINUED')", name=op.f("ck_performed_step_state")
        ),
        sa.PrimaryKeyConstraint("id", name="pk_performed_step"),
        sa.UniqueConstraint("sop_instance_uid", name="uq_performed_step_sop_instance_uid"),
    )
    op.create_table(
        "listed_series",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("source", sa.String(8), nullable=False),
        sa.Column("source_uid", sa.String(64), nullable=False),
        sa.Column("study_instance_uid", sa.String(64), server_default="", nullable=False),
        sa.Column("series_instance_uid", sa.String(64), nullable=False),
        sa.Column("sop_instance_uids", sa.JSON(), nullable=False),
        sa.Column("gone", sa.JSON(), nullable=False),
        sa.Column("said_at", UtcTime(), nullable=False),
        sa.CheckConstraint("source IN ('mpps', 'ian')", name=op.f("ck_listed_series_source")),
        sa.PrimaryKeyConstraint("id", name="pk_listed_series"),
        sa.UniqueConstraint(
            "source",
            "source_uid",
            "series_instance_uid",
            name="uq_listed_series_source_source_uid_series_instance_uid",
        ),
    )
    op.create_index("listed_series_series", "listed_series", ["series_instance_uid"])


def downgrade() -> None:
    op.drop_table("listed_series")
    op.drop_table("performed_step")

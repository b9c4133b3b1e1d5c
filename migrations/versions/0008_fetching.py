"""fetching: what archives are asked for, and priors"""

import sqlalchemy as sa
from alembic import op

revision = "0008_fetching"
down_revision = "0007_workitems"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "prior_study",
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("marked_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("study_instance_uid", name=op.f("pk_prior_study")),
    )
    op.create_table(
        "pull_cursor",
        sa.Column("source", sa.String(length=80), nullable=False),
        sa.Column("asked_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("source", name=op.f("pk_pull_cursor")),
    )
    op.create_table(
        "pull_series",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("source", sa.String(length=80), nullable=False),
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("series_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("modality", sa.String(length=16), server_default="", nullable=False),
        sa.Column("instances", sa.Integer(), server_default="0", nullable=False),
        sa.Column("fetched", sa.Integer(), server_default="0", nullable=False),
        sa.Column("prior", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("state", sa.String(length=16), server_default="wanted", nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("next_attempt_at", TIME, nullable=False),
        sa.Column("detail", sa.String(length=400), server_default="", nullable=False),
        sa.CheckConstraint("state IN ('wanted', 'done', 'failed')", name=op.f("ck_pull_series_state")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pull_series")),
        sa.UniqueConstraint(
            "source", "series_instance_uid", name=op.f("uq_pull_series_source_series_instance_uid")
        ),
    )
    op.create_index("pull_series_wanted", "pull_series", ["source", "next_attempt_at"], unique=False)


def downgrade() -> None:
    for table in ("pull_series", "pull_cursor", "prior_study"):
        op.drop_table(table)

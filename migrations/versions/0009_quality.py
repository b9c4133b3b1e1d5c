"""blind double reads, signed QA reports"""

import sqlalchemy as sa
from alembic import op

from triage.store.schema import UtcTime

revision = "0009_quality"
down_revision = "0008_fetching"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "double_read",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("study_id", ID, nullable=False),
        sa.Column("drawn_at", UtcTime(), nullable=False),
        sa.Column("reader", sa.String(80), server_default="", nullable=False),
        sa.Column("read_at", UtcTime(), nullable=True),
        sa.Column("findings", sa.JSON(), nullable=False),
        sa.Column("comment", sa.String(400), server_default="", nullable=False),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name=op.f("fk_double_read_study_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_double_read")),
        sa.UniqueConstraint("study_id", name=op.f("uq_double_read_study_id")),
    )
    op.create_index(op.f("ix_double_read_study_id"), "double_read", ["study_id"])
    waiting = sa.text("read_at IS NULL")
    op.create_index(
        "double_read_open", "double_read", ["drawn_at"], sqlite_where=waiting, postgresql_where=waiting
    )
    op.create_table(
        "qa_report",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("period_start", UtcTime(), nullable=False),
        sa.Column("period_end", UtcTime(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("statement", sa.String(400), server_default="", nullable=False),
        sa.Column("signed_by", sa.String(80), nullable=False),
        sa.Column("signed_at", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_qa_report")),
        sa.UniqueConstraint("digest", name=op.f("uq_qa_report_digest")),
    )


def downgrade() -> None:
    op.drop_table("qa_report")
    op.drop_table("double_read")

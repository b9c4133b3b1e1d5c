"""work items of outside servers that we perform"""

import sqlalchemy as sa
from alembic import op

from triage.store.schema import UtcTime

revision = "0017_tasks"
down_revision = "0016_subscriptions"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "task",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("source", sa.String(40), nullable=False),
        sa.Column("sop_instance_uid", sa.String(64), nullable=False),
        sa.Column("transaction_uid", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("study_instance_uid", sa.String(64), server_default="", nullable=False),
        sa.Column("inputs", sa.JSON(), nullable=False),
        sa.Column("percent", sa.Integer(), server_default="-1", nullable=False),
        sa.Column("detail", sa.String(400), server_default="", nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("next_attempt_at", UtcTime(), nullable=False),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.Column("claimed_at", UtcTime(), nullable=True),
        sa.Column("ended_at", UtcTime(), nullable=True),
        sa.CheckConstraint(
            "state IN ('wanted', 'claimed', 'completed', 'canceled', 'lost')", name=op.f("ck_task_state")
        ),
        sa.PrimaryKeyConstraint("id", name="pk_task"),
        sa.UniqueConstraint("source", "sop_instance_uid", name="uq_task_source_sop_instance_uid"),
    )
    alive = sa.text("state IN ('wanted', 'claimed')")
    op.create_index(
        "task_open", "task", ["source", "next_attempt_at"], sqlite_where=alive, postgresql_where=alive
    )


def downgrade() -> None:
    op.drop_table("task")

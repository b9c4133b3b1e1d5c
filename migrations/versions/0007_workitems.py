"""the reading list as Unified Procedure Steps"""

import sqlalchemy as sa
from alembic import op

from triage.store.schema import UtcTime

revision = "0007_workitems"
down_revision = "0006_sending"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "workitem",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("worklist_item_id", ID, nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("sop_instance_uid", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("priority", sa.String(8), nullable=False),
        sa.Column("readiness", sa.String(16), nullable=False),
        sa.Column("item_version", sa.Integer(), nullable=False),
        sa.Column("transaction_uid", sa.String(64), server_default="", nullable=False),
        sa.Column("performer", sa.String(80), server_default="", nullable=False),
        sa.Column("performed", sa.JSON(), nullable=True),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.Column("changed_at", UtcTime(), nullable=False),
        sa.CheckConstraint(
            "state IN ('SCHEDULED', 'IN PROGRESS', 'COMPLETED', 'CANCELED')", name=op.f("ck_workitem_state")
        ),
        sa.ForeignKeyConstraint(
            ["worklist_item_id"], ["worklist_item.id"], name="fk_workitem_worklist_item_id"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_workitem"),
        sa.UniqueConstraint("sop_instance_uid", name="uq_workitem_sop_instance_uid"),
        sa.UniqueConstraint("worklist_item_id", "generation", name="uq_workitem_worklist_item_id_generation"),
    )
    op.create_index("ix_workitem_worklist_item_id", "workitem", ["worklist_item_id"])
    alive = sa.text("state IN ('SCHEDULED', 'IN PROGRESS')")
    op.create_index(
        "workitem_alive",
        "workitem",
        ["worklist_item_id"],
        unique=True,
        sqlite_where=alive,
        postgresql_where=alive,
    )
    op.create_table(
        "workitem_event",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("workitem_id", ID, nullable=False),
        sa.Column("sop_instance_uid", sa.String(64), nullable=False),
        sa.Column("kind", sa.Integer(), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.Column("at", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_workitem_event"),
    )


def downgrade() -> None:
    op.drop_table("workitem_event")
    op.drop_table("workitem")

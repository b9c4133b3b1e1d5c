"""objects on their way to peers"""

import sqlalchemy as sa
from alembic import op

from triage.store.schema import UtcTime

revision = "0006_sending"
down_revision = "0005_proposals"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "dispatch",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("output_id", ID, nullable=False),
        sa.Column("peer", sa.String(40), nullable=False),
        sa.Column("state", sa.String(16), server_default="wanted", nullable=False),
        sa.Column("detail", sa.String(400), server_default="", nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.Column("next_attempt_at", UtcTime(), nullable=True),
        sa.Column("sent_at", UtcTime(), nullable=True),
        sa.Column("transaction_uid", sa.String(64), server_default="", nullable=False),
        sa.Column("commit_attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("committed_at", UtcTime(), nullable=True),
        sa.CheckConstraint(
            "state IN ('wanted', 'sent', 'committed', 'refused', 'parked')", name="ck_dispatch_state"
        ),
        sa.ForeignKeyConstraint(["output_id"], ["output.id"], name="fk_dispatch_output_id"),
        sa.PrimaryKeyConstraint("id", name="pk_dispatch"),
        sa.UniqueConstraint("output_id", "peer", name="uq_dispatch_output_id_peer"),
    )
    op.create_index("ix_dispatch_output_id", "dispatch", ["output_id"])
    waits, asked = sa.text("next_attempt_at IS NOT NULL"), sa.text("transaction_uid <> ''")
    op.create_index(
        "dispatch_due", "dispatch", ["peer", "next_attempt_at"], sqlite_where=waits, postgresql_where=waits
    )
    op.create_index(
        "dispatch_transaction", "dispatch", ["transaction_uid"], sqlite_where=asked, postgresql_where=asked
    )


def downgrade() -> None:
    op.drop_table("dispatch")

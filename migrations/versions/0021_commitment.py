"""what others ask us to commit"""

import sqlalchemy as sa
from alembic import op

from triage.store.schema import UtcTime

revision = "0021_commitment"
down_revision = "0020_preferred_kernels"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "commitment",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("ae_title", sa.String(16), nullable=False),
        sa.Column("transaction_uid", sa.String(64), nullable=False),
        sa.Column("objects", sa.JSON(), nullable=False),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("next_attempt_at", UtcTime(), nullable=True),
        sa.Column("told_at", UtcTime(), nullable=True),
        sa.Column("detail", sa.String(400), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_commitment"),
        sa.UniqueConstraint("ae_title", "transaction_uid", name="uq_commitment_ae_title_transaction_uid"),
    )
    due = sa.text("next_attempt_at IS NOT NULL")
    op.create_index(
        "commitment_due", "commitment", ["next_attempt_at"], sqlite_where=due, postgresql_where=due
    )


def downgrade() -> None:
    op.drop_table("commitment")

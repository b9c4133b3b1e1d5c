"""subscriptions to the reading list's steps"""

import sqlalchemy as sa
from alembic import op

from triage.store.schema import UtcTime

revision = "0016_subscriptions"
down_revision = "0015_rejection"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "subscriber",
        sa.Column("ae_title", sa.String(16), nullable=False),
        sa.Column("owner", sa.String(80), nullable=False),
        sa.Column("told_up_to", ID, nullable=False),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("ae_title", name="pk_subscriber"),
    )
    op.create_table(
        "subscription",
        sa.Column("ae_title", sa.String(16), nullable=False),
        sa.Column("workitem_uid", sa.String(64), nullable=False),
        sa.Column("wanted", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["ae_title"], ["subscriber.ae_title"], name="fk_subscription_ae_title"),
        sa.PrimaryKeyConstraint("ae_title", "workitem_uid", name="pk_subscription"),
    )
    op.add_column("workitem_event", sa.Column("receiver", sa.String(16), server_default="", nullable=False))


def downgrade() -> None:
    op.drop_column("workitem_event", "receiver")
    op.drop_table("subscription")
    op.drop_table("subscriber")

"""subscriptions by filter to the reading list's steps"""

import sqlalchemy as sa
from alembic import op

revision = "0022_filtered_subscriptions"
down_revision = "0021_commitment"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("subscription", sa.Column("matching", sa.JSON(), nullable=True))


def downgrade() -> None:
    op.drop_column("subscription", "matching")

"""tab All counts its studies from an index of ids alone"""

import sqlalchemy as sa
from alembic import op

revision = "0023_count_every"
down_revision = "0022_filtered_subscriptions"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "worklist_item_every",
        "worklist_item",
        ["id"],
        sqlite_where=sa.text("constancy IS 0"),
        postgresql_where=sa.text("constancy IS false"),
    )


def downgrade() -> None:
    op.drop_index("worklist_item_every", "worklist_item")

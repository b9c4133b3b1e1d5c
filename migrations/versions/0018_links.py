"""links of notices that work once"""

import sqlalchemy as sa
from alembic import op

from triage.store.schema.columns import UtcTime

revision = "0018_links"
down_revision = "0017_tasks"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("delivery", sa.Column("link_digest", sa.String(64), nullable=True))
    op.add_column("delivery", sa.Column("link_used_at", UtcTime(), nullable=True))
    op.create_index("delivery_link", "delivery", ["link_digest"], unique=True)


def downgrade() -> None:
    op.drop_index("delivery_link", "delivery")
    op.drop_column("delivery", "link_used_at")
    op.drop_column("delivery", "link_digest")

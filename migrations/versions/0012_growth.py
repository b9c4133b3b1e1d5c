"""growth of nodules since an earlier scan"""

import sqlalchemy as sa
from alembic import op

revision = "0012_growth"
down_revision = "0011_release_acceptance"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("run", sa.Column("lung_map", sa.JSON(), nullable=True))
    op.add_column("finding", sa.Column("growth", sa.JSON(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("finding") as batch:
        batch.drop_column("growth")
    with op.batch_alter_table("run") as batch:
        batch.drop_column("lung_map")

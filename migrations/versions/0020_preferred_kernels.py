"""kernels that a release reads rather than others"""

import sqlalchemy as sa
from alembic import op

revision = "0020_preferred_kernels"
down_revision = "0019_identity_version"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("release", sa.Column("preferred_kernels", sa.JSON(), nullable=True))


def downgrade() -> None:
    op.drop_column("release", "preferred_kernels")

"""is a release calibrated, and what does it answer to the constancy phantom"""

import sqlalchemy as sa
from alembic import op

revision = "0011_release_acceptance"
down_revision = "0010_peer_certificate"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "release", sa.Column("calibrated", sa.Boolean(), server_default=sa.text("true"), nullable=False)
    )
    op.add_column("release", sa.Column("constancy", sa.JSON(), nullable=True))


def downgrade() -> None:
    for column in ("constancy", "calibrated"):
        op.drop_column("release", column)

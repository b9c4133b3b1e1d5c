"""the certificate by which a peer is known on the TLS port"""

import sqlalchemy as sa
from alembic import op

revision = "0010_peer_certificate"
down_revision = "0009_quality"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("peer") as batch:
        batch.add_column(sa.Column("certificate_sha256", sa.String(64), server_default="", nullable=False))


def downgrade() -> None:
    with op.batch_alter_table("peer") as batch:
        batch.drop_column("certificate_sha256")

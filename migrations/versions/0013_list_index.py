"""the list from one index: constancy beside the item, what is open and what was read lately"""

import sqlalchemy as sa
from alembic import op

revision = "0013_list_index"
down_revision = "0012_growth"
branch_labels = None
depends_on = None

OPEN = "state IN ('arriving', 'to_read', 'claimed')"
LIST = ["priority_class", "due_at", "id", "bound_at", "base_class", "state", "ai_status", "arrived_at"]


def _index(name: str, columns: list[str], where: str) -> None:
    op.create_index(
        name,
        "worklist_item",
        columns,
        sqlite_where=sa.text(f"constancy IS 0 AND {where}"),
        postgresql_where=sa.text(f"constancy IS false AND {where}"),
    )


def upgrade() -> None:
    op.drop_index("worklist_item_open", "worklist_item")
    op.add_column(
        "worklist_item", sa.Column("constancy", sa.Boolean(), server_default=sa.text("false"), nullable=False)
    )
    op.execute(
        "UPDATE worklist_item SET constancy = true WHERE study_id IN (SELECT id FROM study WHERE constancy)"
    )
    _index("worklist_item_waiting", LIST, OPEN)
    _index("worklist_item_read", ["read_at"], "state = 'read'")
    op.create_index(
        "worklist_item_raised",
        "worklist_item",
        ["raised_at"],
        sqlite_where=sa.text("raised_at IS NOT NULL"),
        postgresql_where=sa.text("raised_at IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_index("worklist_item_raised", "worklist_item")
    op.drop_index("worklist_item_read", "worklist_item")
    op.drop_index("worklist_item_waiting", "worklist_item")
    with op.batch_alter_table("worklist_item") as table:
        table.drop_column("constancy")
    op.create_index(
        "worklist_item_open",
        "worklist_item",
        ["priority_class", "due_at", "id"],
        sqlite_where=sa.text(OPEN),
        postgresql_where=sa.text(OPEN),
    )

"""objects made anew for whom a study now is, and taken back where they were sent"""

import sqlalchemy as sa
from alembic import op
from alembic.operations import BatchOperations

from triage.store.schema import UtcTime

revision = "0019_identity_version"
down_revision = "0018_links"
branch_labels = None
depends_on = None

NAMED_TWICE, NAMED_ONCE = "ck_dispatch_ck_dispatch_state", "ck_dispatch_state"  # 0006 prefixed a whole name
STATES = ("wanted", "sent", "committed", "refused", "parked")


def upgrade() -> None:
    op.add_column("run", _number("identity_version"))
    op.add_column("run", _flag("named_anew"))
    with op.batch_alter_table("output") as table:
        table.add_column(_number("identity_version"))
        table.add_column(_text("told_digest", 64))
        table.add_column(_text("peer", 40))
        table.drop_constraint("uq_output_run_id_kind", type_="unique")
        table.create_unique_constraint(
            "uq_output_run_id_kind_identity_version_peer", ["run_id", "kind", "identity_version", "peer"]
        )
    with op.batch_alter_table("dispatch") as table:
        table.add_column(sa.Column("begun_at", UtcTime(), nullable=True))
        table.add_column(_flag("outdated"))
        _states(table, NAMED_TWICE, NAMED_ONCE, (*STATES, "withdrawn"))
    _partial_index("dispatch_outdated", "dispatch", "peer", "outdated")
    _partial_index("run_named_anew", "run", "id", "named_anew")
    op.execute(
        "UPDATE output SET state = 'superseded' WHERE state = 'written'"
        " AND run_id IN (SELECT id FROM run WHERE state = 'superseded')"
    )
    op.execute(  # what waits for a peer, or for a person, would wait for ever; what was sent stays as it was
        "UPDATE dispatch SET state = 'withdrawn', next_attempt_at = NULL"
        " WHERE state IN ('wanted', 'refused', 'parked')"
        " AND output_id IN (SELECT id FROM output WHERE state = 'superseded')"
    )


def downgrade() -> None:
    newer = (
        "SELECT older.id FROM output AS older JOIN output AS newer ON newer.run_id = older.run_id"
        " AND newer.kind = older.kind AND newer.identity_version > older.identity_version"
        " UNION SELECT id FROM output WHERE kind = 'note'"
    )
    op.execute(f"DELETE FROM dispatch WHERE output_id IN ({newer})")
    op.execute(f"DELETE FROM output WHERE id IN ({newer})")
    op.execute("UPDATE output SET state = 'written', detail = '' WHERE state = 'superseded'")
    op.execute("UPDATE dispatch SET state = 'parked' WHERE state = 'withdrawn'")
    op.drop_index("run_named_anew", "run")
    op.drop_index("dispatch_outdated", "dispatch")
    with op.batch_alter_table("dispatch") as table:
        _states(table, NAMED_ONCE, NAMED_TWICE, STATES)
        table.drop_column("outdated")
        table.drop_column("begun_at")
    with op.batch_alter_table("output") as table:
        table.drop_constraint("uq_output_run_id_kind_identity_version_peer", type_="unique")
        table.create_unique_constraint("uq_output_run_id_kind", ["run_id", "kind"])
        for name in ("peer", "told_digest", "identity_version"):
            table.drop_column(name)
    op.drop_column("run", "identity_version")
    op.drop_column("run", "named_anew")


def _states(table: BatchOperations, old: str, new: str, states: tuple[str, ...]) -> None:
    listed = ", ".join(f"'{s}'" for s in states)
    table.drop_constraint(op.f(old), type_="check")
    table.create_check_constraint(op.f(new), f"state IN ({listed})")


def _partial_index(name: str, table: str, column: str, flag: str) -> None:
    op.create_index(
        name, table, [column], sqlite_where=sa.text(f"{flag} = 1"), postgresql_where=sa.text(flag)
    )


def _flag(name: str) -> sa.Column:
    return sa.Column(name, sa.Boolean(), server_default=sa.text("false"), nullable=False)


def _number(name: str) -> sa.Column:
    return sa.Column(name, sa.Integer(), server_default="0", nullable=False)


def _text(name: str, length: int) -> sa.Column:
    return sa.Column(name, sa.String(length), server_default="", nullable=False)

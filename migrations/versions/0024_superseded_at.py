"""when a Run was superseded

What was superseded before gets the best that the rows can tell: when the first later Run of the same detector (of the
same release, for a shadow) that had seen one of its instances was analysed or refused, and not before its own end. A Run
that a rejection note ended gets the end of the Run over what was left: late by the seconds which that one took. Empty
stays a Run that never ended, which showed nothing, and one without such a successor: nobody can tell until when its
findings stood, and the QA charts leave them out, as they did before there was this column.
"""

from collections import defaultdict
from datetime import datetime

import sqlalchemy as sa
from alembic import op

from triage.store.schema import UtcTime

revision = "0024_superseded_at"
down_revision = "0023_count_every"
branch_labels = None
depends_on = None

RUN = sa.table(
    "run",
    sa.column("id"), sa.column("series_id"), sa.column("release_id"), sa.column("state"), sa.column("queue"),
    sa.column("reason_code"), sa.column("sop_instance_uids", sa.JSON()), sa.column("finished_at", UtcTime()),
    sa.column("superseded_at", UtcTime()),
)  # fmt: skip
RELEASE = sa.table("release", sa.column("id"), sa.column("detector"))
NOT_WHOLE = ("INCOMPLETE_AT_LIMIT", "GAP_IN_SERIES")  # says nothing against what was found before


def upgrade() -> None:
    op.add_column("run", sa.Column("superseded_at", UtcTime(), nullable=True))
    old = sa.select(RUN.c.series_id).where(RUN.c.state == "superseded")
    ended = (
        sa.select(RUN, RELEASE.c.detector)
        .join_from(RUN, RELEASE, RELEASE.c.id == RUN.c.release_id)
        .where(RUN.c.finished_at.is_not(None), RUN.c.series_id.in_(old))
        .order_by(RUN.c.id)
    )
    lines = defaultdict(list)
    for row in op.get_bind().execute(ended):
        is_shadow = row.queue == "shadow"
        lines[row.series_id, row.detector, row.release_id if is_shadow else None].append(row)
    for line in lines.values():
        for place, row in enumerate(line):
            if row.state == "superseded" and (at := _superseded_at(row, line[place + 1 :])):
                op.execute(sa.update(RUN).where(RUN.c.id == row.id).values(superseded_at=at))


def _superseded_at(row: sa.Row, later: list[sa.Row]) -> datetime | None:
    """later  of the same line, by id"""
    mine = set(row.sop_instance_uids)
    ends = [r.finished_at for r in later if _replaces(r.reason_code) and mine & set(r.sop_instance_uids)]
    return max(row.finished_at, min(ends)) if ends else None


def _replaces(reason_code: str) -> bool:
    """Analysed, or refused for good; the codes of failures are written small."""
    return not reason_code or (reason_code.isupper() and reason_code not in NOT_WHOLE)


def downgrade() -> None:
    op.drop_column("run", "superseded_at")

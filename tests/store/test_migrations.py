"""Migrations up make exactly the models; down leaves nothing; on both databases."""

from __future__ import annotations

from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect, select, text

from triage.domain.errors import Misconfigured
from triage.store import dispatches, migrate
from triage.store.database import Database
from triage.store.schema import metadata, run


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def bare(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    """A database without a single table."""
    if request.param == "sqlite":
        return Database(f"sqlite:///{tmp_path / 'bare.db'}")
    return Database(request.getfixturevalue("postgres_url"))


def test_up_makes_the_models_and_down_leaves_nothing(bare: Database) -> None:
    assert migrate.current(bare) is None
    migrate.upgrade(bare)
    assert migrate.current(bare) == migrate.head()
    with bare.read() as tx:
        # SQLite gives defaults back as text, quoted in its own way: PostgreSQL compares them for both.
        options = {"compare_type": True, "compare_server_default": not bare.is_sqlite}
        context = MigrationContext.configure(tx, opts=options)
        assert compare_metadata(context, metadata) == []
    migrate.downgrade(bare, "base")
    assert set(inspect(bare.engine).get_table_names()) <= {"alembic_version"}
    migrate.upgrade(bare)
    bare.close()


def test_rows_survive_a_step_down_and_up(bare: Database) -> None:
    """A database with deliveries and their attempts, as a hospital has it on the day of an upgrade."""
    migrate.upgrade(bare, "0001")
    with bare.write() as tx:
        for statement in _ROWS:
            tx.execute(text(statement))
    for revision in ("head", "0001", "head"):
        (migrate.downgrade if revision == "0001" else migrate.upgrade)(bare, revision)
        with bare.read() as tx:
            assert tx.execute(text("SELECT count(*) FROM delivery_attempt")).scalar_one() == 1
            assert tx.execute(text("SELECT control_id FROM delivery")).scalar_one() == "C1"
    bare.close()


def test_a_step_down_keeps_of_objects_made_anew_the_newest(bare: Database) -> None:
    """Before 0019 a run had one object of a kind, and nothing was taken back."""
    migrate.upgrade(bare)
    with bare.write() as tx:
        for statement in (*_ROWS[:5], *_MADE_ANEW):
            tx.execute(text(statement))
    migrate.downgrade(bare, "0018_links")
    with bare.read() as tx:
        assert tx.execute(text("SELECT sop_instance_uid, state FROM output")).all() == [("1.2", "written")]
        assert tx.execute(text("SELECT output_id, state FROM dispatch")).all() == [(2, "sent")]
    migrate.upgrade(bare)
    bare.close()


def test_a_step_up_leaves_no_object_of_a_superseded_run_waiting_for_its_peer(bare: Database) -> None:
    """Since 0019 it is never sent: it would be late for ever, and health red with it."""
    migrate.upgrade(bare, "0018_links")
    with bare.write() as tx:
        for statement in (*_ROWS[:5], "UPDATE run SET state = 'superseded'", *_BEFORE_0019):
            tx.execute(text(statement))
    migrate.upgrade(bare)
    with bare.read() as tx:
        rows = tx.execute(text("SELECT state, next_attempt_at FROM dispatch ORDER BY id")).all()
        assert rows == [("withdrawn", None), ("withdrawn", None), ("sent", None)]
        assert "wanted" not in dispatches.counts(tx)
    bare.close()


def test_a_step_up_tells_of_old_runs_when_they_were_superseded_where_it_can(bare: Database) -> None:
    """By the first later Run over one of the same images that was analysed or refused; else it stays empty."""
    migrate.upgrade(bare, "0023_count_every")
    with bare.write() as tx:
        for statement in (*_ROWS[:4], _BEFORE_0024):
            tx.execute(text(statement))
    migrate.upgrade(bare)
    with bare.read() as tx:
        rows = tx.execute(select(run.c.id, run.c.superseded_at).order_by(run.c.id))
        told = {id_: at.minute for id_, at in rows.tuples() if at}
    assert told == {1: 20, 2: 30, 8: 40}
    migrate.downgrade(bare, "0023_count_every")
    migrate.upgrade(bare)
    bare.close()


def test_a_migration_that_would_orphan_a_row_changes_nothing(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'held.db'}")
    migrate.upgrade(database)
    with (
        pytest.raises(Misconfigured, match="row of study would lose its row of patient"),
        database.reshape() as tx,
    ):
        tx.execute(text(_ROWS[0]))
        tx.execute(text(_ROWS[1]))
        tx.execute(text("DELETE FROM patient"))
    with database.read() as tx:
        assert tx.execute(text("SELECT count(*) FROM study")).scalar_one() == 0
        assert tx.execute(text("PRAGMA foreign_keys")).scalar_one() == 1
    database.close()


_NOW = "'2026-03-14 12:00:00'"
_ROWS = (
    "INSERT INTO patient (id, patient_id) VALUES (1, 'P1')",
    "INSERT INTO study (id, study_instance_uid, patient_id, site, first_received_at, last_received_at) "
    f"VALUES (1, '1.2', 1, 'S', {_NOW}, {_NOW})",
    "INSERT INTO series (id, study_id, series_instance_uid, first_instance_at, last_instance_at) "
    f"VALUES (1, 1, '1.2.3', {_NOW}, {_NOW})",
    "INSERT INTO release (id, detector, version, digest, state, not_covered, registered_at) "
    f"VALUES (1, 'd', '1', 'x', 'active', '[]', {_NOW})",
    "INSERT INTO run (id, study_id, series_id, release_id, input_digest, sop_instance_uids, state, requested_at, notes) "
    f"VALUES (1, 1, 1, 1, 'x', '[]', 'completed', {_NOW}, '[]')",
    "INSERT INTO alert (id, study_id, run_id, finding_name, probability, band, raised_at, stepped_at) "
    f"VALUES (1, 1, 1, 'pneumothorax', 0.9, 'high', {_NOW}, {_NOW})",
    "INSERT INTO route (name, kind) VALUES ('r', 'mllp')",
    "INSERT INTO delivery (id, alert_id, route, rung, kind, control_id, created_at, next_attempt_at) "
    f"VALUES (1, 1, 'r', 0, 'result', 'C1', {_NOW}, {_NOW})",
    f"INSERT INTO delivery_attempt (id, delivery_id, at, outcome) VALUES (1, 1, {_NOW}, 'retry')",
)
_MADE_ANEW = (
    *(
        "INSERT INTO output (id, run_id, kind, sop_instance_uid, state, created_at, identity_version, peer) "
        f"VALUES ({i}, 1, '{kind}', '1.{i}', '{state}', {_NOW}, {version}, '{peer}')"
        for i, kind, state, version, peer in (
            (1, "sr", "superseded", 0, ""), (2, "sr", "written", 1, ""), (3, "note", "written", 0, "PACS"),
        )
    ),
    *(
        f"INSERT INTO dispatch (id, output_id, peer, state, created_at) VALUES ({i}, {i}, 'PACS', '{state}', {_NOW})"
        for i, state in ((1, "withdrawn"), (2, "sent"), (3, "wanted"))
    ),
)  # fmt: skip
_BEFORE_0019 = (
    "INSERT INTO output (id, run_id, kind, sop_instance_uid, state, created_at) "
    f"VALUES (1, 1, 'sr', '1.1', 'written', {_NOW})",
    *(
        "INSERT INTO dispatch (id, output_id, peer, state, created_at, next_attempt_at) "
        f"VALUES ({i}, 1, 'PACS{i}', '{state}', {_NOW}, {at})"
        for i, state, at in ((1, "wanted", _NOW), (2, "parked", "NULL"), (3, "sent", "NULL"))
    ),
)
_BEFORE_0024 = (
    "INSERT INTO run (id, study_id, series_id, release_id, input_digest, sop_instance_uids, state, reason_code, queue, "
    "requested_at, finished_at, notes) VALUES "
) + ", ".join(
    f"({id_}, 1, 1, 1, '{id_}', '[{images}]', '{state}', '{reason}', '{queue}', {_NOW}, {end}, '[]')"
    for id_, images, state, reason, queue, end in (
        (1, '"a", "b"', "superseded", "", "routine", "'2026-03-14 12:10:00'"),  # by 3: 2 was not whole
        (2, '"b"', "superseded", "GAP_IN_SERIES", "routine", "'2026-03-14 12:15:00'"),  # by 6
        (3, '"a"', "completed", "", "routine", "'2026-03-14 12:20:00'"),
        (4, '"c"', "superseded", "", "routine", "'2026-03-14 12:20:00'"),  # a failure ends nothing
        (5, '"c"', "failed", "crashed", "routine", "'2026-03-14 12:25:00'"),
        (6, '"b"', "not_analysed", "REJECTED", "routine", "'2026-03-14 12:30:00'"),
        (7, '"b"', "superseded", "", "routine", "NULL"),  # never ended
        (8, '"d"', "superseded", "", "shadow", "'2026-03-14 12:40:00'"),  # by 9, which had ended before it
        (9, '"d"', "completed", "", "shadow", "'2026-03-14 12:35:00'"),
        (10, '"d"', "superseded", "", "routine", "'2026-03-14 12:36:00'"),  # a shadow supersedes but itself
    )
)

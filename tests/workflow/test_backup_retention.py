"""A day lost and found: backup while in use, restore with what came since, removal that stays."""

from __future__ import annotations

import hashlib
import shutil
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select, text, update

from tests.cli.program import triage
from tests.qa.rows import Department, at
from triage.dicom.header import read_header
from triage.domain.errors import Conflict, Refused, Unavailable
from triage.phantom.identity import identity_for
from triage.phantom.person import make_thorax
from triage.phantom.write import write_radiograph
from triage.settings import Settings, load
from triage.store import audit, events, migrate, removal, schema
from triage.store.database import Database
from triage.store.spool import Spool
from triage.workflow import retention
from triage.workflow.backup import backup, restore, run_tool
from triage.workflow.intake import arrival_of, intake
from triage.workflow.retention import buried, bury, forget_files, remove_aged
from triage.workflow.site import site_of

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("TRIAGE_HOME", str(tmp_path / "home"))
    found = load()
    found.home.mkdir()
    Spool(found.spool).prepare()
    database = Database(found.database_url)
    migrate.upgrade(database)
    database.close()
    return found


@pytest.fixture
def department(settings: Settings) -> Callable[[Callable[[Department], None]], None]:
    """Runs a script of rows in a transaction of its own."""

    def play(script: Callable[[Department], None]) -> None:
        database = Database(settings.database_url)
        with database.write() as tx:
            script(Department(tx))
        database.close()

    return play


def count(settings: Settings, table: str) -> int:
    database = Database(settings.database_url)
    with database.read() as tx:
        n = tx.execute(select(func.count()).select_from(schema.metadata.tables[table])).scalar_one()
    database.close()
    return int(n)


def receive(settings: Settings, folder: Path, seed: int) -> tuple[str, str]:
    """A phantom film through the spool and intake, as the receiver does it; (study uid, digest)."""
    identity = identity_for(seed, "DX", NOW, sex="F", patient_id=f"P{seed}")
    path = write_radiograph(folder, make_thorax(seed), identity=identity, size_px=64)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    spool = Spool(settings.spool)
    target = spool.adopt(Path(shutil.copy(path, spool.incoming / f"{seed}")), digest)
    header = read_header(target)
    database = Database(settings.database_url)
    with database.write() as tx:
        intake(tx, arrival_of(header, digest, 1, "XR1", "a:1"), site_of(settings), NOW)
    database.close()
    return header.study_instance_uid, digest


def studies_of(settings: Settings) -> set[str]:
    database = Database(settings.database_url)
    with database.read() as tx:
        found = set(tx.execute(select(schema.study.c.study_instance_uid)).scalars())
    database.close()
    return found


# --- backup and restore --------------------------------------------------------------------------------------


def test_a_backup_taken_while_others_write_is_whole_and_a_restore_brings_it_back(
    settings: Settings, department: Callable[[Callable[[Department], None]], None], tmp_path: Path
) -> None:
    department(lambda d: [d.study(i) for i in range(20)])  # type: ignore[arg-type, return-value]
    stop = threading.Event()

    def write_on() -> None:
        database = Database(settings.database_url)
        while not stop.is_set():
            with database.write() as tx:
                audit.append(tx, NOW, "somebody", "did.something", "x", 1)
        database.close()

    writer = threading.Thread(target=write_on)
    writer.start()
    digest = backup(settings, tmp_path / "b.db", NOW, "test")
    stop.set()
    writer.join()
    assert hashlib.sha256((tmp_path / "b.db").read_bytes()).hexdigest() == digest
    assert (tmp_path / "b.db").stat().st_mode & 0o077 == 0
    department_before = studies_of(settings)
    (settings.home / "triage.db").unlink()
    restore(settings, tmp_path / "b.db", NOW, "test")
    assert studies_of(settings) == department_before
    database = Database(settings.database_url)
    with database.read() as tx:
        assert audit.verify(tx).ok
        told = audit.events(tx, object_kind="backup")  # the writer's own may be thousands
        assert [e["act"] for e in told] == ["backup.made", "backup.restored"]


def test_what_was_received_after_the_backup_is_read_again_from_the_spool(
    settings: Settings, department: Callable[[Callable[[Department], None]], None], tmp_path: Path
) -> None:
    department(lambda d: None)
    before, _ = receive(settings, tmp_path / "f", 1)
    backup(settings, tmp_path / "b.db", NOW, "test")
    after, digest = receive(settings, tmp_path / "f", 2)
    (settings.spool / "objects" / "00" / f"{'0' * 64}.dcm").write_bytes(b"no DICOM")
    (settings.home / "triage.db").unlink()
    done = restore(settings, tmp_path / "b.db", NOW, "test")
    assert studies_of(settings) == {before, after}
    assert (done.reread, done.unreadable) == (1, 1)
    assert Spool(settings.spool).path(digest).exists()
    assert (
        count(settings, "run") == 4
    )  # the film that came back asks for its runs, live and shadow, as the first did


def test_restored_alerts_wait_for_a_person_and_nothing_is_sent_again_by_itself(
    settings: Settings, department: Callable[[Callable[[Department], None]], None], tmp_path: Path
) -> None:
    def script(d: Department) -> None:
        alert_id = d.alert(d.study(1, flags=("pneumothorax",)), 1, state="open")
        d.tx.execute(schema.route.insert().values(name="ris", kind="mllp"))
        d.tx.execute(
            schema.delivery.insert().values(
                alert_id=alert_id,
                route="ris",
                rung=0,
                kind="result",
                control_id="C1",
                created_at=at(1),
                next_attempt_at=at(1),
            )
        )

    department(script)
    backup(settings, tmp_path / "b.db", NOW, "test")
    done = restore(settings, tmp_path / "b.db", NOW, "test")
    assert (done.alerts, done.deliveries) == (1, 1)
    database = Database(settings.database_url)
    with database.read() as tx:
        assert tx.execute(select(schema.alert.c.state)).scalars().all() == ["exhausted"]
        assert tx.execute(select(schema.delivery.c.state)).scalars().all() == ["parked"]


def test_a_database_in_use_is_not_replaced(settings: Settings, tmp_path: Path) -> None:
    backup(settings, tmp_path / "b.db", NOW, "test")
    database = Database(settings.database_url)
    with database.write() as tx:
        events.beat(tx, "receiver@here", 1, NOW - timedelta(seconds=5))
    with pytest.raises(Conflict, match="receiver@here"):
        restore(settings, tmp_path / "b.db", NOW, "test")
    assert restore(settings, tmp_path / "b.db", NOW + timedelta(minutes=5), "test").alerts == 0


def test_what_is_no_backup_changes_nothing(settings: Settings, tmp_path: Path) -> None:
    backup(settings, tmp_path / "good.db", NOW, "test")
    whole = (tmp_path / "good.db").read_bytes()
    stranger = Database(f"sqlite:///{tmp_path / 'stranger'}")
    with stranger.write() as tx:
        tx.execute(text("CREATE TABLE x (y)"))
    stranger.close()
    with pytest.raises(Refused, match="no database of triage"):
        restore(settings, tmp_path / "stranger", NOW, "test")
    held = (settings.home / "triage.db").read_bytes()
    broken = bytearray(whole)
    broken[4096 * 3 : 4096 * 5] = b"\xff" * (4096 * 2)
    for name, content in (
        ("text", b"hello"),
        ("cut", whole[: len(whole) // 2]),
        ("broken", bytes(broken)),
        ("empty", b""),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(Refused):
            restore(settings, tmp_path / name, NOW, "test")
    with pytest.raises(Refused, match="cannot be read"):
        restore(settings, tmp_path / "absent", NOW, "test")
    with pytest.raises(Refused, match="exists"):
        backup(settings, tmp_path / "good.db", NOW, "test")
    database = Database(settings.database_url)
    with database.write() as tx:
        tx.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    backup(settings, tmp_path / "newer.db", NOW, "test")
    with database.write() as tx:
        tx.execute(text("UPDATE alembic_version SET version_num = '0001'"))
    with pytest.raises(Refused, match="newer"):
        restore(settings, tmp_path / "newer.db", NOW, "test")
    assert held[:16] == (settings.home / "triage.db").read_bytes()[:16]
    assert not list(settings.home.glob("*before*"))


def test_the_commands_do_it_with_a_question_and_exit_codes(settings: Settings, tmp_path: Path) -> None:
    file = str(tmp_path / "b.db")
    made = triage("backup", file, "--json")
    assert (made.code, made.json()["file"]) == (0, file)
    assert triage("backup", file).code == 4
    assert triage("restore", file, "--yes", "--json").json()["reread"] == 0
    assert triage("restore", str(tmp_path / "absent"), "--yes").code == 4
    assert len(list(settings.home.glob("triage.db.before-*"))) == 1


def test_a_disk_or_a_tool_that_is_missing_is_named(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Unavailable, match="cannot be written"):
        backup(settings, tmp_path / "no folder" / "b.db", NOW, "test")
    (tmp_path / "b.dump").write_bytes(b"PGDMP")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unavailable, match="postgresql-client"):
        run_tool("postgresql+psycopg://t:hunter2@127.0.0.1:1/t", "pg_dump")
    monkeypatch.undo()
    with pytest.raises(Unavailable, match="pg_dump failed") as failed:
        run_tool("postgresql+psycopg://t:hunter2@127.0.0.1:1/t", "pg_dump")
    assert "hunter2" not in str(failed.value)


def test_a_restore_into_an_empty_home_and_over_an_empty_database(settings: Settings, tmp_path: Path) -> None:
    backup(settings, tmp_path / "b.db", NOW, "test")
    new = settings.model_copy(update={"home": tmp_path / "new"})
    assert restore(new, tmp_path / "b.db", NOW, "test").reread == 0
    empty = settings.model_copy(update={"home": tmp_path / "empty"})
    empty.home.mkdir()
    (empty.home / "triage.db").touch()
    restore(empty, tmp_path / "b.db", NOW, "test")
    assert count(empty, "audit_event") == 2


def test_an_object_of_a_removed_study_that_is_still_in_the_spool_is_not_read_again(
    settings: Settings, department: Callable[[Callable[[Department], None]], None], tmp_path: Path
) -> None:
    department(lambda d: None)
    backup(settings, tmp_path / "b.db", NOW, "test")
    uid, digest = receive(settings, tmp_path / "f", 3)
    bury(settings.home, uid, NOW)
    assert restore(settings, tmp_path / "b.db", NOW, "test").reread == 0
    assert not Spool(settings.spool).path(digest).exists()


@pytest.mark.postgres
def test_postgresql_is_saved_and_restored_by_its_own_tools(
    settings: Settings, postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIAGE_DATABASE__URL", postgres_url)
    servers = load()
    database = Database(servers.database_url)
    migrate.upgrade(database)
    with database.write() as tx:
        Department(tx).study(1, flags=("pneumothorax",))
    backup(servers, tmp_path / "b.dump", NOW, "test")
    with database.write() as tx:
        audit.append(tx, NOW, "somebody", "after.the_backup", "x", 1)
    assert restore(servers, tmp_path / "b.dump", NOW, "test").alerts == 0
    assert studies_of(servers) == {"1.2.1"}
    with database.read() as tx:
        assert audit.verify(tx).ok
        assert "after.the_backup" not in [e["act"] for e in audit.events(tx)]
    with pytest.raises(Refused, match="no backup of this kind"):
        restore(settings, tmp_path / "b.dump", NOW, "test")
    database.close()


# --- retention -----------------------------------------------------------------------------------------------


def _old(d: Department, n: int, **what: object) -> int:
    """A study of long ago whose one object lies in the spool under a digest of its own."""
    study_id = d.study(n, **what)  # type: ignore[arg-type]
    d.tx.execute(
        schema.instance.insert().values(
            series_id=study_id, sop_instance_uid=f"1.4.{study_id}", sop_class_uid="1", transfer_syntax_uid="1",
            digest=f"{study_id:064d}", size_bytes=100, received_at=at(n), wanted=True, header={},
        )
    )  # fmt: skip
    if what.get("read_after") is not None:
        d.tx.execute(
            update(schema.worklist_item)
            .where(schema.worklist_item.c.study_id == study_id)
            .values(report_state="final")
        )
    return study_id


@pytest.fixture
def old(settings: Settings, department: Callable[[Callable[[Department], None]], None]) -> Settings:
    def script(d: Department) -> None:
        _old(d, 1, opened_after=1, read_after=2)  # 1.2.1 may go
        _old(d, 2, flags=("pneumothorax",), opened_after=1, read_after=2)  # 1.2.2 answered: may go
        d.alert(2, 2, acknowledged_after=1, state="acknowledged")
        _old(d, 3, flags=("pneumothorax",), opened_after=1, read_after=2)  # 1.2.3 nobody answered
        d.alert(3, 3, state="exhausted")
        _old(d, 4)  # 1.2.4 never read
        _old(d, 5, opened_after=1, read_after=2, ran="requested")  # 1.2.5 still to run
        _old(d, 6, state="withdrawn")  # 1.2.6 cancelled: may go
        _old(d, 60 * 24 * 10, opened_after=1, read_after=2)  # 1.2.7 younger than the rule
        _old(d, 8, constancy=True)  # 1.2.8 a phantom that nobody waits for: may go

    department(script)
    for n in range(1, 9):
        Spool(settings.spool).path(f"{n:064d}").write_bytes(b"x" * 100)
    (settings.outputs / "1.2.1").mkdir(parents=True)
    (settings.outputs / "1.2.1" / "SR-1.dcm").write_bytes(b"x")
    (settings.outputs / "1.2.4").mkdir()
    return settings.model_copy(update={"retention_days": 15})


def test_only_what_is_reported_answered_and_old_goes_and_everything_of_it(old: Settings) -> None:
    database = Database(old.database_url)
    done = remove_aged(database, old, NOW, "test")
    assert (done.studies, done.instances, done.bytes) == (4, 4, 400)
    assert studies_of(old) == {"1.2.3", "1.2.4", "1.2.5", "1.2.7"}
    held = {int(p.stem) for p in old.spool.rglob("*.dcm")}
    assert held == {3, 4, 5, 7}
    assert not (old.outputs / "1.2.1").exists()
    assert (old.outputs / "1.2.4").exists()
    assert count(old, "patient") == count(old, "worklist_item") == 4
    with database.read() as tx:
        named = {r.sop_instance_uids[0] for r in tx.execute(select(schema.run.c.sop_instance_uids))}
        there = set(tx.execute(select(schema.instance.c.sop_instance_uid)).scalars())
        assert named <= there, "no kept Run names an object that is gone (I25)"
        assert audit.verify(tx).ok
        told = [e["object_id"] for e in audit.events(tx) if e["act"] == "retention.removed"]
    assert sorted(told) == ["1.2.1", "1.2.2", "1.2.6", "1.2.8"]
    assert remove_aged(database, old, NOW, "test").studies == 0


def test_at_most_so_many_go_at_once_the_oldest_first(old: Settings) -> None:
    assert remove_aged(Database(old.database_url), old, NOW, "test", most=1).studies == 1
    assert "1.2.1" not in studies_of(old)
    assert "1.2.2" in studies_of(old)


def test_what_changes_between_the_look_and_the_removal_stays(
    old: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader may take back, or a late image come, in the moment between: it is asked again."""
    look = removal.aged
    monkeypatch.setattr(removal, "aged", lambda tx, before, limit: [*look(tx, before, limit), 4])
    assert remove_aged(Database(old.database_url), old, NOW, "test").studies == 4
    assert "1.2.4" in studies_of(old)


def test_more_than_one_batch_goes(old: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "BATCH", 2)
    assert remove_aged(Database(old.database_url), old, NOW, "test").studies == 4


@pytest.mark.postgres
def test_a_study_is_held_and_removed_whole_on_postgresql(postgres_database: Database) -> None:
    with postgres_database.write() as tx:
        d = Department(tx)
        study_id = d.study(1, flags=("pneumothorax",), opened_after=1, read_after=2, words=(("agree", ""),))
        d.alert(study_id, 2, acknowledged_after=1, state="acknowledged")
        assert not removal.may_go(tx, study_id, at(0)), "too young"
        tx.execute(update(schema.worklist_item).values(report_state="final"))
        assert removal.may_go(tx, study_id, NOW)
        removal.remove(tx, study_id)
        assert tx.execute(select(func.count()).select_from(schema.patient)).scalar_one() == 0


def test_what_is_no_uid_is_never_a_folder(old: Settings) -> None:
    forget_files(old, Spool(old.spool), removal.Removed("..", False, 0, 0, 0, ()))
    forget_files(old, Spool(old.spool), removal.Removed("", False, 0, 0, 0, ()))
    assert (old.outputs / "1.2.4").exists()


def test_who_was_removed_does_not_come_back_with_a_restore(old: Settings, tmp_path: Path) -> None:
    backup(old, tmp_path / "b.db", NOW, "test")
    remove_aged(Database(old.database_url), old, NOW, "test")
    assert buried(old.home) == {"1.2.1", "1.2.2", "1.2.6", "1.2.8"}
    done = restore(old, tmp_path / "b.db", NOW, "test")
    assert done.removed_again == 4
    assert studies_of(old) == {"1.2.3", "1.2.4", "1.2.5", "1.2.7"}


def test_the_command_counts_first_when_asked(old: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIAGE_RETENTION_DAYS", "1")
    would = triage("retention", "run", "--dry-run", "--json").json()["would_remove"]
    done = triage("retention", "run", "--json")
    assert (done.code, done.json()["studies"]) == (0, would)
    assert would >= 4

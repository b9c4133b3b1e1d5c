"""The order in SQL is that of the rule (I15), and one study has one reader (P13)."""

from __future__ import annotations

import random
import threading
from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, event

from tests.factories import NOON, Clock, an_arrival
from triage.domain.errors import Conflict, Refused, Unavailable
from triage.domain.finding import PriorityClass
from triage.domain.priority import ItemFacts, OrderedPriority, Policy, prioritize, sort_key
from triage.store import alerts, listing, policies, reading, registration, run_queue, schema, worklist
from triage.store.database import Database
from triage.store.narrowing import STATES, Filters
from triage.workflow.read import claims, reported

TEN_MINUTES = timedelta(minutes=10)


def add_item(database: Database, study: object, **values: object) -> tuple[str, int]:
    """A study with one film on the list; (Study Instance UID, item id)."""
    arrival = an_arrival(study=study)
    with database.write() as tx:
        told = registration.register(tx, arrival, "SITE", 10.0, NOON)
        priority = prioritize(ItemFacts(arrived_at=NOON), (), Policy(), 0)
        item = worklist.ensure_item(tx, told.study_id, priority, OrderedPriority.ROUTINE, NOON)
        worklist.set_values(tx, item, **{"state": "to_read", **values})
    return arrival.header.study_instance_uid, item


rows = st.lists(
    st.tuples(
        st.integers(0, 3), st.integers(0, 3), st.integers(-90, 90), st.integers(0, 90),
    ),
    min_size=1, max_size=12,
)  # fmt: skip


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(rows, st.integers(-120, 120), st.integers(1, 5))
def test_the_order_in_sql_is_that_of_the_rule_and_pages_show_each_item_once(
    any_database: Database, drawn: list[tuple[int, int, int, int]], minutes: int, page_size: int
) -> None:
    now = NOON + timedelta(minutes=minutes)
    with any_database.write() as tx:
        for table in (schema.worklist_item, schema.instance, schema.series, schema.study, schema.patient):
            tx.execute(delete(table))
    expected = []
    for number, (ai, base, due, more) in enumerate(drawn):
        priority_class, due_at = max(ai, base), NOON + timedelta(minutes=due)
        bound_at = due_at + timedelta(minutes=more)
        _, item = add_item(
            any_database,
            number,
            priority_class=priority_class,
            base_class=base,
            due_at=due_at,
            bound_at=bound_at,
        )
        expected.append(sort_key(PriorityClass(priority_class), due_at, bound_at, now, item))

    with any_database.read() as tx:
        found, after = [], None
        while page := listing.rows(tx, Filters(), now, limit=page_size, after=after):
            found += [r["id"] for r in page]
            after = page[-1]["key"]
        ranks = worklist.ranks(tx, now)
        assert listing.total(tx, Filters(), now) == len(drawn)

    assert found == [key[2] for key in sorted(expected)]
    assert [i for i, _ in sorted(ranks.items(), key=lambda r: r[1][0])] == found


def test_the_head_of_the_list_is_read_from_its_index_alone(database: Database) -> None:
    """5,000 open studies among 200,000 are not sorted for the hundred that are shown (ux 13)."""
    add_item(database, "one")
    asked: list[tuple[str, object]] = []
    event.listen(database.engine, "before_cursor_execute", lambda *a: asked.append((a[2], a[3])))
    with database.read() as tx:
        listing.rows(tx, Filters(), NOON, limit=100)
        listing.total(tx, Filters(), NOON)
        worklist.ranks(tx, NOON)
        looked = [(statement, values) for statement, values in asked if statement.startswith("SELECT")]
        assert len(looked) == 4
        for statement, values in looked:
            plan = tx.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values).all()
            looks = [row[3] for row in plan if "worklist_item" in row[3] and "PRIMARY KEY" not in row[3]]
            assert [
                w for w in looks if "claim" not in w and "COVERING INDEX worklist_item_waiting" not in w
            ] == []


def test_what_runs_and_alarms_is_found_by_its_partial_index(database: Database) -> None:
    """Asked at every page of the list: without the index each looks at every run or alert there ever was."""
    asked: list[tuple[str, object]] = []
    event.listen(database.engine, "before_cursor_execute", lambda *a: asked.append((a[2], a[3])))
    with database.read() as tx:
        run_queue.oldest_waiting(tx)
        run_queue.places(tx, [1])
        run_queue.waiting_by_detector(tx)
        alerts.listing(tx)
        looked = [(statement, values) for statement, values in asked if statement.startswith("SELECT")]
        assert len(looked) == 4
        for statement, values in looked:
            plan = " ".join(row[3] for row in tx.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values))
            assert "INDEX run_open" in plan or "INDEX alert_alive" in plan


def test_how_fast_the_disk_fills_is_told_from_the_newest_images(
    any_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(7):
        add_item(any_database, f"inflow {number}")  # 1,000 bytes each
    week, day = NOON - timedelta(days=7), NOON + timedelta(days=1)
    with any_database.read() as tx:
        assert reading.bytes_a_day(tx, week, NOON) == pytest.approx(1000)
        assert reading.bytes_a_day(tx, day, day) == 0
        monkeypatch.setattr(
            reading, "INFLOW_IMAGES", 3
        )  # more came than are looked at: over the time of those
        assert reading.bytes_a_day(tx, week, day) == pytest.approx(3000)


def test_a_constancy_study_stands_on_no_list(any_database: Database) -> None:
    with any_database.write() as tx:
        told = registration.register(
            tx, replace(an_arrival(study="phantom"), constancy=True), "SITE", 10.0, NOON
        )
        priority = prioritize(ItemFacts(arrived_at=NOON), (), Policy(), 0)
        worklist.ensure_item(tx, told.study_id, priority, OrderedPriority.STAT, NOON)
    with any_database.read() as tx:
        assert listing.rows(tx, Filters(states=STATES), NOON, limit=5) == []
        assert listing.total(tx, Filters(), NOON) == 0
        assert worklist.ranks(tx, NOON) == {}
        assert reading.tab_counts(tx, NOON)["all"] == 0


def test_fifty_readers_race_and_each_study_has_one(any_database: Database) -> None:
    """P13: whoever the database lets win is the only one who was told so."""
    readers, rounds = 50, 10 if any_database.is_sqlite else 20
    together = threading.Barrier(readers)
    uids = [add_item(any_database, f"race{i}")[0] for i in range(rounds)]
    won: list[Counter[str]] = [Counter() for _ in range(rounds)]
    errors: list[BaseException] = []

    def race(reader: str) -> None:
        for turn, uid in enumerate(uids):
            together.wait()
            try:
                with any_database.write() as tx:
                    claims.claim(tx, uid, reader, NOON)
                won[turn][reader] += 1
                with any_database.write() as tx:  # and so that the limit of open claims is not met
                    reported.report(tx, uid, reader, NOON, state="final")
            except (Conflict, Refused):
                pass
            except BaseException as error:  # noqa: BLE001 - a reader would have seen it
                errors.append(error)

    threads = [threading.Thread(target=race, args=(f"reader{n}",)) for n in range(readers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert not errors
    assert [sum(w.values()) for w in won] == [1] * rounds


def test_next_gives_no_study_to_two_readers_even_when_claims_come_and_go(any_database: Database) -> None:
    readers, studies_ = 12, 6
    for number in range(studies_):
        add_item(any_database, f"next{number}")
    holders: Counter[str] = Counter()
    guard, errors = threading.Lock(), []

    def work(reader: str) -> None:
        chance = random.Random(reader)
        for _ in range(8):
            try:
                with any_database.write() as tx:
                    uid = claims.next_study(tx, reader, NOON)
                if uid is None:
                    continue
                with guard:
                    holders[uid] += 1
                    assert holders[uid] == 1, f"{uid} has two readers"
                if chance.random() < 0.9:
                    with guard:
                        holders[uid] -= 1
                    with any_database.write() as tx:
                        claims.release(tx, uid, reader, NOON)
            except (Refused, Conflict, Unavailable):
                continue
            except BaseException as error:  # noqa: BLE001
                errors.append(error)

    threads = [threading.Thread(target=work, args=(f"r{n}",)) for n in range(readers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors


def test_a_claim_ends_by_itself_and_is_its_own_readers_to_renew(any_database: Database, clock: Clock) -> None:
    _, item = add_item(any_database, 1)
    with any_database.write() as tx:
        assert worklist.take_claim(tx, item, "a", clock(), TEN_MINUTES)
        assert not worklist.take_claim(tx, item, "b", clock(), TEN_MINUTES)
        assert worklist.take_claim(tx, item, "a", clock.advance(60), TEN_MINUTES)
        assert worklist.live_claim(tx, item, clock())["claimed_at"] == NOON  # type: ignore[index]
        assert worklist.take_claim(tx, item, "b", clock(), TEN_MINUTES, take_over=True)
        assert worklist.open_claims(tx, "b", clock()) == 1
        assert worklist.expired_claims(tx, clock()) == []
        assert worklist.expired_claims(tx, clock.advance(600)) == [(item, 1, "b", [])]
        assert worklist.live_claim(tx, item, clock()) is None
        assert not worklist.drop_claim(tx, item, "b")


def test_filters_narrow_and_hidden_critical_studies_are_counted(any_database: Database) -> None:
    add_item(any_database, 1, priority_class=3, modality="DX", location="ER")
    add_item(any_database, 2, modality="CT")
    with any_database.read() as tx:

        def shown(**values: object) -> int:
            return len(listing.rows(tx, Filters(**values), NOON, limit=10))  # type: ignore[arg-type]

        assert shown() == 2 and shown(modalities=["CT"]) == 1 and shown(locations=["ER"]) == 1
        assert shown(text="A1") == 1 and shown(text="doe^") == 2 and shown(text="100%") == 0
        assert shown(reader="nobody") == 0 and shown(alerts_open=True) == 0
        assert listing.hidden_critical(tx, Filters(), NOON) == 0
        assert listing.hidden_critical(tx, Filters(modalities=["CT"]), NOON) == 1
        assert listing.hidden_critical(tx, Filters(priority_classes=[0]), NOON) == 1


def test_a_change_by_an_old_version_is_refused(any_database: Database) -> None:
    _, item = add_item(any_database, 1)
    with any_database.write() as tx:
        version = worklist.find_item(tx, 1)["version"]  # type: ignore[index]
        assert worklist.change(tx, item, version, view="PA")
        assert not worklist.change(tx, item, version, view="AP")
        assert worklist.change(tx, item, None, view="AP")


def test_the_best_free_study_is_the_first_of_the_list_that_nobody_holds(any_database: Database) -> None:
    _, routine = add_item(any_database, 1)
    _, critical = add_item(any_database, 2, priority_class=3, state="arriving")
    add_item(any_database, 3, state="arriving")
    with any_database.write() as tx:
        assert worklist.best_free(tx, "a", NOON) == critical
        worklist.take_claim(tx, critical, "a", NOON, TEN_MINUTES)
        assert worklist.best_free(tx, "a", NOON) == worklist.best_free(tx, "b", NOON) == routine


def test_lifts_of_the_last_hour_are_counted_but_not_those_of_this_study_nor_critical_ones(
    any_database: Database,
) -> None:
    for number, (klass, minutes) in enumerate([(2, 5), (1, 50), (2, 70), (3, 5)]):
        add_item(any_database, number, priority_class=klass, raised_at=NOON - timedelta(minutes=minutes))
    with any_database.read() as tx:
        assert worklist.raised_since(tx, NOON - timedelta(hours=1), 99) == 2
        assert worklist.raised_since(tx, NOON - timedelta(hours=1), 1) == 1


def test_the_policy_in_force_is_the_last_adopted_and_old_ones_stay(any_database: Database) -> None:
    with any_database.write() as tx:
        policies.ensure_first(tx, NOON)
        policies.ensure_first(tx, NOON)
        assert policies.active(tx) == Policy()
        assert policies.adopt(tx, Policy(raised_per_hour=7), "admin", "trial", NOON) == 2
        assert policies.active(tx).raised_per_hour == 7 and policies.active(tx).version == 2

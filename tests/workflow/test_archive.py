"""The archive's count makes a series whole, when it is said twice and we hold as many."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from sqlalchemy import select

from tests.factories import NOON, Clock, a_header, an_arrival
from triage.dicom.query import STUDY_ROOT_FIND, series_instance_count
from triage.domain.errors import Misconfigured, Unavailable
from triage.store import peers, policies, schema
from triage.store.database import Database
from triage.workflow import archive
from triage.workflow.archive import ArchiveCounts, Heard, believe
from triage.workflow.intake import intake
from triage.workflow.site import Site

COUNT = 3


@pytest.fixture
def archive_port() -> Iterator[int]:
    """An archive that says of every series that it has COUNT instances."""

    def answer(event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        found = Dataset()
        found.QueryRetrieveLevel = "SERIES"
        found.SeriesInstanceUID = event.identifier.SeriesInstanceUID
        found.NumberOfSeriesRelatedInstances = COUNT
        yield 0xFF00, found

    ae = AE("ARCHIVE")
    ae.add_supported_context(STUDY_ROOT_FIND)
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_FIND, answer)])
    yield server.server_address[1]
    server.shutdown()


@pytest.mark.parametrize(
    ("heard", "believed"),
    [
        (None, False),
        (Heard(COUNT - 1, NOON - timedelta(seconds=9)), False),
        (Heard(COUNT, NOON - timedelta(seconds=1)), False),
        (Heard(COUNT, NOON - timedelta(seconds=5)), True),
    ],
)
def test_a_number_is_believed_when_it_was_said_before_and_long_enough_ago(
    heard: Heard | None, believed: bool
) -> None:
    assert believe(heard, COUNT, NOON, apart_seconds=5) is believed


def test_an_archive_is_asked_by_c_find(archive_port: int) -> None:
    count = series_instance_count(
        "127.0.0.1", archive_port, calling="TRIAGE", called="ARCHIVE",
        study_instance_uid="1.2.3", series_instance_uid="1.2.3.4",
    )  # fmt: skip
    assert count == COUNT


def test_an_archive_that_is_away_is_unavailable() -> None:
    with pytest.raises(Unavailable):
        series_instance_count(
            "127.0.0.1", 1, calling="TRIAGE", called="ARCHIVE", study_instance_uid="1", series_instance_uid="1",
            timeout_seconds=1,
        )  # fmt: skip


def test_two_equal_answers_set_the_expected_count(
    database: Database, clock: Clock, archive_port: int
) -> None:
    with database.write() as tx:
        policies.ensure_first(tx, clock())
        peers.add(tx, "PACS", "ARCHIVE", "127.0.0.1", archive_port, tls=False)
        intake(tx, an_arrival(a_header(modality="CT")), Site(), clock())
    asking = ArchiveCounts(database, "PACS", "TRIAGE", 5.0, clock)
    asking.turn()
    assert _expected(database) is None
    clock.advance(6)
    asking.turn()
    assert _expected(database) == COUNT
    asking.turn()  # counted series are not asked about again


def _expected(database: Database) -> int | None:
    with database.read() as tx:
        return tx.execute(select(schema.series.c.expected_count)).scalar_one()


def test_an_archive_that_is_no_peer_is_a_wrong_setting(database: Database, clock: Clock) -> None:
    with pytest.raises(Misconfigured, match="no peer"):
        ArchiveCounts(database, "NOBODY", "TRIAGE", 5.0, clock).turn()


def test_an_archive_that_does_not_know_the_series_or_changes_its_number_is_not_believed(
    database: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([None, 3, 4, 4, 4])
    monkeypatch.setattr(archive, "series_instance_count", lambda *_, **__: next(answers))
    with database.write() as tx:
        policies.ensure_first(tx, clock())
        peers.add(tx, "PACS", "ARCHIVE", "127.0.0.1", 104, tls=False)
        intake(tx, an_arrival(a_header(modality="CT")), Site(), clock())
    asking = ArchiveCounts(database, "PACS", "TRIAGE", 5.0, clock)
    for wait_seconds, expected in ((6, None), (6, None), (1, None), (6, None), (0, 4)):
        asking.turn()
        assert _expected(database) == expected
        clock.advance(wait_seconds)

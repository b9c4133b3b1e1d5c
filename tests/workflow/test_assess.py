"""Third step: a result counts once, by the holder of the lease, with all that follows in one transaction (P6, I7)."""

from __future__ import annotations

import threading
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from sqlalchemy import update

from tests.factories import NOON, a_finding
from tests.workflow.desk import Desk
from triage.detectors._grid import Grid
from triage.detectors.lungs import Lungs
from triage.detectors.protocol import Detection
from triage.detectors.registration import pack
from triage.domain.errors import Misconfigured, Unavailable
from triage.domain.finding import Finding, Measurements
from triage.domain.run import LEASE
from triage.domain.suitability import NotSuitable, NotSuitableError, ReasonCode
from triage.store import leases, releases, results, schema
from triage.store.spool import Spool
from triage.workflow import assess as steps
from triage.workflow import sweep
from triage.workflow.assess import Result, Worker

CRITICAL = a_finding("pneumothorax")


def test_a_result_brings_findings_place_alert_and_trail_together(any_desk: Desk) -> None:
    any_desk.flagged(CRITICAL, a_finding("effusion", 0.2))

    run = any_desk.run(1)
    assert (run["state"], run["attempts"], run["notes"]) == ("completed", 1, ["looked"])
    assert any_desk.item()["priority_class"] == 3 and any_desk.item()["ai_status"] == "completed"
    assert [f["name"] for f in any_desk.rows("finding")] == ["pneumothorax", "effusion"]
    assert [a["state"] for a in any_desk.alerts()] == ["open"]
    assert {d["route"] for d in any_desk.deliveries()} == {"hl7", "hook"}
    assert any_desk.acts() == ["alert.raised", "run.completed"]


def test_pixels_that_say_no_end_the_run_with_their_reason(desk: Desk) -> None:
    desk.analyse(desk.receive().wake[0][0], why_not=NotSuitable(ReasonCode.CORRUPT_PIXELS, "half a frame"))

    item = desk.item()
    assert (item["ai_status"], item["ai_reason"], item["ai_detail"]) == (
        "not_analysed", "CORRUPT_PIXELS", "half a frame",
    )  # fmt: skip


def test_a_failure_is_visible_and_ends_nothing_that_was_known(desk: Desk) -> None:
    desk.analyse(desk.receive().wake[0][0], failure="valueerror")

    assert (desk.item()["ai_status"], desk.item()["ai_reason"]) == ("failed", "valueerror")
    assert desk.acts() == ["run.failed"]


def test_a_run_is_leased_once_until_the_lease_ends(any_desk: Desk) -> None:
    run_id = any_desk.receive().wake[0][0]

    assert any_desk.lease(run_id) is not None
    assert any_desk.lease(run_id) is None
    any_desk.clock.advance(LEASE.total_seconds() + 1)
    assert any_desk.lease(run_id) is not None
    assert any_desk.run(run_id)["attempts"] == 2


def test_who_lost_the_lease_changes_nothing(any_desk: Desk) -> None:
    run_id = any_desk.receive().wake[0][0]
    slow = any_desk.lease(run_id)
    any_desk.clock.advance(LEASE.total_seconds() + 1)
    fast = any_desk.lease(run_id)
    assert slow is not None and fast is not None

    assert any_desk.finish(fast, Result(detection=Detection(())))
    assert not any_desk.finish(slow, Result(detection=Detection((CRITICAL,))))

    assert any_desk.alerts() == [] and any_desk.item()["priority_class"] == 0


def test_a_lease_is_renewed_by_its_holder_alone(any_desk: Desk) -> None:
    leased = any_desk.lease(any_desk.receive().wake[0][0])
    assert leased is not None
    with any_desk.database.write() as tx:
        assert leases.renew(tx, leased.run_id, leased.token, NOON + 3 * LEASE)
        assert not leases.renew(tx, leased.run_id, "another", NOON)
    any_desk.clock.advance(LEASE.total_seconds() + 1)
    assert any_desk.lease(leased.run_id) is None


def test_a_study_that_kills_its_worker_three_times_has_failed(any_desk: Desk) -> None:
    run_id = any_desk.receive().wake[0][0]
    for _ in range(3):
        assert any_desk.lease(run_id) is not None
        any_desk.clock.advance(LEASE.total_seconds() + 1)

    assert any_desk.lease(run_id) is None
    with any_desk.database.write() as tx:
        sweep.sweep(tx, any_desk.site, any_desk.ids, any_desk.clock())

    assert (any_desk.item()["ai_status"], any_desk.item()["ai_reason"]) == ("failed", "crashed")


def test_findings_of_a_shadow_release_move_nothing_even_once_it_is_active(desk: Desk) -> None:
    """I19, I20: an activated shadow release counts from its next run on."""
    with desk.database.write() as tx:
        shadow = releases.register(tx, "chest_xray", "2.0.0", "chest_xray-2", [], NOON)
    (active_run, _), (shadow_run, _) = desk.receive().wake
    desk.analyse(active_run)
    desk.analyse(shadow_run, CRITICAL)
    with desk.database.write() as tx:
        releases.activate(tx, shadow)
    desk.analyse(desk.receive(instance=2).wake[0][0])

    assert desk.item()["priority_class"] == 0 and desk.alerts() == []
    assert desk.run(active_run)["state"] == "completed"


def test_two_workers_that_end_runs_of_one_study_at_once_see_each_other(any_desk: Desk) -> None:
    """I17: on PostgreSQL each saw the other's run still running, and the list said so for ever."""
    for study in range(12):
        pair = [any_desk.receive(study=f"s{study}", instance=i).wake[0][0] for i in (1, 2)]
        leases = [any_desk.lease(run_id) for run_id in pair]
        together = threading.Barrier(2)

        def end(leased: Any, together: threading.Barrier = together) -> None:
            together.wait()
            any_desk.finish(leased, Result(detection=Detection((CRITICAL,))))

        threads = [threading.Thread(target=end, args=(leased,)) for leased in leases]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert {i["ai_status"] for i in any_desk.rows("worklist_item")} == {"completed"}
    assert len(any_desk.rows("alert")) == 12


# --- the shell around the steps -------------------------------------------------------------------------------


class Decoder:
    """Stands for the guarded child: hands back the paths it was asked for."""

    def radiograph(self, path: Path, header: Any) -> Any:
        return SimpleNamespace(notes=("decoded",), path=path)

    def volume(self, paths: list[Path], headers: list[Any]) -> Any:
        return SimpleNamespace(notes=(), paths=paths)


class Scripted:
    """A detector that says what a test wants."""

    runtime = "scripted 1"

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def detect(self, image: Any) -> Detection:
        if isinstance(self.answer, Exception):
            raise self.answer
        if callable(self.answer):
            self.answer()
            return Detection(())
        return Detection((self.answer,), notes=("looked",))


def worker(desk: Desk, answer: Any) -> Worker:
    def load(detector: str, digest: str) -> Any:
        if detector == "chest_xray" and answer is None:
            raise Misconfigured("weights are not the release's")
        return Scripted(answer)

    return Worker(desk.database, Spool(Path("/nowhere")), Decoder(), load, desk.site, desk.ids, desk.clock)  # type: ignore[arg-type]


def test_a_worker_assesses_a_film_and_says_what_decoding_did(desk: Desk) -> None:
    run_id = desk.receive().wake[0][0]

    worker(desk, CRITICAL).assess(run_id)
    worker(desk, CRITICAL).assess(run_id)  # the call came twice

    run = desk.run(run_id)
    assert (run["state"], run["runtime"], run["notes"]) == ("completed", "scripted 1", ["decoded", "looked"])
    assert len(desk.rows("alert")) == 1


def test_a_worker_reads_all_slices_of_a_scan(desk: Desk) -> None:
    series_id = desk.receive_scan().series_id
    desk.clock.advance(60)
    run_id = desk.judge(series_id)[0][0]

    worker(desk, a_finding("nodule")).assess(run_id)

    assert desk.item()["priority_class"] == 1


@pytest.mark.parametrize(
    ("answer", "state", "reason"),
    [
        (NotSuitableError(ReasonCode.LOW_QUALITY), "not_analysed", "LOW_QUALITY"),
        (None, "failed", "misconfigured"),
        (ZeroDivisionError("a bug of the detector"), "failed", "zerodivisionerror"),
    ],
)
def test_what_keeps_a_detector_from_answering_is_said(
    desk: Desk, answer: Any, state: str, reason: str
) -> None:
    run_id = desk.receive().wake[0][0]

    worker(desk, answer).assess(run_id)

    assert (desk.run(run_id)["state"], desk.run(run_id)["reason_code"]) == (state, reason)


def test_the_lease_is_renewed_while_a_detector_works(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "RENEW_SECONDS", 0.005)
    run_id = desk.receive().wake[0][0]
    renewed, attempts, stolen = threading.Event(), [], threading.Event()
    renew = leases.renew

    def watched(tx: Any, *args: Any) -> bool:
        attempts.append(1)
        if len(attempts) == 1:
            raise Unavailable("the database is busy")  # tried again
        if stolen.is_set():
            done = renew(tx, run_id, "another token", NOON)
            renewed.set()
            return done
        stolen.set()
        return renew(tx, *args)

    monkeypatch.setattr(leases, "renew", watched)
    worker(desk, lambda: renewed.wait(10)).assess(run_id)

    assert renewed.is_set() and len(attempts) == 3  # once busy, once renewed, once told that it is lost
    assert desk.run(run_id)["state"] == "completed"


def test_a_result_is_committed_through_a_short_outage(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "FINISH_AGAIN_SECONDS", (0.0, 0.0))
    run_id = desk.receive().wake[0][0]
    finish, outages = steps.finish, [1]

    def away(*args: Any) -> bool:
        if outages:
            outages.pop()
            raise Unavailable("the database does not answer")
        return finish(*args)

    monkeypatch.setattr(steps, "finish", away)
    worker(desk, CRITICAL).assess(run_id)
    assert desk.run(run_id)["state"] == "completed"

    outages += [1, 1, 1]
    with pytest.raises(Unavailable):
        worker(desk, CRITICAL).assess(desk.receive(instance=2).wake[0][0])


def test_an_outage_while_looking_is_no_answer(desk: Desk) -> None:
    run_id = desk.receive().wake[0][0]

    with pytest.raises(Unavailable):
        worker(desk, Unavailable("the spool cannot be read")).assess(run_id)

    assert desk.run(run_id)["state"] == "running"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # the thread's SystemExit
def test_a_process_whose_detector_hangs_ends_so_that_another_may_try(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = threading.Event()

    def ends(code: int) -> None:
        assert code == steps.HANGS
        ended.set()
        raise SystemExit

    monkeypatch.setattr(steps, "RENEW_SECONDS", 0.005)
    monkeypatch.setattr(steps, "LONGEST_RUN_SECONDS", 0.0)
    monkeypatch.setattr(steps.os, "_exit", ends)

    worker(desk, lambda: ended.wait(10)).assess(desk.receive().wake[0][0])

    assert ended.is_set()


def two_lungs() -> np.ndarray[Any, Any]:
    mask = np.zeros((60, 60, 60), bool)
    mask[5:55, 12:48, 5:26] = mask[5:55, 12:48, 34:55] = True
    return mask


def a_lung_map(mask: np.ndarray[Any, Any]) -> dict[str, Any]:
    grid = Grid(mask, np.diag([5.0, 5.0, 5.0, 1.0]))
    return pack(Lungs(grid, 4000.0, False, False))


def a_nodule(diameter: float) -> Finding:
    m = Measurements((60.0, 140.0, 150.0), diameter, diameter, diameter**3 / 2, 20.0, "solid")
    return a_finding("nodule", 0.9, measurements=m)


def scanned(
    desk: Desk, study: int, diameter: float, lungs: np.ndarray[Any, Any] | None = None, **values: Any
) -> leases.Leased:
    """A scan with one nodule, on its day, analysed."""
    desk.receive_scan(study=study, series=study, **values)
    with desk.database.write() as tx:
        newest = desk.rows("study")[-1]["id"]
        taken = NOON - timedelta(days=200 - 100 * study)
        tx.execute(update(schema.study).where(schema.study.c.id == newest).values(acquired_at=taken))
    desk.clock.advance(3600)
    leased = desk.lease(desk.judge(desk.rows("series")[-1]["id"])[0][0])
    assert leased is not None
    seen = Detection((a_nodule(diameter),), lung_map=a_lung_map(two_lungs() if lungs is None else lungs))
    with desk.database.read() as tx:
        compared = steps.compare_with_prior(tx, leased, seen)
    assert desk.finish(leased, Result(detection=compared))
    return leased


def test_a_nodule_of_an_earlier_scan_gets_its_growth(any_desk: Desk) -> None:
    scanned(any_desk, 1, 6.0, patient_id="P7")
    later = scanned(any_desk, 2, 9.0, patient_id="P7")

    first, second = (f["growth"] for f in any_desk.rows("finding"))
    assert first is None
    assert (second["days"], second["diameter_change_mm"], second["volume_change_percent"]) == (
        100,
        3.0,
        237.5,
    )
    with any_desk.database.read() as tx:
        assert results.findings_of_runs(tx, [later.run_id])[later.run_id][0].growth is not None


def test_another_patients_scan_is_no_prior(desk: Desk) -> None:
    scanned(desk, 1, 6.0)
    scanned(desk, 2, 9.0)

    assert [f["growth"] for f in desk.rows("finding")] == [None, None]


def test_a_scan_whose_lungs_do_not_match_the_earlier_ones_says_so_and_gives_no_growth(desk: Desk) -> None:
    small = np.zeros((60, 60, 60), bool)
    small[20:26, 20:26, 20:26] = True  # hardly any lung is on it
    scanned(desk, 1, 6.0, patient_id="P7")
    scanned(desk, 2, 9.0, small, patient_id="P7")

    assert [f["growth"] for f in desk.rows("finding")] == [None, None]
    assert "its lungs do not match" in desk.rows("run")[-1]["notes"][-1]

"""If triage stops, a person is told within one interval (P11)."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest

from tests.factories import NOON, a_finding, uid
from tests.workflow.desk import Desk
from triage.domain.study import CONSTANCY_PATIENT_PREFIX
from triage.domain.suitability import NotSuitable, ReasonCode
from triage.store import constancy as rows
from triage.store import releases
from triage.workflow import constancy

PHANTOM = {"study": "phantom", "patient_id": f"{CONSTANCY_PATIENT_PREFIX}-DX", "quality_control_image": "YES"}
CRITICAL = a_finding("pneumothorax")


def begin(desk: Desk) -> None:
    with desk.database.write() as tx:
        constancy.begin(tx, "chest_xray", uid("phantom"), desk.clock())


def judge(desk: Desk) -> int:
    with desk.database.write() as tx:
        return constancy.judge(tx, ["hook", "pager"], desk.ids, desk.clock())


def the_check(desk: Desk) -> tuple[bool | None, str]:
    (check,) = desk.rows("constancy_check")
    return check["ok"], check["detail"]


def test_a_flag_in_time_ends_the_check_and_puts_the_phantom_away(any_desk: Desk) -> None:
    begin(any_desk)
    run_id = any_desk.receive(**PHANTOM).wake[0][0]
    assert judge(any_desk) == 0
    any_desk.clock.advance(3)
    any_desk.analyse(run_id, CRITICAL)

    assert judge(any_desk) == 1 and judge(any_desk) == 0

    assert the_check(any_desk) == (True, "flagged after 3.0 s")
    assert any_desk.alerts()[0]["state"] == "closed" and any_desk.item()["state"] == "withdrawn"
    assert any_desk.rows("operator_notice") == []


def test_no_flag_in_time_is_told_over_every_operator_route(any_desk: Desk) -> None:
    begin(any_desk)
    assert judge(any_desk) == 0
    any_desk.clock.advance(61)
    assert judge(any_desk) == 1

    assert the_check(any_desk) == (False, "no flag within 60 s")
    notices = any_desk.rows("operator_notice")
    assert {n["route"] for n in notices} == {"hook", "pager"} and "triage doctor" in notices[0]["text"]
    assert any_desk.acts() == ["constancy.missed"]
    with any_desk.database.read() as tx:
        assert [c["ok"] for c in rows.last_finished(tx)] == [False]


@pytest.mark.parametrize(
    ("ending", "detail"),
    [
        ({"why_not": NotSuitable(ReasonCode.CORRUPT_PIXELS)}, "run ended as not_analysed CORRUPT_PIXELS"),
        ({}, "the known pneumothorax was not flagged"),
    ],
)
def test_a_phantom_that_is_not_flagged_is_a_failure_at_once(
    desk: Desk, ending: dict[str, object], detail: str
) -> None:
    begin(desk)
    desk.analyse(desk.receive(**PHANTOM).wake[0][0], **ending)  # type: ignore[arg-type]

    assert judge(desk) == 1 and the_check(desk) == (False, detail)


def test_a_flag_after_the_end_of_its_check_leaves_no_open_alert(desk: Desk) -> None:
    begin(desk)
    run_id = desk.receive(**PHANTOM).wake[0][0]
    desk.clock.advance(61)
    judge(desk)
    desk.analyse(run_id, CRITICAL)
    assert desk.alerts()[0]["state"] == "open"

    assert judge(desk) == 0
    assert desk.alerts()[0]["state"] == "closed"


def test_a_phantom_that_makes_no_item_is_put_away_all_the_same(desk: Desk) -> None:
    begin(desk)
    desk.receive(**PHANTOM, modality="SR", sop_class_uid="1.2.840.10008.5.1.4.1.1.88.11")
    desk.clock.advance(61)

    assert judge(desk) == 1


def test_phantoms_are_made_once_and_sent_each_time_as_a_new_study(tmp_path: Path) -> None:
    phantoms = constancy.Phantoms(tmp_path)
    (first,) = phantoms.files("chest_xray", NOON)
    before = constancy.study_uid(first)
    (second,) = phantoms.files("chest_xray", NOON.replace(hour=13))
    ds = pydicom.dcmread(second)

    assert constancy.study_uid(second) != before
    assert ds.PatientID.startswith(CONSTANCY_PATIENT_PREFIX) and ds.StudyDate == "20260314"
    assert ds.file_meta.MediaStorageSOPInstanceUID == ds.SOPInstanceUID


def test_a_phantom_scan_is_a_whole_series(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constancy, "CT_SLICES", 12)

    assert len(constancy.Phantoms(tmp_path).files("lung_nodule", NOON)) == 12


def test_a_phantom_without_some_times_is_stamped_all_the_same(tmp_path: Path) -> None:
    (made,) = constancy.Phantoms(tmp_path).files("chest_xray", NOON)
    ds = pydicom.dcmread(made)
    for keyword in ("ContentDate", "ContentTime", "SeriesDate", "SeriesTime"):
        if keyword in ds:
            delattr(ds, keyword)
    ds.save_as(made)

    again = pydicom.dcmread(constancy._restamped(made, tmp_path / "again.dcm", "stamp", NOON))

    assert again.StudyDate == "20260314" and "ContentDate" not in again


@pytest.mark.parametrize(("probability", "ok"), [(0.13, True), (0.30, False)])
def test_a_release_that_does_not_flag_the_phantom_passes_while_it_answers_as_before(
    desk: Desk, probability: float, ok: bool
) -> None:
    with desk.database.write() as tx:
        (release,) = [r for r in releases.in_states(tx, "active") if r["detector"] == "chest_xray"]
        answer = {"finding": "pneumothorax", "probability": 0.12, "flagged": False}
        releases.note_acceptance(tx, release["id"], calibrated=True, constancy=answer)
    begin(desk)
    desk.analyse(desk.receive(**PHANTOM).wake[0][0], a_finding(probability=probability))

    assert judge(desk) == 1
    detail = f"pneumothorax {probability:.3f}, 0.120 when the release took effect (no flag expected)"
    assert the_check(desk) == (ok, detail)

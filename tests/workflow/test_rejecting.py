"""Rejection notes: images leave the runs, alerts and the list, with a trail; before or after they come; once; and back."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from sqlalchemy import update

from tests.factories import a_finding, a_header, an_arrival, uid
from tests.workflow.desk import Desk
from triage.dicom.rejection import KEY_OBJECT_SELECTION, read_rejection
from triage.domain.errors import Refused
from triage.domain.rejection import Reason, Rejection, heaviest
from triage.store import audit, holdings, pulls, rejections, worklist
from triage.store.schema import delivery
from triage.store.spool import Spool
from triage.workflow.intake import intake
from triage.workflow.read import claims
from triage.workflow.rejecting import read_notes, reject_at_once, take_note

QUALITY, SAFETY, WRONG_ENTRY, EXPIRED = "113001", "113037", "113038", "113039"


def evidence(*uids: str, study: object = 1) -> Items:
    of_study, of_series, sops = Dataset(), Dataset(), []
    for one in uids:
        sop = Dataset()
        sop.ReferencedSOPClassUID, sop.ReferencedSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", one
        sops.append(sop)
    of_study.StudyInstanceUID, of_series.SeriesInstanceUID = uid(study), uid(study, 1)
    of_series.ReferencedSOPSequence = Items(sops)
    of_study.ReferencedSeriesSequence = Items([of_series])
    return Items([of_study])


def a_note(
    path: Path, title: str, *uids: str, number: int = 1, study: object = 1, of: object = None, **values: Any
) -> Path:
    """A Key Object Selection as an archive sends it."""
    ds, name = Dataset(), Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = KEY_OBJECT_SELECTION, uid(study, "note", number)
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.Modality = uid(study), uid(study, "notes"), "KO"
    ds.PatientID, ds.PatientName = f"P{study}", "Doe^Jane"
    name.CodeValue, name.CodingSchemeDesignator, name.CodeMeaning = title, "DCM", "as the code says"
    ds.ConceptNameCodeSequence = Items([name])
    ds.CurrentRequestedProcedureEvidenceSequence = evidence(*uids, study=study if of is None else of)
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = (
        ds.SOPClassUID, ds.SOPInstanceUID,
    )  # fmt: skip
    ds.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    ds.save_as(path, enforce_file_format=True)
    return path


class Post:
    """Brings notes to a department, by the steps that the receiver and the relay take."""

    def __init__(self, desk: Desk, folder: Path) -> None:
        self.desk, self.folder, self.spool = desk, folder, Spool(folder / "spool")
        self.spool.prepare()

    def bring(
        self, title: str, *uids: str, number: int = 1, study: object = 1, sender: str = "PACS", **values: Any
    ) -> list[Any]:
        path = a_note(self.folder / f"{number}.dcm", title, *uids, number=number, study=study, **values)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        self.spool.adopt(path, digest)
        header = a_header(
            study=study, series="notes", modality="KO", sop_class_uid=KEY_OBJECT_SELECTION,
            sop_instance_uid=uid(study, "note", number), series_instance_uid=uid(study, "notes"),
        )  # fmt: skip
        arrival = an_arrival(header, calling_ae_title=sender)
        arrival = type(arrival)(**{**vars(arrival), "digest": digest})
        with self.desk.database.write() as tx:
            intake(tx, arrival, self.desk.site, self.desk.clock())
        return self.read()

    def read(self) -> list[Any]:
        return read_notes(self.desk.database, self.spool, self.desk.site, self.desk.clock, self.desk.ids)


@pytest.fixture
def post(any_desk: Desk, tmp_path: Path) -> Post:
    return Post(any_desk, tmp_path)


def test_a_rejected_film_loses_its_findings_alert_and_place_and_the_audit_says_why(post: Post) -> None:
    desk = post.desk
    desk.flagged(a_finding("pneumothorax", 0.95))
    assert desk.item()["priority_class"] == 3 and len(desk.alerts()) == 1
    for row in desk.deliveries():
        told(desk, row["id"])
    post.bring(SAFETY, uid(1, 1, 1))
    assert [r["state"] for r in desk.rows("run")] == ["superseded", "not_analysed"]
    assert [r["superseded_at"] for r in desk.rows("run")] == [desk.clock(), None]
    item = desk.item()
    assert (item["state"], item["priority_class"], item["ai_reason"]) == ("withdrawn", 0, "REJECTED")
    assert [a["state"] for a in desk.alerts()] == ["withdrawn"]
    assert "withdrawal" in {d["kind"] for d in desk.deliveries()}
    with desk.database.read() as tx:
        (said,) = [e for e in audit.events(tx) if e["act"] == "instances.rejected"]
        assert holdings.search(tx, "instance", (), 10, 0)[0]["header"]["modality"] == "KO"
    assert said["actor"] == "dicom:PACS"
    detail = said["detail"]
    assert detail["reason"] == "safety" and detail["runs"] == 1
    assert detail["before"] == {"state": "to_read", "class": 3}
    assert detail["after"] == {"state": "withdrawn", "class": 0}


def told(desk: Desk, delivery_id: int) -> None:
    """Its peer may have the message."""
    with desk.database.write() as tx:
        tx.execute(update(delivery).where(delivery.c.id == delivery_id).values(payload=b"MSH|"))


def test_a_note_of_a_sender_that_may_not_reject_changes_nothing_and_stands_in_the_audit(post: Post) -> None:
    desk = post.desk
    desk.flagged(a_finding("pneumothorax", 0.95))
    desk.site = replace(desk.site, rejection_notes_from=("ARCHIVE",))
    post.bring(WRONG_ENTRY, uid(1, 1, 1))
    assert desk.item()["state"] == "to_read"
    with desk.database.read() as tx:
        (said,) = [e for e in audit.events(tx) if e["act"] == "security.rejection_refused"]
        assert said["actor"] == "dicom:PACS" and rejections.unread(tx) == []
    desk.site = replace(desk.site, rejection_notes_from=("ARCHIVE", "PACS"))
    post.bring(WRONG_ENTRY, uid(1, 1, 1), number=2)
    assert desk.item()["state"] == "withdrawn"


def test_a_note_that_came_by_a_workstation_first_counts_when_the_archive_sends_it(post: Post) -> None:
    desk = post.desk
    desk.flagged(a_finding("pneumothorax", 0.95))
    desk.site = replace(desk.site, rejection_notes_from=("ARCHIVE", "a token of more than 16 characters"))
    for sender in ("VIEWER", "MODALITY"):
        post.bring(WRONG_ENTRY, uid(1, 1, 1), sender=sender)
        assert desk.item()["state"] == "to_read"
    post.bring(WRONG_ENTRY, uid(1, 1, 1), sender="ARCHIVE")
    assert desk.item()["state"] == "withdrawn"
    post.bring(WRONG_ENTRY, uid(1, 1, 1), sender="VIEWER")
    assert desk.item()["state"] == "withdrawn"
    with desk.database.read() as tx:
        said = [e["actor"] for e in audit.events(tx) if "reject" in e["act"]]
    assert said == ["dicom:VIEWER", "dicom:ARCHIVE"]
    assert desk.site.may_reject("a token of more ") and not desk.site.may_reject("VIEWER")


def test_a_note_and_its_object_may_come_twice(post: Post) -> None:
    desk = post.desk
    desk.flagged(a_finding())
    post.bring(QUALITY, uid(1, 1, 1))
    rows = desk.rows("run")
    assert post.read() == []
    with desk.database.write() as tx:
        note = {"id": 1, "sop_instance_uid": "x", "said_by": "x"}
        assert not rejections.settle(tx, note["id"], state="live")
    assert desk.rows("run") == rows and desk.acts().count("instances.rejected") == 1


def test_a_note_waits_for_its_images(post: Post) -> None:
    desk = post.desk
    post.bring(WRONG_ENTRY, uid(1, 1, 1))
    with desk.database.read() as tx:
        assert worklist.find_item(tx, 1) is None
    assert desk.receive().wake == ()
    assert [r["reason_code"] for r in desk.rows("run")] == ["REJECTED"]
    with desk.database.read() as tx:
        assert worklist.find_item(tx, 1) is None  # nothing to read
    taken = desk.receive(instance=2)  # the right image comes under a UID of its own
    assert len(taken.wake) == 1 and desk.item()["ai_status"] == "requested"


def test_the_rest_of_a_scan_is_read_anew(post: Post) -> None:
    desk = post.desk
    series_id = desk.receive_scan(10).series_id
    desk.clock.advance(60)
    desk.analyse(desk.judge(series_id)[0][0], a_finding("nodule"))
    wake = post.bring(QUALITY, uid(1, 1, 9))
    assert [run for run, _ in wake] == [2]
    assert desk.run(1)["state"] == "superseded"
    assert uid(1, 1, 9) not in desk.run(2)["sop_instance_uids"]
    assert desk.item()["state"] == "to_read" and desk.item()["ai_status"] == "requested"
    desk.analyse(2, a_finding("nodule"))
    assert desk.item()["ai_status"] == "completed"
    with desk.database.read() as tx:  # rejected for quality: a person may still look
        assert len(holdings.search(tx, "instance", (), 20, 0)) == 11


def test_a_whole_scan_may_go_and_come_back(post: Post) -> None:
    desk = post.desk
    series_id = desk.receive_scan(10).series_id
    desk.clock.advance(60)
    desk.analyse(desk.judge(series_id)[0][0], a_finding("nodule"))
    every = [uid(1, 1, i) for i in range(10)]
    post.bring(SAFETY, *every)
    assert (desk.item()["state"], desk.item()["ai_reason"]) == ("withdrawn", "REJECTED")
    replaced = {"PredecessorDocumentsSequence": evidence(uid(1, "note", 1))}
    wake = post.bring(SAFETY, *every[:1], number=2, **replaced)
    assert [run for run, _ in wake] == [3]
    assert desk.item()["state"] == "to_read"
    assert sorted(desk.run(3)["sop_instance_uids"]) == sorted(every[1:])


def test_a_film_that_comes_back_is_a_new_question(post: Post) -> None:
    desk = post.desk
    desk.flagged(a_finding("pneumothorax", 0.95))
    post.bring(QUALITY, uid(1, 1, 1))
    assert desk.item()["state"] == "withdrawn"
    ((run, _),) = post.bring(QUALITY, uid(1, "note", 1), number=2)  # the note itself is rejected
    desk.analyse(run, a_finding("pneumothorax", 0.95))
    assert (desk.item()["state"], desk.item()["priority_class"]) == ("to_read", 3)


def test_a_note_takes_nothing_from_another_study(post: Post) -> None:
    desk = post.desk
    desk.flagged(a_finding())
    post.bring(SAFETY, uid(1, 1, 1), study=2, of=1)  # evidence of a study that the note is not in
    post.bring(SAFETY, uid(1, 1, 1), study=2, number=2)  # and one that only claims it
    assert [r["state"] for r in desk.rows("run")] == ["completed"]


def test_what_is_no_rejection_changes_nothing(post: Post) -> None:
    post.desk.flagged(a_finding())
    post.bring("113000", uid(1, 1, 1))
    assert [r["state"] for r in post.desk.rows("rejection_note")] == ["none"]
    assert [r["state"] for r in post.desk.rows("run")] == ["completed"]


def test_the_reader_of_notes_refuses_what_it_cannot_read(post: Post, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"no DICOM")
    with pytest.raises(Refused):
        read_rejection(tmp_path / "x")
    post.bring(QUALITY, uid(1, 1, 1))
    row = post.desk.rows("rejection_note")[0]
    post.spool.path(row["digest"]).write_bytes(b"no DICOM")
    with post.desk.database.write() as tx:
        rejections.note(tx, "1.2.3", post.desk.clock(), state="unread", digest=row["digest"])
    post.read()
    assert [r["state"] for r in post.desk.rows("rejection_note")] == ["live", "unreadable"]


def test_the_heaviest_reason_counts() -> None:
    assert heaviest([]) == ""
    assert heaviest(["quality", "wrong_entry", "safety"]) == Reason.WRONG_ENTRY


def test_a_study_that_somebody_reads_is_taken_from_them_when_all_of_it_is_rejected(post: Post) -> None:
    desk = post.desk
    desk.flagged(a_finding())
    with desk.database.write() as tx:
        claims.claim(tx, uid(1), "ann", desk.clock())
    post.bring(QUALITY, uid(1, 1, 1))
    with desk.database.read() as tx:
        assert worklist.live_claim(tx, 1, desk.clock()) is None
    assert desk.item()["state"] == "withdrawn"


def test_images_fetched_only_to_compare_may_be_rejected_too(post: Post) -> None:
    desk = post.desk
    with desk.database.write() as tx:
        assert pulls.mark_prior(tx, uid(1), desk.clock())
    desk.receive()
    post.bring(QUALITY, uid(1, 1, 1))
    assert desk.rows("worklist_item") == [] and "instances.rejected" in desk.acts()


def test_a_note_that_another_process_has_settled_is_left_to_it(desk: Desk) -> None:
    desk.flagged(a_finding())
    said = Rejection(
        reason=Reason.QUALITY, study_instance_uid=uid(1), sop_instance_uids=frozenset({uid(1, 1, 1)})
    )
    with desk.database.write() as tx:
        note_id, _ = rejections.note(
            tx, "1.2.3", desk.clock(), study_instance_uid=uid(1), state="unread", said_by="PACS"
        )
        note = {"id": note_id, "sop_instance_uid": "1.2.3", "said_by": "PACS"}
        for _ in range(2):
            take_note(tx, note, said, desk.site, desk.ids, desk.clock())
        assert reject_at_once(tx, "1.2.3", said, "PACS", desk.site, desk.ids, desk.clock()) == []
    assert desk.acts().count("instances.rejected") == 1

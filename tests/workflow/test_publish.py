"""Publishing: each completed run that counts has its objects once, whole, in the mode it was asked for."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pydicom
import pytest
from sqlalchemy import select, update

from tests.dicom.builders import film, save
from tests.dicom.objects.analyses import FILM_FINDINGS, SCAN_FINDINGS
from tests.dicom.objects.judges import content_items, named
from tests.factories import NOON, Clock, an_arrival, digest_of, uid
from triage.domain.errors import Unavailable
from triage.domain.finding import Finding, Mode
from triage.domain.identity import Demographics, PatientKey
from triage.settings import Settings
from triage.store import audit, leases, orders, reading, registration, releases, results, runs, studies
from triage.store.database import Database
from triage.store.schema import finding, instance, output, run
from triage.store.spool import Spool
from triage.workflow import publish, reconcile
from triage.workflow.preview import Previewer
from triage.workflow.publish import Publisher
from triage.workflow.site import Site, new_id

SECOND = timedelta(seconds=1)


class Bench:
    """A database with runs, and the publisher over it."""

    def __init__(self, database: Database, home: Path, mode: Mode = Mode.TRIAGE_ONLY) -> None:
        self.database, self.home, self.clock = database, home, Clock()
        self.folder = home / "outputs"
        (home / "spool").mkdir(exist_ok=True)
        self.publisher = self.another(mode)

    def another(self, mode: Mode) -> Publisher:
        return Publisher(self.database, Spool(self.home / "spool"), self.folder, mode, "TRIAGE", self.clock)

    def completed(
        self, study: int = 1, *, modality: str = "DX", findings: tuple[Finding, ...] = FILM_FINDINGS,
        images: int = 1, mode: str = "triage_only", queue: str = "routine", end: str = "finished",
        release: str = "first", **header: Any,
    ) -> int:  # fmt: skip
        """A run over this study's series that ended; its id."""
        detector = "lung_nodule" if modality == "CT" else "chest_xray"
        with self.database.write() as tx:
            release_id = releases.register(
                tx, detector, "1.0.0", digest_of(detector + release), ["fracture"], NOON
            )
            for i in range(1, images + 1):
                arrival = an_arrival(study=study, instance=i, modality=modality, **header)
                held = registration.register(tx, arrival, "SITE", 10, NOON)
            uids = [uid(study, 1, i) for i in range(1, images + 1)]
            run_id, _ = runs.request(
                tx, study_id=held.study_id, series_id=held.series_id, release_id=release_id,
                input_digest=digest_of(uids), sop_instance_uids=uids, queue=queue, policy_version=1, mode=mode,
                now=self.clock.advance(1),
            )  # fmt: skip
            leases.lease(tx, run_id, "token", NOON, 60 * SECOND)
            if end:
                results.add_findings(tx, run_id, held.study_id, findings)
                leases.finish(tx, run_id, "token", end, self.clock.advance(1))
                runs.supersede_older(tx, run_id, self.clock())
        return run_id

    def rows(self) -> list[dict[str, Any]]:
        with self.database.read() as tx:
            return [dict(r) for r in tx.execute(select(output).order_by(output.c.id)).mappings()]

    def files(self) -> list[str]:
        return sorted(str(p.relative_to(self.folder)) for p in self.folder.rglob("*") if p.is_file())

    def read(self, run_id: int, kind: str) -> pydicom.Dataset:
        (row,) = [r for r in self.rows() if (r["run_id"], r["kind"]) == (run_id, kind)]
        return pydicom.dcmread(self.folder / row["path"])


@pytest.fixture
def bench(any_database: Database, tmp_path: Path) -> Bench:
    return Bench(any_database, tmp_path)


def test_a_flagged_run_gets_a_report_and_a_flag_where_the_contract_says(bench: Bench) -> None:
    run_id = bench.completed()
    assert bench.publisher.turn() == 1
    rows = bench.rows()
    assert [(r["run_id"], r["kind"], r["state"]) for r in rows] == [
        (run_id, "sr", "written"),
        (run_id, "kos", "written"),
    ]
    assert bench.files() == sorted(f"{uid(1)}/{r['kind']}-{r['sop_instance_uid']}.dcm" for r in rows)
    for r in rows:
        assert pydicom.dcmread(bench.folder / r["path"]).SOPInstanceUID == r["sop_instance_uid"]


def test_an_object_is_of_whom_the_study_is_when_it_is_made(bench: Bench) -> None:
    """Updated, merged and moved between image and report: the archive files it where it files the images by then."""
    desk: dict[str, Any] = {"said_at": NOON, "by": "hl7:ADT", "site": Site(), "now": NOON}
    sent = PatientKey(patient_id="P1")
    updated, merged, moved, untouched = (bench.completed(study=n) for n in (1, 2, 3, 4))
    with bench.database.write() as tx:
        reconcile.update_patient(tx, sent, Demographics(patient_name="Roe^Mary", patient_sex="F"), **desk)
        survivor = PatientKey(patient_id="P9")
        reconcile.update_patient(tx, survivor, Demographics(patient_name="Poe^Ann"), **desk)
        reconcile.merge_patients(tx, PatientKey(patient_id="P2"), survivor, key="m", ids=new_id, **desk)
        reconcile.move_study(tx, uid(3), patient=sent, accession_number="A77", key="v", ids=new_id, **desk)
    bench.publisher.turn()
    said = [
        (str(ds.PatientID), str(ds.PatientName), ds.AccessionNumber)
        for ds in (bench.read(run_id, "sr") for run_id in (updated, merged, moved, untouched))
    ]
    assert said == [
        ("P1", "Roe^Mary", "A1"), ("P9", "Poe^Ann", "A2"), ("P1", "Roe^Mary", "A77"), ("P4", "Doe^Jane", "A4"),
    ]  # fmt: skip


def test_each_object_is_in_the_audit_trail_and_on_the_page_of_its_study(bench: Bench) -> None:
    bench.completed()
    bench.publisher.turn()
    with bench.database.read() as tx:
        said = [e for e in audit.events(tx) if e["act"] == "output.written"]
        study_id = studies.find_study(tx, uid(1))
        assert study_id is not None
        assert [e["object_id"] for e in said] == [r["sop_instance_uid"] for r in bench.rows()]
        assert [o["kind"] for o in reading.outputs_of(tx, study_id)] == ["sr", "kos"]
        assert audit.verify(tx).ok


def test_a_run_without_flag_gets_its_report_alone(bench: Bench) -> None:
    quiet = tuple(replace(f, actionable=False) for f in FILM_FINDINGS)
    bench.completed(findings=quiet)
    bench.publisher.turn()
    assert [r["kind"] for r in bench.rows()] == ["sr"]


def test_shadow_constancy_open_failed_and_refused_runs_get_nothing(bench: Bench) -> None:
    bench.completed(1, queue="shadow")
    bench.completed(2, patient_id="TRIAGE-CONSTANCY-1")
    bench.completed(3, end="")
    bench.completed(4, end="gave_up")
    assert bench.publisher.turn() == 0
    assert bench.rows() == [] and not bench.folder.exists()


def test_a_second_turn_and_a_second_publisher_make_no_twins(bench: Bench) -> None:
    bench.completed()
    bench.publisher.turn()
    before, rows = bench.files(), bench.rows()
    assert bench.publisher.turn() == 0
    assert bench.another(Mode.TRIAGE_ONLY).turn() == 0
    assert (bench.files(), bench.rows()) == (before, rows)


def test_a_publisher_that_died_before_its_commit_is_repeated_with_the_same_bytes(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.completed()
    with monkeypatch.context() as broken:
        broken.setattr(bench.publisher, "_record", _dies)
        with pytest.raises(KeyboardInterrupt):
            bench.publisher.turn()
    left = {name: (bench.folder / name).read_bytes() for name in bench.files()}
    assert len(left) == 2 and bench.rows() == []
    assert bench.another(Mode.TRIAGE_ONLY).turn() == 1
    assert {name: (bench.folder / name).read_bytes() for name in bench.files()} == left
    assert len(bench.rows()) == 2


def _dies(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_study_removed_while_its_objects_are_written_leaves_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.completed(1)
    bench.completed(2)  # its turn comes when it is gone already

    really_write = publish.write

    def write_then_remove(folder: Path, relative: str, content: bytes) -> None:
        really_write(folder, relative, content)
        with bench.database.write() as tx:
            tx.execute(finding.delete())
            tx.execute(run.delete())

    monkeypatch.setattr(publish, "write", write_then_remove)
    bench.publisher.turn()
    assert bench.files() == [] and bench.rows() == []


def test_a_run_that_completes_late_is_not_overlooked(bench: Bench) -> None:
    late = bench.completed(1, end="")
    bench.completed(2)
    assert bench.publisher.turn() == 1
    assert bench.publisher.turn() == 0
    with bench.database.write() as tx:
        leases.finish(tx, late, "token", "finished", bench.clock.advance(1))
    assert bench.publisher.turn() == 1
    assert {r["run_id"] for r in bench.rows()} == {late, late + 1}


def test_a_backlog_is_taken_in_batches_oldest_first(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publish, "BATCH", 2)
    ids = [bench.completed(n) for n in range(1, 4)]
    assert bench.publisher.turn() == 2
    assert {r["run_id"] for r in bench.rows()} == set(ids[:2])
    assert bench.publisher.turn() == 1


def test_a_corrected_result_names_the_report_before_it(bench: Bench) -> None:
    first = bench.completed(modality="CT", images=3, findings=SCAN_FINDINGS)
    bench.publisher.turn()
    second = bench.completed(modality="CT", images=5, findings=SCAN_FINDINGS)
    bench.publisher.turn()
    third = bench.completed(modality="CT", images=6, findings=())
    bench.publisher.turn()
    reports = [bench.read(r, "sr") for r in (first, second, third)]
    assert "PredecessorDocumentsSequence" not in reports[0]
    for older, newer in itertools.pairwise(reports):
        (study,) = newer.PredecessorDocumentsSequence
        (series,) = study.ReferencedSeriesSequence
        assert study.StudyInstanceUID == older.StudyInstanceUID
        assert series.SeriesInstanceUID == older.SeriesInstanceUID
        assert series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == older.SOPInstanceUID
    assert len({r.SOPInstanceUID for r in reports}) == 3
    assert [int(r.SeriesNumber) for r in reports] == [9001, 9011, 9021]


@pytest.mark.parametrize(
    ("run_mode", "site_mode", "told"),
    [("triage_only", "triage_only", False), ("overlay", "overlay", True), ("triage_only", "overlay", False),
     ("overlay", "triage_only", False)],
)  # fmt: skip
def test_places_are_told_only_where_run_and_site_both_allow_it(
    database: Database, tmp_path: Path, run_mode: str, site_mode: str, told: bool
) -> None:
    bench = Bench(database, tmp_path, Mode(site_mode))
    run_id = bench.completed(modality="CT", images=4, findings=SCAN_FINDINGS, mode=run_mode)
    bench.publisher.turn()
    report, flag = bench.read(run_id, "sr"), bench.read(run_id, "kos")
    assert bool(named(report, "121231")) == bool(named(report, "118565006")) == told
    shown = [i for i in content_items(flag) if i.ValueType == "IMAGE"]
    assert (len(shown) < 4) == told


def test_the_order_of_the_study_is_named(bench: Bench) -> None:
    with bench.database.write() as tx:
        orders.add(tx, NOON, accession_number="A1", placer_order_number="PL7", filler_order_number="FI7")
    run_id = bench.completed()
    bench.publisher.turn()
    (request,) = bench.read(run_id, "sr").ReferencedRequestSequence
    assert request.PlacerOrderNumberImagingServiceRequest == "PL7"


def test_one_run_that_cannot_be_told_does_not_stand_before_the_others(bench: Bench) -> None:
    odd = bench.completed(1)
    fine = bench.completed(2)
    with bench.database.write() as tx:
        tx.execute(update(run).where(run.c.id == odd).values(sop_instance_uids=[uid(77)]))
    bench.publisher.turn()
    rows = {r["run_id"]: r for r in bench.rows() if r["kind"] == "sr"}
    assert rows[odd]["state"] == "failed" and "no longer in the index" in rows[odd]["detail"]
    assert rows[fine]["state"] == "written"
    assert bench.publisher.turn() == 0


def test_a_disk_that_refuses_leaves_no_row_and_is_tried_again(bench: Bench) -> None:
    bench.completed()
    bench.folder.write_text("in the way")
    with pytest.raises(Unavailable, match="cannot be written"):
        bench.publisher.turn()
    assert bench.rows() == []
    bench.folder.unlink()
    assert bench.publisher.turn() == 1
    assert len(bench.rows()) == 2


def test_below_the_reserve_nothing_is_written(bench: Bench) -> None:
    bench.completed()
    full = Publisher(
        bench.database,
        Spool(bench.home / "spool", 1 << 60),
        bench.folder,
        Mode.OVERLAY,
        "TRIAGE",
        bench.clock,
    )
    with pytest.raises(Unavailable, match="below its reserve"):
        full.turn()
    assert bench.rows() == []


def test_half_written_files_of_a_dead_publisher_are_swept(bench: Bench) -> None:
    bench.completed()
    bench.publisher.turn()
    (bench.folder / "incoming" / "dead.part").write_bytes(b"half")
    bench.publisher.sweep()
    assert len(bench.files()) == 2


def test_two_databases_never_give_two_objects_one_uid(bench: Bench, tmp_path: Path) -> None:
    bench.completed()
    bench.publisher.turn()
    with bench.database.read() as tx:
        requested = tx.execute(select(run.c.requested_at)).scalar_one()
    first = [r["sop_instance_uid"] for r in bench.rows()]
    with bench.database.write() as tx:  # as the same study would stand in another installation
        tx.execute(output.delete())
        tx.execute(update(run).values(requested_at=requested + SECOND))
    bench.publisher.look_from_the_start()
    bench.publisher.turn()
    assert not set(first) & {r["sop_instance_uid"] for r in bench.rows()}


def test_an_image_lost_from_the_index_does_not_hide_the_others(bench: Bench) -> None:
    run_id = bench.completed(modality="CT", images=4, findings=SCAN_FINDINGS)
    with bench.database.write() as tx:
        tx.execute(instance.delete().where(instance.c.sop_instance_uid == uid(1, 1, 2)))
    bench.publisher.turn()
    (study,) = bench.read(run_id, "sr").CurrentRequestedProcedureEvidenceSequence
    assert len(study.ReferencedSeriesSequence[0].ReferencedSOPSequence) == 3


@pytest.mark.parametrize("mode", ["overlay", "triage_only"])
def test_regions_and_marks_are_written_where_places_may_be_told(
    database: Database, tmp_path: Path, mode: str
) -> None:
    bench = Bench(database, tmp_path, Mode(mode))
    run_id = bench.completed(modality="CT", images=20, findings=SCAN_FINDINGS, mode="overlay")
    bench.publisher.turn()
    kinds = [r["kind"] for r in bench.rows()]
    assert kinds == (["sr", "kos", "seg", "gsps"] if mode == "overlay" else ["sr", "kos"])
    if mode == "overlay":  # the voxels went through the database unchanged
        (segment,) = bench.read(run_id, "seg").SegmentSequence
        assert segment.TrackingUID in {i.UID for i in named(bench.read(run_id, "sr"), "112040")}


def test_an_instance_from_before_a_field_was_kept_is_still_read(bench: Bench) -> None:
    bench.completed()
    with bench.database.write() as tx:
        header = dict(tx.execute(select(instance.c.header)).scalar_one())
        for name in ("other_patient_ids", "issuer_of_accession_number", "window", "has_voi_lut"):
            del header[name]
        tx.execute(update(instance).values(header=header))
    assert bench.publisher.turn() == 1
    assert {r["state"] for r in bench.rows()} == {"written"}


def test_a_picture_is_made_where_a_site_asks_and_its_lack_stops_nothing(bench: Bench) -> None:
    """The images of this bench have no bytes in the spool: without a file no picture can be made."""
    previewer = Previewer(Settings(home=bench.home))
    spool = Spool(bench.home / "spool")
    with_pictures = Publisher(
        bench.database, spool, bench.folder, Mode.TRIAGE_ONLY, "TRIAGE", bench.clock, previewer
    )
    bench.completed()
    with_pictures.turn()
    assert [(r["kind"], r["state"]) for r in bench.rows()] == [("sr", "written"), ("kos", "written")]
    image = spool.path(digest_of(uid(2, 1, 1)))
    image.parent.mkdir(parents=True)
    save(film(), image)
    second = bench.completed(2, rows=240, columns=256)
    with_pictures.turn()
    previewer.close()
    assert {r["kind"] for r in bench.rows() if r["run_id"] == second} == {"sr", "kos", "sc"}


def failures(bench: Bench) -> int:
    with bench.database.read() as tx:
        return [e["act"] for e in audit.events(tx)].count("output.failed")


def test_two_publishers_that_write_the_same_at_once_record_it_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.completed()
    really_write, other = publish.write, bench.another(Mode.TRIAGE_ONLY)

    def write_after_the_other(folder: Path, relative: str, content: bytes) -> None:
        monkeypatch.setattr(publish, "write", really_write)
        other.turn()
        really_write(folder, relative, content)

    monkeypatch.setattr(publish, "write", write_after_the_other)
    bench.publisher.turn()
    assert len(bench.rows()) == len(bench.files()) == 2
    with bench.database.read() as tx:
        assert [e["act"] for e in audit.events(tx)].count("output.written") == 2


def test_an_outage_while_a_run_is_looked_at_is_no_failure_of_the_run(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.completed()
    with monkeypatch.context() as outage:
        outage.setattr(publish, "analysis_of", _raises(Unavailable("the database does not answer")))
        with pytest.raises(Unavailable):
            bench.publisher.turn()
    assert bench.rows() == [] and failures(bench) == 0
    assert bench.publisher.turn() == 1 and len(bench.rows()) == 2


def _raises(error: Exception) -> Any:
    def raises(*_: object, **__: object) -> None:
        raise error

    return raises


@pytest.mark.parametrize("meanwhile", ["removed", "given up"])
def test_a_run_that_cannot_be_told_fails_once_and_not_when_it_is_gone(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, meanwhile: str
) -> None:
    bench.completed()
    other = bench.another(Mode.TRIAGE_ONLY)

    def fails_too_late(*_: object) -> None:
        monkeypatch.setattr(publish, "build", _raises(ValueError("odd")))
        if meanwhile == "given up":
            other.turn()
        else:
            with bench.database.write() as tx:
                tx.execute(finding.delete())
                tx.execute(run.delete())
        raise ValueError("odd")

    monkeypatch.setattr(publish, "build", fails_too_late)
    bench.publisher.turn()
    once = int(meanwhile == "given up")
    assert failures(bench) == len(bench.rows()) == once

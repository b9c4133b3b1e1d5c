"""What modalities and archives say about a study's instances: kept, and every series that it concerns judged anew.

Stored under the UID of the message, so a repetition changes nothing; what names a series that is not here waits for it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime

from sqlalchemy import Connection

from triage.dicom.ian import Availability, Notice
from triage.dicom.mpps import DISCONTINUED, IN_PROGRESS, Said
from triage.dicom.statuses import DUPLICATE_INSTANCE, NO_SUCH_INSTANCE, PROCESSING_FAILURE, Failed
from triage.domain.rejection import Reason, Rejection
from triage.store import audit, completeness, evidence
from triage.workflow.rejecting import reject_at_once
from triage.workflow.site import NewId, Site

WRONG_ENTRY = "110514"  # (110514, DCM, "Incorrect worklist entry selected"), CID 9300
MPPS, IAN = "mpps", "ian"
NO_LONGER_UPDATABLE = 0xA710  # Error ID (PS3.4 F.7.2.2.2)


def begin_step(tx: Connection, said: Said, now: datetime) -> None:
    """N-CREATE. The same message again is well; another under this UID is not.

    raises  Failed (0111H)
    """
    new = evidence.add_step(
        tx, said.sop_instance_uid, state=IN_PROGRESS, calling_ae_title=said.sender[:16],
        study_instance_uids=list(said.study_uids), listed=_as_json(said), digest=said.digest, created_at=now,
        changed_at=now,
    )  # fmt: skip
    if new:
        return
    known = evidence.find_step(tx, said.sop_instance_uid)
    assert known is not None
    if known["digest"] != said.digest:
        raise Failed(DUPLICATE_INSTANCE, "a step of this UID was created before")


def change_step(tx: Connection, said: Said, site: Site, ids: NewId, now: datetime) -> list[int]:
    """N-SET. The end of a step lists what was made; returns series to judge.

    raises  Failed (0112H; 0110H with Error ID A710H when the step has ended)
    """
    step = evidence.find_step(tx, said.sop_instance_uid)
    if step is None:
        raise Failed(NO_SUCH_INSTANCE, "no such performed procedure step")
    if step["digest"] == said.digest:
        return []
    if step["state"] != IN_PROGRESS:
        raise Failed(PROCESSING_FAILURE, "the step has ended and stays as it is", NO_LONGER_UPDATABLE)
    listed = step["listed"] if said.series is None else _as_json(said)
    state = said.state or IN_PROGRESS
    evidence.change_step(
        tx, step["id"], state=state, listed=listed, digest=said.digest, changed_at=now,
        discontinuation=said.discontinuation,
    )  # fmt: skip
    if state == IN_PROGRESS:
        return []
    study_uid = next(iter(step["study_instance_uids"]), "")
    series = {uid: made for uid, made in listed.items() if made}  # a modality that lists nothing says nothing
    for uid, made in series.items():
        evidence.list_series(
            tx, MPPS, said.sop_instance_uid, uid, now, study_instance_uid=study_uid, here=made
        )
    audit.append(
        tx, now, f"dicom:{said.sender}", f"step.{state.lower()}", "mpps", said.sop_instance_uid,
        {"series": len(series), "instances": sum(map(len, series.values()))},
    )  # fmt: skip
    found = _expect(tx, series, now)
    if state == DISCONTINUED and said.discontinuation == WRONG_ENTRY:
        _wrong_entry(tx, said, study_uid, series, site, ids, now)
    return found


def _wrong_entry(
    tx: Connection, said: Said, study_uid: str, series: Mapping[str, Collection[str]], site: Site, ids: NewId,
    now: datetime,
) -> None:  # fmt: skip
    """The images were made under another patient's entry: nobody is to be alerted by them (standards 2.5)."""
    made = frozenset(uid for listed in series.values() for uid in listed)
    note = Rejection(reason=Reason.WRONG_ENTRY, study_instance_uid=study_uid, sop_instance_uids=made)
    # No run to wake: what it names is taken out, nothing comes back.
    reject_at_once(tx, said.sop_instance_uid, note, said.sender, site, ids, now)


def hear_notice(tx: Connection, notice: Notice, now: datetime) -> list[int]:
    """What an archive has of a study, or has no longer; returns series to judge. The same notice again is well.

    raises  Failed (0111H)
    """
    known = {
        row["series_instance_uid"]: Availability(frozenset(row["sop_instance_uids"]), frozenset(row["gone"]))
        for row in evidence.of_source(tx, IAN, notice.sop_instance_uid)
    }
    if known == notice.series:
        return []
    if known:
        raise Failed(DUPLICATE_INSTANCE, "a notification of this UID said something else before")
    for uid, said in notice.series.items():
        evidence.list_series(
            tx, IAN, notice.sop_instance_uid, uid, now, study_instance_uid=notice.study_instance_uid,
            here=said.here, gone=said.gone,
        )  # fmt: skip
    audit.append(
        tx, now, f"dicom:{notice.sender}", "availability.heard", "study", notice.study_instance_uid,
        {"series": len(notice.series), "instances": sum(len(s.here) for s in notice.series.values())},
    )  # fmt: skip
    return _expect(tx, notice.series, now)


def _expect(tx: Connection, series_uids: Collection[str], now: datetime) -> list[int]:
    """Series of these that are here: what they are to have, and that they are to be judged now."""
    found = []
    for uid in series_uids:
        listed = evidence.listed(tx, uid)
        if listed is not None:
            found += completeness.set_expected_count(tx, uid, len(listed), now)
    return found


def _as_json(said: Said) -> dict[str, list[str]]:
    return {uid: list(made) for uid, made in (said.series or {}).items()}

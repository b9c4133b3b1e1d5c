"""First step of a study's life: a durable object becomes rows; only then does the sender hear success.

The caller has flushed the bytes and given them their place in the spool. One transaction: Instance row, Series
touched, worklist item, and for a film its Run. A CT series is judged by `workflow.complete`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone

from sqlalchemy import Connection

from triage.dicom.rejection import KEY_OBJECT_SELECTION
from triage.domain.eligibility import radiograph_answer
from triage.domain.priority import ItemFacts, OrderedPriority, prioritize
from triage.domain.study import CONSTANCY_PATIENT_PREFIX, CT_CLASSES, RADIOGRAPH_CLASSES, InstanceHeader
from triage.domain.suitability import NotSuitable, ReasonCode
from triage.store import (
    audit,
    completeness,
    orders,
    policies,
    pulls,
    registration,
    rejections,
    releases,
    runs,
    studies,
    worklist,
)
from triage.store.registration import Arrival, Arrived
from triage.workflow.rank import rank
from triage.workflow.reports import settle_homeless
from triage.workflow.site import Site

_EACH_ALONE = RADIOGRAPH_CLASSES | {KEY_OBJECT_SELECTION}
WANTED_CLASSES = RADIOGRAPH_CLASSES | CT_CLASSES
# Objects that nobody reads by themselves make no worklist item.
NOT_READ = frozenset(
    {"SR", "KO", "PR", "SEG", "REG", "DOC", "RWV", "RTSTRUCT", "RTPLAN", "RTDOSE", "FID", "PLAN"}
)


@dataclass(frozen=True)
class Intake:
    """What became of one object. wake: (run id, queue) calls to make after the commit."""

    arrived: Arrived
    study_id: int
    series_id: int
    wake: tuple[tuple[int, str], ...] = ()


def arrival_of(
    header: InstanceHeader, digest: str, size_bytes: int, calling_ae_title: str, association_id: str
) -> Arrival:
    """The object as the index takes it, with what its header implies."""
    constancy = header.patient_id.startswith(CONSTANCY_PATIENT_PREFIX)
    return Arrival(
        header=header,
        digest=digest,
        size_bytes=size_bytes,
        calling_ae_title=calling_ae_title,
        association_id=association_id,
        wanted=header.sop_class_uid in WANTED_CLASSES,
        constancy=constancy and header.quality_control_image == "YES",
        acquired_at=acquired_at(header),
    )


def intake(tx: Connection, arrival: Arrival, site: Site, now: datetime) -> Intake:
    """Index one object and ask for what it makes possible; idempotent under its digest."""
    registered = registration.register(
        tx, arrival, site.name, site.quiet_seconds, now, issuer=site.issuer_of_patient_id
    )
    if registered.arrived is Arrived.DUPLICATE:
        if arrival.header.sop_class_uid == KEY_OBJECT_SELECTION:
            _hear_again(tx, arrival, site)
        return Intake(registered.arrived, registered.study_id, registered.series_id)
    if registered.arrived is not Arrived.NEW:
        audit.append(
            tx, now, f"dicom:{arrival.calling_ae_title}", "instance.quarantined", "instance",
            arrival.header.sop_instance_uid, {"digest": arrival.digest, "reason": registered.arrived.value},
        )  # fmt: skip
        return Intake(registered.arrived, registered.study_id, registered.series_id)
    h = arrival.header
    if h.sop_class_uid == KEY_OBJECT_SELECTION:
        completeness.settle_series(tx, registered.series_id, "note")  # there is nothing more to wait for
        # What it says is read after the commit (`workflow.rejecting`).
        rejections.note(
            tx, h.sop_instance_uid, now, study_instance_uid=h.study_instance_uid, digest=arrival.digest,
            state="unread", said_by=arrival.calling_ae_title[:16],
        )  # fmt: skip
    prior = pulls.is_prior(tx, h.study_instance_uid)  # for comparison alone: no item, no run
    shown = not prior and not registered.rejected and h.modality not in NOT_READ
    news = shown and _ensure_item(tx, registered.study_id, h, now)
    wake: list[tuple[int, str]] = []
    if prior and h.sop_class_uid in RADIOGRAPH_CLASSES:
        completeness.settle_series(tx, registered.series_id, "prior")
    elif h.sop_class_uid in RADIOGRAPH_CLASSES:
        wake = request_runs(
            tx, "chest_xray", registered.study_id, registered.series_id,
            [(h.sop_instance_uid, arrival.digest)],
            NotSuitable(ReasonCode.REJECTED) if registered.rejected else radiograph_answer(h), site, now,
        )  # fmt: skip
        completeness.settle_series(tx, registered.series_id, "film")  # each film is judged alone
    # The two hundredth slice changes nothing that a list shows but a count, which the page reads by itself.
    if news or registered.reopened or h.sop_class_uid in RADIOGRAPH_CLASSES:
        rank(tx, registered.study_id, now)
    return Intake(registered.arrived, registered.study_id, registered.series_id, tuple(wake))


def _hear_again(tx: Connection, arrival: Arrival, site: Site) -> None:
    """A note came once more: where its first sender might not reject and this one may, it is read anew."""
    said_by = arrival.calling_ae_title[:16]
    note = rejections.find(tx, arrival.header.sop_instance_uid)
    if note is not None and not site.may_reject(note["said_by"]) and site.may_reject(said_by):
        rejections.reread(tx, note["id"], said_by)


def intake_group(tx: Connection, arrivals: Sequence[Arrival], site: Site, now: datetime) -> list[Intake]:
    """`intake` for several objects, in their order. Slices of one series cost one insert and one touch together."""
    taken: dict[int, Intake] = {}
    series: dict[tuple[str, ...], list[int]] = {}
    for i, arrival in enumerate(arrivals):
        h = arrival.header
        key = (h.patient_id, h.issuer_of_patient_id, h.study_instance_uid, h.series_instance_uid)
        series.setdefault(key, []).append(i)
    for members in series.values():
        first, *rest = members
        taken[first] = intake(tx, arrivals[first], site, now)
        if taken[first].arrived is Arrived.NEW and arrivals[first].header.sop_class_uid not in _EACH_ALONE:
            rest = _take_siblings(tx, arrivals, taken, first, rest, site, now)
        for i in rest:
            taken[i] = intake(tx, arrivals[i], site, now)
    return [taken[i] for i in range(len(arrivals))]


def _take_siblings(
    tx: Connection,
    arrivals: Sequence[Arrival],
    taken: dict[int, Intake],
    first: int,
    rest: list[int],
    site: Site,
    now: datetime,
) -> list[int]:
    """Index those of `rest` that are plainly new objects of the first one's series; returns the others."""
    unique = {arrivals[i].header.sop_instance_uid: i for i in reversed(rest)}
    unique.pop(arrivals[first].header.sop_instance_uid, None)
    alone = {i for i in rest if arrivals[i].header.sop_class_uid in _EACH_ALONE}
    plain = [i for i in sorted(unique.values()) if i not in alone]
    if not plain:
        return rest
    known = taken[first]
    registered = registration.Registered(Arrived.NEW, known.study_id, known.series_id, 0)
    new = registration.register_siblings(
        tx, [arrivals[i] for i in plain], registered, site.quiet_seconds, now
    )
    for i in plain:
        if arrivals[i].header.sop_instance_uid in new:
            taken[i] = Intake(Arrived.NEW, known.study_id, known.series_id)
    return [i for i in rest if i not in taken]


def request_runs(
    tx: Connection,
    detector: str,
    study_id: int,
    series_id: int,
    inputs: Sequence[tuple[str, str]],
    answer: NotSuitable | None,
    site: Site,
    now: datetime,
    changes: int = 0,
) -> list[tuple[int, str]]:
    """A Run of every live release of `detector` on exactly these (SOP Instance UID, digest) pairs.

    answer   what the tags said; not None ends the Run at once as not_analysed with that reason
    changes  of the series: images that were taken out and back make a new question of the same ones
    returns  (run id, queue) to wake after the commit
    """
    item = worklist.find_item(tx, study_id)
    urgent = item is not None and item["ordered_priority"] == OrderedPriority.STAT.value
    constancy = bool(studies.get_study(tx, study_id)["constancy"])
    # A film takes a fifth of a second: behind a CT it would wait twenty times its own length.
    queue = "stat" if urgent or constancy or detector == "chest_xray" else "routine"
    policy_version = policies.active(tx).version
    if detector not in site.detectors:
        answer = answer or NotSuitable(ReasonCode.MODEL_OFF)
    wake = []
    digest = input_digest(inputs, changes)
    known = [r for r in releases.in_states(tx) if r["detector"] == detector]
    live = [r for r in known if r["state"] != "retired"]
    off = not any(r["state"] == "active" for r in live)
    if off:
        # None counts: the reader hears that the detector is off, from a run of the newest release that ends at once.
        answer, live = answer or NotSuitable(ReasonCode.MODEL_OFF), known[-1:]
    for release in live:
        run_id, new = runs.request(
            tx,
            study_id=study_id,
            series_id=series_id,
            release_id=release["id"],
            input_digest=digest,
            sop_instance_uids=[uid for uid, _ in inputs],
            queue="shadow" if release["state"] == "shadow" and not off else queue,
            policy_version=policy_version,
            mode=site.mode.value,
            now=now,
        )
        if not new:
            continue
        if answer is not None:
            runs.settle_unsuitable(tx, run_id, answer, now)
            runs.supersede_older(tx, run_id, now)
        else:
            wake.append((run_id, "shadow" if release["state"] == "shadow" else queue))
    return wake


def input_digest(inputs: Sequence[tuple[str, str]], changes: int = 0) -> str:
    """What a Run has seen: sha256 over the sorted (SOP Instance UID, content digest) pairs (standards 3.2)."""
    text = "\n".join(f"{uid} {digest}" for uid, digest in sorted(inputs))
    text += f"\nchanges {changes}" if changes else ""
    return hashlib.sha256(text.encode()).hexdigest()


def _ensure_item(tx: Connection, study_id: int, header: InstanceHeader, now: datetime) -> bool:
    """The worklist item of this study; True when it is new or came back."""
    item = worklist.find_item(tx, study_id)
    if item is None:
        order = orders.find_order(tx, header.study_instance_uid, header.accession_number)
        ordered = OrderedPriority(order["priority"]) if order else OrderedPriority.ROUTINE
        priority = prioritize(ItemFacts(arrived_at=now, ordered_priority=ordered), (), policies.active(tx), 0)
        item_id = worklist.ensure_item(tx, study_id, priority, ordered, now)
        worklist.set_values(
            tx,
            item_id,
            modality=header.modality[:16],
            body_part=header.body_part_examined[:64],
            view=header.view_position[:16],
            location=(order["patient_location"] if order else header.institutional_department_name)[:80],
        )
        settle_homeless(tx, study_id, now)
        return True
    by_hand = item["state"] == "read" and item["report_state"] == ""
    if by_hand or item["state"] == "withdrawn":  # then more images came
        worklist.set_values(tx, item["id"], state="to_read")
        return True
    return False


def acquired_at(header: InstanceHeader) -> datetime | None:
    """Acquisition as an aware time; None when absent or not a time. Zone: (0008,0201), else UTC."""
    text = header.acquisition_datetime or f"{header.study_date}{header.study_time}"
    try:
        local = datetime.strptime(text[:14].ljust(14, "0"), "%Y%m%d%H%M%S")  # noqa: DTZ007 - zone follows
    except ValueError:
        return None
    offset = header.timezone_offset
    zone: timezone = UTC
    if len(offset) == 5 and offset[0] in "+-" and offset[1:].isdigit():
        minutes = int(offset[1:3]) * 60 + int(offset[3:])
        if minutes < 24 * 60:
            zone = timezone(timedelta(minutes=minutes if offset[0] == "+" else -minutes))
    try:
        return local.replace(tzinfo=zone).astimezone(UTC)
    except OverflowError:  # year 1 east of Greenwich: a date that says nothing
        return None

"""Messages in: kept as they came, then worked through, then answered. Nothing that was acknowledged is lost.

Original mode: one answer after the work. Enhanced mode: CA as soon as the message is safe, then what MSH-16 asks for.
What cannot be understood is answered AE (its content) or AR (its kind, or we cannot now) with the reason, and stays on
the messages page. The reason never holds patient data. source: standards 7.3; HL7 v2.5.1 2.9, 2.10.3
"""

from __future__ import annotations

import hashlib
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection

from triage.domain.errors import Refused, Unavailable
from triage.hl7 import batch
from triage.hl7.orders import orders_of
from triage.hl7.parse import AckCode, ErrorCode, Message, Unusable, build_ack, parse
from triage.hl7.patient import demographics_of, patient_of, said_at
from triage.hl7.reports import reports_of
from triage.log import get_logger
from triage.store import audit, identity, messages
from triage.store.database import Database
from triage.workflow import reconcile
from triage.workflow.orders import take_order
from triage.workflow.patients import take_patient
from triage.workflow.reports import take_report
from triage.workflow.site import NewId, Site, new_id

# Senders begin their numbers anew, at midnight or after a restart: the same number much later is another message.
REPEAT_WINDOW = timedelta(hours=12)
LEFT_BEHIND = timedelta(seconds=60)  # kept for so long and not worked through: a crash came in between
_ORDERS = frozenset({"ORM^O01", "OMG^O19", "OMI^O23"})
_IGNORED = ("SIU^", "ACK", "BAR^", "DFT^", "MDM^", "RAS^", "RDE^", "QBP^", "QRY^")
_OURS = "99TRIAGE"
log = get_logger()


@dataclass(frozen=True)
class Verdict:
    """What became of a message and what the sender hears."""

    state: str  # applied, ignored, refused, parked
    code: AckCode
    error: ErrorCode = ErrorCode.INTERNAL
    reason: str = ""
    accession_number: str = ""
    study_instance_uid: str = ""


class Inbox:
    """Takes messages of one listener; messages are worked through one at a time."""

    def __init__(
        self, database: Database, site: Site, clock: Callable[[], datetime], ids: NewId = new_id
    ) -> None:
        self._database, self._site, self._clock, self._ids = database, site, clock, ids
        self._turn = threading.Lock()

    def of_peer(self, address: str) -> Callable[[bytes], Iterator[bytes]]:
        """The handler of one connection (`hl7.mllp`)."""
        return lambda raw: self.answers(raw, address)

    def answers(self, raw: bytes, address: str = "") -> Iterator[bytes]:
        """The answers to what came in one frame, each as soon as it may leave."""
        try:
            parts = batch.split(raw)
        except Refused as error:
            yield self._unreadable(raw, address, str(error))
            return
        if parts is None:
            yield from self._one(raw, address)
            return
        said = [answer for part in parts for answer in self._one(part, address)]
        if said:
            yield batch.join(said, self._clock())

    def work_again(self, message_id: int) -> Verdict:
        """Once more, by a person or after a crash. raises Refused when there is no such message"""
        with self._database.read() as tx:
            row = messages.get(tx, message_id)
        if row is None:
            raise Refused("no such message")
        try:
            message = parse(row["raw"])
            _check_header(message)
        except Refused as error:
            verdict = _verdict_of(error, AckCode.AR)
            self._settle(message_id, verdict)
            return verdict
        return self._work(message_id, message)

    def work_in(self, tx: Connection, message_id: int, person: str) -> None:
        """Once more by a person, in their unit of work. raises Refused with what still stands against it"""
        row = messages.get(tx, message_id)
        if row is None:
            raise Refused("no such message")
        message = parse(row["raw"])
        _check_header(message)
        verdict = self._apply(tx, message_id, message)
        _settle(tx, message_id, verdict, self._clock())
        audit.append(tx, self._clock(), person, "message.replayed", "message", message_id)

    def work_left(self) -> int:
        """Messages that a crash left behind; returns how many there were."""
        with self._database.read() as tx:
            left = messages.unworked(tx, self._clock() - LEFT_BEHIND)
        for message_id in left:
            self.work_again(message_id)
        return len(left)

    # --- one message ----------------------------------------------------------------------------------------

    def _one(self, raw: bytes, address: str) -> Iterator[bytes]:
        try:
            message = parse(raw)
        except Refused as error:
            yield self._unreadable(raw, address, str(error))
            return
        enhanced = any(message.msh.field(n).strip() for n in (15, 16))
        try:
            _check_header(message)
            message_id, earlier = self._keep(raw, message, address)
        except Refused as error:
            verdict = _verdict_of(error, AckCode.AR)
            self._settle(self._store(raw, message, address), verdict)
            if not enhanced or _wanted(message, 15, good=False):
                yield self._ack(raw, verdict, accept=enhanced)
            return
        if enhanced and _wanted(message, 15, good=True):
            yield build_ack(raw, AckCode.CA, now=self._clock())
        verdict = earlier or self._work(message_id, message)
        if not enhanced or _wanted(message, 16, good=verdict.code is AckCode.AA):
            yield self._ack(raw, verdict)

    def _keep(self, raw: bytes, message: Message, address: str) -> tuple[int, Verdict | None]:
        """(row, what was said before when it is a repetition that went well). raises Unusable for a number used twice"""
        now = self._clock()
        with self._turn, self._database.write() as tx:
            found = messages.find_earlier(tx, _sender(message), message.control_id, now - REPEAT_WINDOW)
            if found is None:
                return self._add(tx, raw, message, address), None
            if found["digest"] != _digest(raw):
                log.warning("message.control_id_reused", sender=_sender(message), message_id=found["id"])
                raise Unusable("MSH-10 was used before with other content", ErrorCode.DUPLICATE_KEY)
        if found["state"] in ("applied", "ignored"):
            return int(found["id"]), Verdict(found["state"], AckCode.AA)
        return int(found["id"]), None  # refused or parked then: what was missing may be here now

    def _work(self, message_id: int, message: Message) -> Verdict:
        try:
            with self._turn, self._database.write() as tx:
                verdict = self._apply(tx, message_id, message)
                _settle(tx, message_id, verdict, self._clock())
        except Refused as error:
            verdict = _verdict_of(error, AckCode.AE)
            self._settle(message_id, verdict)
        except Unavailable:
            log.warning("message.not_worked", message_id=message_id, fix="triage doctor")
            return Verdict("received", AckCode.AR, reason="the database does not answer, try later")
        except Exception as error:  # noqa: BLE001  the door: one message that we stumble over stops no other
            where = traceback.extract_tb(error.__traceback__)[-1]
            log.error(
                "message.failed", message_id=message_id, error=type(error).__name__,
                path=f"{where.filename}:{where.lineno}", fix="send this line to the developers",
            )  # fmt: skip
            verdict = Verdict("parked", AckCode.AR, reason="internal error; it waits for a person")
            self._settle(message_id, verdict)
        log.info("message.worked", message_id=message_id, kind=message.kind[:20], state=verdict.state)
        return verdict

    def _apply(self, tx: Connection, message_id: int, message: Message) -> Verdict:
        now, by = self._clock(), f"hl7:{_sender(message)}"[:80]
        if message.kind in _ORDERS:
            return self._orders(tx, message, by, now)
        if message.kind == "ORU^R01":
            return _reports(tx, message, message_id, by, now)
        if message.kind.startswith("ADT"):
            key = f"{_digest(_sender(message).encode())[:16]}|{message.control_id}"
            note = take_patient(tx, message, key=key, by=by, site=self._site, ids=self._ids, now=now)
            return Verdict("ignored" if note is None else "applied", AckCode.AA, reason=note or "")
        return Verdict("ignored", AckCode.AA, reason="this kind of message asks for nothing here")

    def _orders(self, tx: Connection, message: Message, by: str, now: datetime) -> Verdict:
        at = said_at(message, now)
        news = orders_of(message)
        patient_id = None
        if message.all("PID"):
            key = patient_of(message)
            reconcile.update_patient(
                tx, key, demographics_of(message), said_at=at, by=by, site=self._site, now=now
            )
            patient_id = identity.patient_row(tx, key.at(self._site.issuer_of_patient_id))
        rows = [take_order(tx, one, patient_id, said_at=at, by=by, now=now) for one in news]
        taken = [row for row in rows if row is not None]
        if not taken:
            return Verdict("ignored", AckCode.AA, reason="this order control asks for nothing here")
        unknown = any(one.priority_unknown for one in news)
        reason = "a priority that no table knows counts as routine" if unknown else ""
        return Verdict(
            "applied", AckCode.AA, reason=reason, accession_number=taken[0]["accession_number"],
            study_instance_uid=taken[0]["study_instance_uid"],
        )  # fmt: skip

    # --- rows and answers -------------------------------------------------------------------------------------

    def _add(self, tx: Connection, raw: bytes, message: Message | None, address: str) -> int:
        return messages.keep(
            tx, sender=_sender(message) if message else address, control_id=message.control_id if message else "",
            kind=message.kind if message else "", digest=_digest(raw), raw=raw, address=address, now=self._clock(),
        )  # fmt: skip

    def _store(self, raw: bytes, message: Message | None, address: str) -> int:
        with self._database.write() as tx:
            return self._add(tx, raw, message, address)

    def _settle(self, message_id: int, verdict: Verdict) -> None:
        with self._database.write() as tx:
            _settle(tx, message_id, verdict, self._clock())

    def _unreadable(self, raw: bytes, address: str, reason: str) -> bytes:
        verdict = Verdict("refused", AckCode.AR, ErrorCode.DATA_TYPE, reason)
        self._settle(self._store(raw, None, address), verdict)
        return self._ack(raw, verdict)

    def _ack(self, raw: bytes, verdict: Verdict, *, accept: bool = False) -> bytes:
        """accept: on the accept level, C instead of A (table 0008)."""
        code = AckCode("C" + verdict.code[1]) if accept else verdict.code
        return build_ack(raw, code, now=self._clock(), text=verdict.reason, error=verdict.error)


def _reports(tx: Connection, message: Message, message_id: int, by: str, now: datetime) -> Verdict:
    if _is_our_own(message):
        return Verdict("ignored", AckCode.AA, reason="our own result came back: no report of a person")
    news = reports_of(message)
    notes = [take_report(tx, one, message_id, by=by, now=now) for one in news]
    return Verdict(
        "applied", AckCode.AA, reason=next((n for n in notes if n), ""), accession_number=news[0].accession_number,
        study_instance_uid=news[0].study_instance_uid,
    )  # fmt: skip


def _is_our_own(message: Message) -> bool:
    """An engine that sends every result to everybody must not close an alert with the alert itself."""
    return any(s.field(3, 3) == _OURS or s.field(17, 3) == _OURS for s in message.all("OBX"))


def _check_header(message: Message) -> None:
    """raises Unusable for what no work could mend; AR by the caller, but AE for what the sender can mend."""
    msh = message.msh
    if not message.control_id.strip():
        raise Unusable("MSH-10 is empty", ErrorCode.REQUIRED_FIELD_MISSING)
    if msh.field(12) and not msh.field(12).startswith("2."):
        raise Unusable("MSH-12: a version 2.x is expected", ErrorCode.UNSUPPORTED_VERSION)
    if msh.field(11).strip() not in ("P", "T", "D", ""):
        raise Unusable("MSH-11 is P, T or D", ErrorCode.UNSUPPORTED_PROCESSING_ID)
    known = (
        message.kind in _ORDERS or message.kind == "ORU^R01" or message.kind.startswith(("ADT", *_IGNORED))
    )
    if not known:
        raise Unusable("this type of message is not taken here", ErrorCode.UNSUPPORTED_TYPE)


_BY_CONTENT = (ErrorCode.REQUIRED_FIELD_MISSING, ErrorCode.DUPLICATE_KEY)


def _verdict_of(error: Refused, code: AckCode) -> Verdict:
    number = error.error if isinstance(error, Unusable) else ErrorCode.DATA_TYPE
    return Verdict("refused", AckCode.AE if number in _BY_CONTENT else code, number, str(error))


def _settle(tx: Connection, message_id: int, verdict: Verdict, now: datetime) -> None:
    good = verdict.code is AckCode.AA
    messages.settle(
        tx, message_id, now, state=verdict.state, code=verdict.code.value, error="" if good else verdict.error.value,
        reason=verdict.reason, accession_number=verdict.accession_number,
        study_instance_uid=verdict.study_instance_uid,
    )  # fmt: skip
    if not good:
        audit.append(
            tx,
            now,
            "triage",
            f"message.{verdict.state}",
            "message",
            message_id,
            {"error": verdict.error.value},
        )


def _wanted(message: Message, number: int, *, good: bool) -> bool:
    """Does MSH-15 or MSH-16 ask for this answer (table 0155)? Empty asks for none."""
    condition = message.msh.field(number).strip().upper()
    return condition == "AL" or condition == ("SU" if good else "ER")


def _sender(message: Message) -> str:
    return f"{message.msh.field(3)}|{message.msh.field(4)}"[:160]


def _digest(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()

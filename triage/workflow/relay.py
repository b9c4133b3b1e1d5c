"""Delivers alerts until the peer answers: build once, store the bytes, send, record. One thread a route.

Marked delivered only after a positive answer to this control id (P10); a crash between sending and recording sends
the same bytes again under the same key (P9). One slow or dead consumer delays no other (F27).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from triage.channels.protocol import Answer, Channel, Outcome
from triage.domain.alerting import AlertNotice, AlertState, DeliveryState, MessageKind, Rung, retry_after
from triage.domain.errors import TriageError
from triage.domain.finding import FINDING_CODES, Location, shown
from triage.log import get_logger
from triage.settings import RouteSettings
from triage.store import alerts, audit, constancy, deliveries, orders, results, runs, studies, worklist
from triage.store.database import Database
from triage.workflow import links
from triage.workflow.alert import next_rung, tell_pages
from triage.workflow.duty import DutyThread
from triage.workflow.routes import build, build_operator_notice
from triage.workflow.site import NewId, Site, new_id

log = get_logger()
POLL_SECONDS = 0.2
REST_SECONDS = 1.0  # after a turn that was not possible: an alert may be waiting


def prepare(tx: Connection, route: RouteSettings, site: Site, now: datetime) -> dict[str, Any] | None:
    """The next delivery of a route with its bytes, stored before they are sent; None when nothing is due."""
    row = deliveries.due(tx, route.name, now)
    if row is None or row["payload"] is not None:
        return row
    notice = notice_of(tx, row, site)
    if route.link and notice.kind is MessageKind.RESULT:
        notice = replace(notice, link=links.make(tx, row["id"], route.link))
    payload = build(route, notice, site.mode, site.name)
    # Cancelled in this very moment: its withdrawal counts this route as never told.
    return {**row, "payload": payload} if deliveries.keep_payload(tx, row["id"], payload) else None


def record(
    tx: Connection,
    row: dict[str, Any],
    answer: Answer,
    jitter: float,
    now: datetime,
    operators: Sequence[str] = (),
    ids: NewId = new_id,
    ladder: Sequence[Rung] = (),
) -> DeliveryState:
    """Store what the peer said and what follows from it.

    operators  routes to tell when the peer refused the content: a parked alert is nobody's otherwise
    ladder     of the site: who refuses for good is not waited for, the next rung is told at once (standards 7.3)
    """
    state = {
        Outcome.DELIVERED: DeliveryState.DELIVERED,
        Outcome.REFUSED: DeliveryState.PARKED,
        Outcome.RETRY: DeliveryState.WAITING,
    }[answer.outcome]
    wait = now + retry_after(row["attempts"] + 1, jitter) if state is DeliveryState.WAITING else None
    deliveries.record_attempt(tx, row["id"], now, answer.outcome.value, answer.detail, state, wait)
    alert = alerts.get(tx, row["alert_id"])
    assert alert is not None
    if state is not DeliveryState.WAITING:
        detail = {"route": row["route"], "control_id": row["control_id"], "detail": answer.detail}
        audit.append(tx, now, "triage", f"delivery.{state.value}", "alert", row["alert_id"], detail)
    if state is DeliveryState.PARKED:
        text = f"Route {row['route']} refused an alert ({answer.detail}). Alert {row['alert_id']} waits for a person."
        for route in operators:
            constancy.add_notice(tx, "delivery.parked", text, route, ids(), now)
        escalate(tx, row, alert, ladder, ids, now)
    tell_pages(tx, alert, AlertState(alert["state"]), now)
    return state


def escalate(
    tx: Connection, row: dict[str, Any], alert: dict[str, Any], ladder: Sequence[Rung], ids: NewId, now: datetime
) -> None:  # fmt: skip
    """A result that will not arrive by its route: the rung after its own, now; later times stay as they were."""
    waits = alert["state"] == AlertState.OPEN.value and alert["step"] == row["rung"]
    if waits and row["kind"] == MessageKind.RESULT.value:
        next_rung(tx, alert, ladder, ids, now, why=f"route {row['route']} failed for good")


def park_removed(tx: Connection, now: datetime, ladder: Sequence[Rung] = (), ids: NewId = new_id) -> int:
    """Deliveries of routes that are no longer configured wait for nobody: a person must know, and may replay them."""
    parked = deliveries.park_disabled(tx, "the route was removed from the settings")
    for row in parked:
        audit.append(
            tx, now, "triage", "delivery.parked", "alert", row["alert_id"],
            {"route": row["route"], "control_id": row["control_id"], "detail": row["detail"]},
        )  # fmt: skip
        alert = alerts.get(tx, row["alert_id"])
        assert alert is not None
        escalate(tx, row, alert, ladder, ids, now)
    if parked:
        log.warning(
            "delivery.parked", deliveries=len(parked), detail="route removed", fix="see the messages page"
        )
    return len(parked)


def notice_of(tx: Connection, delivery: dict[str, Any], site: Site) -> AlertNotice:
    """Everything that a message about this delivery's alert may hold, from rows alone."""
    alert = alerts.get(tx, delivery["alert_id"])
    assert alert is not None
    study = studies.get_study(tx, alert["study_id"]) | (delivery["told_as"] or {})
    item = worklist.find_item(tx, alert["study_id"]) or {}
    order = orders.find_order(tx, study["study_instance_uid"], study["accession_number"]) or {}
    run = runs.get_run(tx, alert["run_id"])
    coded = FINDING_CODES[alert["finding_name"]]
    place = _place(tx, alert, site)
    return AlertNotice(
        control_id=delivery["control_id"],
        kind=MessageKind(delivery["kind"]),
        created_at=delivery["created_at"],
        site=site.name,
        patient_id=study["patient_code"],
        issuer_of_patient_id=study["issuer_of_patient_id"],
        patient_name=study["patient_name"],
        patient_birth_date=study["patient_birth_date"],
        patient_sex=study["patient_sex"],
        accession_number=study["accession_number"],
        study_instance_uid=study["study_instance_uid"],
        study_description=study["study_description"],
        modality=item.get("modality", ""),
        acquired_at=study["acquired_at"],
        ordered_priority=item.get("ordered_priority", "ROUTINE"),
        placer_order_number=order.get("placer_order_number", ""),
        filler_order_number=order.get("filler_order_number", ""),
        patient_location=item.get("location", ""),
        referring_physician_name=study["referring_physician_name"],
        finding_name=alert["finding_name"],
        finding_display=coded.display,
        finding_code=coded.code,
        finding_scheme=coded.scheme,
        finding_radlex=coded.radlex,
        probability=alert["probability"],
        band=alert["band"],
        detected_at=run["finished_at"] or alert["raised_at"],
        detector_release="drill" if alert["drill"] else f"{run['detector']} {run['version']}",
        rung=delivery["rung"],
        of_another_patient=bool(delivery["told_as"]),
        alert_id=alert["id"],
        drill=alert["drill"],
        recipient=delivery["recipient"],
        finding_side=place.side if place else "",
        finding_zone=place.zone if place else "",
    )


def _place(tx: Connection, alert: dict[str, Any], site: Site) -> Location | None:
    """Where the alert's finding is, through the one gate: None in triage-only mode (standards 0.4)."""
    found = [
        f
        for f in results.findings_of_runs(tx, [alert["run_id"]])[alert["run_id"]]
        if f.name == alert["finding_name"]
    ]
    if not found:
        return None
    best = max(found, key=lambda f: f.probability)
    return shown(best, site.mode, may_see_inside=False).location


def deliver_next(
    database: Database,
    route: RouteSettings,
    channel: Channel,
    site: Site,
    clock: Callable[[], datetime],
    jitter: Callable[[], float] = random.random,
    *,
    operators: Sequence[str] = (),
) -> bool:
    """Send one due delivery of a route; False when nothing was due. No transaction is open while the peer thinks."""
    with database.read() as tx:
        if deliveries.due(tx, route.name, clock()) is None:
            return False
    row = _prepared(database, route, site, clock)
    if row is None:
        return False
    if row["payload"] is None:
        answer = Answer(Outcome.RETRY, "the message cannot be built; see the log")
    else:
        answer = channel.send(row["payload"], row["control_id"])
    with database.write() as tx:
        state = record(tx, row, answer, jitter(), clock(), operators, ladder=site.ladder)
    log.info(
        "delivery.attempted",
        route=route.name,
        delivery_id=row["id"],
        alert_id=row["alert_id"],
        control_id=row["control_id"],
        state=state.value,
        detail=answer.detail,
    )
    return True


def _prepared(
    database: Database, route: RouteSettings, site: Site, clock: Callable[[], datetime]
) -> dict[str, Any] | None:
    """The next delivery with its bytes; without them when they cannot be built, so that it waits its turn again
    and the alerts behind it go out."""
    try:
        with database.write() as tx:
            return prepare(tx, route, site, clock())
    except TriageError:
        raise
    except Exception:
        log.error("delivery.not_built", route=route.name, exc_info=True)
    with database.read() as tx:
        return deliveries.due(tx, route.name, clock())


def tell_operator(
    database: Database, route: RouteSettings, channel: Channel, clock: Callable[[], datetime]
) -> bool:
    """Send one due operator notice of a route; False when nothing was due. Sent again until the peer answers."""
    with database.read() as tx:
        row = constancy.due_notice(tx, route.name, clock())
    if row is None:
        return False
    answer = channel.send(build_operator_notice(route, row), row["control_id"])
    sent = answer.outcome is Outcome.DELIVERED
    with database.write() as tx:
        constancy.record_notice(tx, row["id"], sent, clock(), clock() + retry_after(row["attempts"] + 1, 0.0))
    log.warning("operator.told" if sent else "operator.not_told", route=route.name, kind=row["kind"])
    return True


class RouteThread(DutyThread):
    """Delivers one route until told to stop; its channel is its own."""

    def __init__(
        self,
        database: Database,
        route: RouteSettings,
        channel: Channel,
        site: Site,
        clock: Callable[[], datetime],
        may_send: Callable[[], bool],
        operators: Sequence[str] = (),
    ) -> None:
        super().__init__(
            f"route-{route.name}", self._deliver, may_send, POLL_SECONDS, rest_seconds=REST_SECONDS
        )
        self._operators = tuple(operators)
        self._database, self._route, self._channel, self._site = database, route, channel, site
        self._clock = clock

    def run(self) -> None:
        super().run()
        self._channel.close()

    def _deliver(self) -> bool:
        if deliver_next(
            self._database, self._route, self._channel, self._site, self._clock, operators=self._operators
        ):
            return True
        return self._route.operator and tell_operator(self._database, self._route, self._channel, self._clock)

"""`/health`, `/ready`, `/metrics` (no patient data), `/api/v1/audit`: for probes, Prometheus and auditors."""

from __future__ import annotations

from typing import Any

from flask import Response, jsonify
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector
from sqlalchemy import text

from triage.domain.errors import Unavailable
from triage.domain.finding import PriorityClass
from triage.store import audit, reading
from triage.web.context import PUBLIC, Call, Route
from triage.web.models.system import AuditAnswer, AuditQuery, Health, Ready
from triage.workflow import health


def get_health(call: Call) -> Response:
    """200 when triage as a whole works, else 503; names the part that does not."""
    try:
        with call.web.database.read() as tx:
            checks = health.checks(tx, call.web.settings, call.now, call.web.database.read_only_since)
    except Unavailable as error:
        checks = [{"name": "database", "ok": False, "detail": str(error)}]
    ok = all(c["ok"] for c in checks)
    said = [{"name": c["name"], "ok": bool(c["ok"]), "detail": c["detail"]} for c in checks]
    response = jsonify({"status": "ok" if ok else "degraded", "checks": said})
    response.status_code = 200 if ok else 503
    return response


def get_ready(call: Call) -> Response:
    """200 when this process takes traffic: it reaches its database and is not shutting down."""
    with call.web.database.read() as tx:
        tx.execute(text("SELECT 1"))
    if call.web.feed.stopped:
        raise Unavailable("this process is shutting down")
    return jsonify({"status": "ready"})


def get_metrics(call: Call) -> Response:
    """Prometheus text, counted from rows; no patient data."""
    registry = CollectorRegistry()
    registry.register(_Figures(call))
    return Response(generate_latest(registry), content_type=CONTENT_TYPE_PLAIN_0_0_4)


def get_audit(call: Call) -> dict[str, Any]:
    """The audit trail in order of number."""
    query: AuditQuery = call.query
    events = audit.events(
        call.tx,
        object_kind=query.object_kind,
        object_id=query.object_id,
        after=query.after,
        limit=query.limit,
    )
    more = len(events) == query.limit
    return {"events": events, "next": events[-1]["number"] if more else None}


class _Figures(Collector):
    def __init__(self, call: Call) -> None:
        self.figures = reading.figures(call.tx)
        self.checks = health.checks(call.tx, call.web.settings, call.now, call.web.database.read_only_since)
        self.now = call.now
        self.listeners = call.web.feed.listeners

    def collect(self) -> list[GaugeMetricFamily]:
        f = self.figures
        return [
            _gauge("triage_studies", "Studies held, constancy phantoms left out", (), {(): f["studies"]}),
            _gauge("triage_runs", "Runs by detector and state", ("detector", "state"), f["runs"]),
            _gauge("triage_queue_length", "Runs that wait for a worker", ("queue",), _single(f["queue"])),
            _gauge("triage_alerts", "Alerts by state", ("state",), _single(f["alerts"])),
            _gauge("triage_deliveries", "Deliveries by route and state", ("route", "state"), f["deliveries"]),
            _gauge(
                "triage_worklist_items", "Worklist items by state and class", ("state", "priority_class"),
                {(s, PriorityClass(c).word): n for (s, c), n in f["worklist"].items()},
            ),
            _gauge(
                "triage_oldest_waiting_seconds", "Age of the study that has waited longest to be read", (),
                {(): self._age(f["oldest_waiting_at"])},
            ),
            _gauge(
                "triage_oldest_run_seconds", "Age of the oldest run that waits for a worker", (),
                {(): self._age(f["oldest_requested_at"])},
            ),
            _gauge("triage_event_listeners", "Open event streams of this process", (), {(): self.listeners}),
            _gauge(
                "triage_check_ok", "1 when a check of /health passes", ("name",),
                {(c["name"],): int(c["ok"]) for c in self.checks},
            ),
        ]  # fmt: skip

    def _age(self, since: Any) -> float:
        return 0.0 if since is None else max(0.0, (self.now - since).total_seconds())


def _single(counts: dict[str, int]) -> dict[tuple[str, ...], float]:
    return {(k,): float(n) for k, n in counts.items()}


def _gauge(name: str, text_: str, labels: tuple[str, ...], values: dict[Any, Any]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text_, labels=labels)
    for key, value in sorted(values.items()):
        family.add_metric(list(key), float(value))
    return family


ROUTES = (
    Route(path="/health", view=get_health, scopes=PUBLIC, answer=Health, needs_tx=False),
    Route(path="/ready", view=get_ready, scopes=PUBLIC, answer=Ready, needs_tx=False),
    Route(path="/metrics", view=get_metrics, scopes=("metrics:read",)),
    Route(
        path="/api/v1/audit", view=get_audit, scopes=("audit:read",), query=AuditQuery,
        answer=AuditAnswer,
    ),
)  # fmt: skip

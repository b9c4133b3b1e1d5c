"""QA: the dashboard of seventeen charts, the report of a period with its signature, and the blind second read.

Pages and API give the same numbers. Studies behind a point are shown inside the department alone.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from flask import Response, make_response, redirect, request
from pydantic import Field

from triage.domain.errors import Refused
from triage.domain.finding import FINDING_CODES
from triage.qa import page as qa_page
from triage.qa import report as qa_report
from triage.qa.boards import board
from triage.qa.boards.chart import Chart
from triage.qa.report import harmless
from triage.store import double_reads, quality
from triage.web import language, qa_words
from triage.web.context import Call, Route, stamp
from triage.web.models.base import Request
from triage.web.text_pages import render
from triage.workflow import quality as acts
from triage.workflow.read.row import NotFound

_DAYS, _DAYS_MAX = 7, 400
_DASHBOARD_DAYS = 30
SECOND_READ = tuple(n for n in FINDING_CODES if n not in ("abnormal", "infiltration", "pneumonia"))


class Period(Request):
    """Dates in UTC; `to` is not part of the period."""

    start: Annotated[str, Field(pattern=r"^(\d{4}-\d\d-\d\d)?$", alias="from")] = ""
    end: Annotated[str, Field(pattern=r"^(\d{4}-\d\d-\d\d)?$", alias="to")] = ""
    format: Annotated[str, Field(pattern=r"^(json|csv|pdf)$")] = "json"
    language: Literal["en", "de"] = "en"  # of CSV and PDF; JSON is for programs


class ChartQuery(Period):
    """finding: of the what-if (chart 17)."""

    finding: Annotated[str, Field(max_length=40)] = board.DEFAULT_FINDING


class SignBody(Request):
    start: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\d$", alias="from")]
    end: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\d$", alias="to")]
    statement: Annotated[str, Field(max_length=400, description="what the person says by signing")] = ""


# --- the dashboard -------------------------------------------------------------------------------------------


def dashboard(call: Call) -> str:
    """Every chart of a period, alarms first in words, each with its table and the way to its studies."""
    start, end = _period(call.query, call.now, _DASHBOARD_DAYS)
    charts = board.build_all(board.facts_of(call.tx, start, end, call.now), call.query.finding)
    return render(
        call, "qa_board.html", "qa", charts=[_shown(c) for c in charts], findings=list(FINDING_CODES),
        finding=call.query.finding, start=f"{start:%Y-%m-%d}", end=f"{end:%Y-%m-%d}",
        waiting=double_reads.count_waiting(call.tx),
    )  # fmt: skip


def chart_page(call: Call, number: int) -> str:
    """One chart with the studies behind each row."""
    start, end = _period(call.query, call.now, _DASHBOARD_DAYS)
    facts = board.facts_of(call.tx, start, end, call.now)
    chart = board.build(facts, number, call.query.finding)
    held = {s.study_id: s.study_instance_uid for s in facts.studies}
    behind = {
        row: [held[i] for i in dict.fromkeys(ids) if i in held][:50] for row, ids in chart.studies.items()
    }
    return render(
        call, "qa_chart.html", "qa", chart=_shown(chart), behind=behind, start=f"{start:%Y-%m-%d}",
        end=f"{end:%Y-%m-%d}", finding=call.query.finding,
    )  # fmt: skip


def _shown(chart: Chart) -> dict[str, Any]:
    return qa_words.chart(chart.as_json(), chart.svg, chart.units) | {"linked": sorted(chart.studies)}


def get_charts(call: Call) -> Any:
    """All seventeen charts of a period as JSON, without the studies behind them."""
    start, end = _period(call.query, call.now, _DASHBOARD_DAYS)
    facts = board.facts_of(call.tx, start, end, call.now)
    return board.as_json(board.build_all(facts, call.query.finding), facts)


def get_chart(call: Call, number: int) -> Any:
    """One chart as JSON, or its table as CSV with `format=csv`."""
    start, end = _period(call.query, call.now, _DASHBOARD_DAYS)
    chart = board.build(board.facts_of(call.tx, start, end, call.now), number, call.query.finding)
    if call.query.format == "csv":
        language.speak(call.query.language)
        columns = [qa_words.words(name) for name in chart.columns]
        return _as_csv(f"qa-{chart.key}-{start:%Y%m%d}-{end:%Y%m%d}", columns, chart.rows)
    return chart.as_json()


def _as_csv(name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Response:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(columns)
    writer.writerows([harmless(cell) for cell in row] for row in rows)
    return _file(out.getvalue(), f"{name}.csv", "text/csv")


def _file(content: str | bytes, name: str, kind: str) -> Response:
    response = Response(content, mimetype=kind)
    response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


# --- the report ----------------------------------------------------------------------------------------------


def report_page(call: Call) -> str:
    """The QA report of a period; for inside the department."""
    start, end = _period(call.query, call.now, _DAYS)
    report = qa_report.build(call.tx, start, end, call.web.settings, call.now, deidentified=False)
    return render(
        call,
        "qa.html",
        "qa",
        report=qa_words.page(qa_page.fragment(report)),
        start=f"{start:%Y-%m-%d}",
        end=f"{end:%Y-%m-%d}",
        closed=report["head"]["closed"],
        signed=quality.signed(call.tx),
    )  # fmt: skip - the fragment escapes what it holds


def get_report(call: Call) -> Any:
    """The QA report of a period as JSON, or CSV or PDF with `format`; de-identified."""
    language.speak(call.query.language)
    start, end = _period(call.query, call.now, _DAYS)
    report = qa_report.build(call.tx, start, end, call.web.settings, call.now)
    if call.query.format == "csv":
        return _file(
            qa_report.to_csv(report, qa_words.words),
            f"qa-{start:%Y%m%d}-{end:%Y%m%d}.csv",
            "text/csv",
        )
    if call.query.format == "pdf":
        from triage.qa.pdf import to_pdf  # its typesetter loads slowly: only who prints waits for it

        return _file(to_pdf(report, qa_words.page), f"qa-{start:%Y%m%d}-{end:%Y%m%d}.pdf", "application/pdf")
    return report


def post_signature(call: Call) -> Any:
    """Sign the de-identified report of a closed period: it is kept as it is, under the name of who signed."""
    body: SignBody = call.body
    return _signed(call, body.start, body.end, body.statement)


def sign_form(call: Call) -> Response:
    _signed(call, request.form.get("from", ""), request.form.get("to", ""), request.form.get("statement", ""))
    return make_response(redirect("/qa/report"))


def _signed(call: Call, start: str, end: str, statement: str) -> dict[str, Any]:
    if not call.who.is_person:
        raise Refused("a report is signed by a person, not by a token")
    first, last = _day(start), _day(end)
    if first is None or last is None:
        raise Refused("say from and to as dates like 2026-11-01")
    report = qa_report.build(call.tx, first, last, call.web.settings, call.now)
    return acts.sign_report(call.tx, report, call.who.name, statement, call.now)


def list_signed(call: Call) -> Any:
    """Signed reports, newest first."""
    rows = [
        r | {k: stamp(r[k]) for k in ("period_start", "period_end", "signed_at")}
        for r in quality.signed(call.tx)
    ]
    return {"reports": rows}


def get_signed(call: Call, report_id: int) -> Any:
    """One report as it was signed."""
    row = quality.get_signed(call.tx, report_id)
    if row is None:
        raise NotFound("no report has this number")
    return {
        "id": row["id"], "digest": row["digest"], "signed_by": row["signed_by"], "signed_at": stamp(row["signed_at"]),
        "statement": row["statement"], "report": json.loads(row["content"]),
    }  # fmt: skip


# --- the blind second read -----------------------------------------------------------------------------------


def double_read_page(call: Call) -> str:
    """Studies to read a second time, without a word of what AI or the first reader said."""
    return render(
        call, "double_reads.html", "double_reads", waiting=double_reads.waiting(call.tx),
        findings=[(n, FINDING_CODES[n].display) for n in SECOND_READ],
    )  # fmt: skip


def give_double_read(call: Call, uid: str) -> Response:
    """A form of that page."""
    seen = [n for n in request.form.getlist("finding") if n]
    acts.record_double_read(call.tx, uid, call.who.name, seen, request.form.get("comment", ""), call.now)
    return make_response(redirect("/double-reads"))


def _period(query: Period, now: datetime, days: int) -> tuple[datetime, datetime]:
    tomorrow = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    end = _day(query.end) or tomorrow
    start = _day(query.start) or end - timedelta(days=days)
    if not timedelta(0) < end - start <= timedelta(days=_DAYS_MAX):
        raise Refused(f"a period has at least one day and at most {_DAYS_MAX}")
    return start, end


def _day(text: str) -> datetime | None:
    if not text:
        return None
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC)
    except ValueError as error:
        raise Refused(f"{text} is not a day of the calendar") from error


QA = ("qa:read",)
ROUTES = (
    Route(path="/qa", view=dashboard, scopes=QA, query=ChartQuery, html=True),
    Route(path="/qa/charts/<id:number>", view=chart_page, scopes=QA, query=ChartQuery, html=True),
    Route(path="/qa/report", view=report_page, scopes=QA, query=Period, html=True),
    Route(path="/qa/report/sign", view=sign_form, method="POST", scopes=("qa:act",), html=True),
    Route(path="/double-reads", view=double_read_page, scopes=("worklist:act",), html=True),
    Route(
        path="/double-reads/<uid:uid>", view=give_double_read, method="POST", scopes=("worklist:act",), html=True
    ),
    Route(path="/api/v1/reports/qa", view=get_report, scopes=QA, query=Period),
    Route(path="/api/v1/reports/qa/charts", view=get_charts, scopes=QA, query=ChartQuery),
    Route(path="/api/v1/reports/qa/charts/<id:number>", view=get_chart, scopes=QA, query=ChartQuery),
    Route(path="/api/v1/reports/qa/sign", view=post_signature, method="POST", scopes=("qa:act",), body=SignBody),
    Route(path="/api/v1/reports/qa/signed", view=list_signed, scopes=QA),
    Route(path="/api/v1/reports/qa/signed/<id:report_id>", view=get_signed, scopes=QA),
)  # fmt: skip

"""The list as CSV or as a table to print (ux 5.11). Both leave the screen with patient data, so both are audited."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from flask import Response, make_response, render_template

from triage.store import audit
from triage.web import columns, present, wording
from triage.web.context import Call
from triage.web.times import iso, local

ROWS_MAX = {"csv": 50_000, "print": 500}
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
HEADERS = (
    "position", "priority", "reasons", "due", "acquired", "arrived", "patient", "sex", "age", "id", "issuer",
    "accession", "modality", "body_part", "view", "study", "from", "site", "ordered", "ai", "images_received",
    "images_expected", "reader", "claimed_until", "alert",
    "sender", "received", "referrer", "report", "label",
)  # fmt: skip


def answer(
    call: Call,
    kind: str,
    items: Sequence[Mapping[str, Any]],
    filters: Mapping[str, Any],
    names: Mapping[str, str],
) -> Response:
    """The file or page; its row count and filter go to the audit, a search text does not."""
    audit.append(
        call.tx, call.now, call.who.name, f"worklist.{'exported' if kind == 'csv' else 'printed'}", "worklist", "list",
        {"rows": len(items), "filter": {k: v for k, v in filters.items() if k not in ("search", "cursor")}},
    )  # fmt: skip
    if kind == "csv":
        response = Response(to_csv(items), mimetype="text/csv")
        name = f"worklist-{local(call.now):%Y%m%d-%H%M%S}.csv"
        response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
        return response
    rows = [present.row(i, "", names, call.now) for i in items]
    page = render_template(
        "print.html", rows=rows, who=call.who, site=call.web.settings.site, now=call.now, filters=filters,
        columns=columns.shown(call.who.preferences), cells=present.cells_of,
    )  # fmt: skip
    return make_response(page)


def to_csv(items: Sequence[Mapping[str, Any]]) -> bytes:
    """UTF-8 with BOM, times in ISO 8601 with offset; no cell can be taken for a formula."""
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(HEADERS)
    for item in items:
        writer.writerow([_safe(v) for v in _values(item)])
    return out.getvalue().encode("utf-8-sig")


def _values(i: Mapping[str, Any]) -> list[Any]:
    ai, alert, patient = present.ai(i), i["alert"], i["patient"]
    return [
        i["rank"], i["priority_class"], "; ".join(wording.reason_words(r) for r in i["reasons"]), iso(i["due_at"]),
        iso(i["acquired_at"]), iso(i["arrived_at"]), wording.person(patient["name"]), patient["sex"],
        patient["age_years"], patient["id"], patient["issuer"], i["accession_number"], i["modality"], i["body_part"],
        i["view"], i["description"], i["location"], i["site"], i["ordered_priority"],
        f"{ai['w']} {ai.get('t', '')}".strip(), i["images"]["received"], i["images"]["expected"], i["claimed_by"],
        iso(i["claimed_until"]), "" if alert is None else f"{alert['state']} {alert['step']}",
        i["sender"], iso(i["received_at"]), wording.person(i["referrer"]), i["report_state"], i["label"],
    ]  # fmt: skip


def _safe(value: Any) -> str:
    text = "" if value is None else str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text

"""The QA report as one page: no script, nothing loaded from elsewhere, prints as it looks.

Each chart stands beside the table of its numbers, and each part says how it was counted.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from triage.domain.suitability import SENTENCES
from triage.qa import charts

_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.45 system-ui, sans-serif; max-width: 60rem; margin: 1.5rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: 0; } h2 { font-size: 1.15rem; margin: 2rem 0 .4rem; } h3 { font-size: 1rem; }
table { border-collapse: collapse; margin: .5rem 0 1rem; width: 100%; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding: .2rem 0; }
th, td { text-align: right; padding: .2rem .6rem; border-bottom: 1px solid #8886; }
th:first-child, td:first-child { text-align: left; overflow-wrap: anywhere; min-width: 8rem; }
.how { color: #666; font-size: .87rem; margin: .2rem 0; } .warn { border: 2px solid currentColor; padding: .5rem .8rem; }
svg { width: 100%; height: auto; }
.wide { overflow-x: auto; }
@media (prefers-color-scheme: dark) { .how { color: #aaa; } }
@media print {
  body { max-width: none; margin: 0; font-size: 10pt; } h2 { break-after: avoid; } svg, table { break-inside: avoid; }
}
"""
_TIMES = ("n", "open", "median", "75 %", "90 %", "95 %", "longest")
_SHARE = ("share", "95 % interval", "count", "of")


def fragment(report: dict[str, Any]) -> str:
    """The parts of the page without its frame, for `/qa`; every value is escaped."""
    body = [
        _top(report["head"]),
        _coverage(report),
        _flags(report),
        _times(report),
        _alerts(report["alerts"]),
        _constancy(report["constancy"]),
        _subgroups(report["subgroups"]),
        _changes(report["changes"]),
        _how(report["definitions"]),
    ]
    return "".join(body)


def to_html(report: dict[str, Any]) -> str:
    """One self-contained page of the report that `qa.report.build` made."""
    head = report["head"]
    title = f"{head['title']} · {head['site']}"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body><main>{fragment(report)}</main></body></html>\n"
    )


def _top(head: dict[str, Any]) -> str:
    last = head["audit_head"]
    rows = [
        (
            "period",
            f"{head['from'][:16]} to {head['to'][:16]} UTC{'' if head['closed'] else ' (still running)'}",
        ),
        ("made", f"{head['created_at'][:16]} UTC by triage {head['software']}"),
        ("mode", head["mode"]),
        ("data as of audit event", f"{last['number']} ({last['hash'][:16]}…)" if last else "none"),
        ("contents", "de-identified" if head["deidentified"] else "for inside the department only"),
    ]
    rows += [
        (
            f"release ({r['state']})",
            f"{r['detector']} {r['version']} ({r['digest'][:12]}) since {r['since'][:10]}",
        )
        for r in head["releases"]
    ]
    rows += [(f"policy {p['version']}", f"since {p['since'][:16]} UTC") for p in head["policies"]]
    thresholds = table(
        "Thresholds that findings of the period were judged by",
        ("finding", "detector", "release", "threshold"),
        [(t["finding"], t["detector"], t["version"], f"{t['threshold']:.4g}") for t in head["thresholds"]],
    )
    return (
        f"<h1>{escape(head['title'])}: {escape(head['site'])}</h1>"
        f'<p class="warn">{escape(head["not_for"])}</p>{table("", (), rows)}{thresholds}'
    )


def _coverage(report: dict[str, Any]) -> str:
    c = report["coverage"]
    shares = [(word, c[key]) for key, word in (("analysed", "analysed"), ("not_analysed", "not analysed"),
              ("failed", "failed"), ("pending", "still waiting for a run"))]  # fmt: skip
    reasons = [
        (f"{r['detector']}: {SENTENCES_BY_CODE.get(r['reason'], r['reason'])}", r)
        for r in (*report["not_analysed"], *report["failed"])
    ]
    return (
        f"<h2>What arrived and what was analysed</h2><p>{plural(c['studies'], 'study', 'studies')} arrived; "
        f"a detector wanted {c['wanted_by_a_detector']} of them.</p>"
        + shares_table("Of the studies that a detector wanted", shares)
        + (_interval_chart("Why runs were not analysed or failed, share of runs", reasons) if reasons else "")
        + shares_table("Why runs were not analysed or failed", reasons)
        + table(
            "Studies by class, order and modality",
            ("", "studies"),
            [*c["by_class"].items(), *c["by_order"].items(), *c["by_modality"].items()],
        )
        + shares_table("Raised", [("by AI", c["raised_by_ai"]), ("by a person", c["raised_by_hand"])])
    )


SENTENCES_BY_CODE = {code.value: sentence for code, sentence in SENTENCES.items()}


def _flags(report: dict[str, Any]) -> str:
    flags, said = report["flags"], report["agreement"]
    by_finding = [(f"{r['display']} ({r['detector']})", r) for r in flags["by_finding"]]
    flagged = [(name, r["flagged"]) for name, r in by_finding]
    right = [(name, r["ppv"]) for name, r in by_finding]
    charts_ = (
        _interval_chart("Share of analysed studies that were flagged", flagged)
        + _interval_chart("Share of judged flags that readers agreed with (PPV)", right)
        if by_finding
        else ""
    )
    return (
        "<h2>Flags</h2>"
        + shares_table("Analysed studies with a flag", [("any finding", flags["studies"])])
        + charts_
        + shares_table("Flagged, per finding", flagged)
        + shares_table("Readers agreed (PPV), per finding", right)
        + shares_table("Studies by the class that their highest flag lifts to",
                       [(r["class"], r["studies"]) for r in flags["by_class"]])
        + shares_table("Readers agreed (PPV), by class", [(r["class"], r["ppv"]) for r in flags["by_class"]])
        + shares_table("Words of readers", [("agree", said["agree"]), ("disagree", said["disagree"])])
        + table("Why readers disagreed", ("reason", "times"), said["disagree_reasons"].items())
        + table("Said to be missed", ("finding", "studies"), said["missed_by_finding"].items())
        + table(
            "Discordant studies",
            ("finding", "what", "count", "studies"),
            [
                (r["finding"], r["what"], r["count"], " ".join(r.get("study_uids", ["not shown"])))
                for r in report["discordant"]
            ],
        )
    )  # fmt: skip


def _times(report: dict[str, Any]) -> str:
    t = report["times"]
    parts = [
        "<h2>Time</h2>",
        times_table("To the AI's answer", [("arrival to flag", t["arrival_to_flag"]),
                    ("arrival to result, flagged or not", t["arrival_to_result"])]),
    ]  # fmt: skip
    for key, word in (
        ("arrival_to_opening", "Arrival to opening"),
        ("arrival_to_report", "Arrival to report"),
    ):
        part = t[key]
        tail = part["all"]["p95"]["value"]  # the last few would press all others into the corner
        cut = 1.5 * tail if tail else math.inf
        curves = [
            charts.Curve(
                f"{name} (n = {part[name]['n']})",
                part["curves"][name],
                min(part[name]["longest"] or 0.0, cut),
            )
            for name in ("flagged", "unflagged")
        ]
        groups = [(name, part[name]) for name in ("all", "flagged", "unflagged")]
        groups += [(f"ordered {name}", row) for name, row in part["by_order"].items()]
        groups += [(f"class {name}", row) for name, row in part["by_class"].items()]
        compared = part["flagged_against_unflagged"]
        test = compared["note"] or f"log-rank p = {compared['log_rank_p']}"
        parts += [
            f"<h3>{word}</h3>",
            charts.steps(f"Share still waiting, {word.lower()}", curves) if part["all"]["n"] else "",
            times_table(word, groups),
            f'<p class="how">Flagged against unflagged: {escape(test)}.</p>',
        ]
    parts.append(
        shares_table("Waited beyond the longest wait of their class without AI",
                     [(r["class"], r["beyond"]) for r in report["beyond_bound"]])
    )  # fmt: skip
    parts.append(
        table(
            "The longest waits to opening",
            ("study", "order", "wait", ""),
            [
                (r.get("study_uid", "not shown"), r["ordered_priority"], duration(r["seconds"]),
                 "still unopened" if r["open"] else "")
                for r in report["longest_waits"]
            ],
        )
    )  # fmt: skip
    return "".join(parts)


def _alerts(a: dict[str, Any]) -> str:
    rate = a["per_day"]
    routes = [(route, state, n) for route, states in a["deliveries"].items() for state, n in states.items()]
    return (
        f"<h2>Alerts</h2><p>{plural(a['raised'], 'alert', 'alerts')}, {rate['value']:.2f} a day "
        f"({rate['low']:.2f} to {rate['high']:.2f}).</p>"
        + table("By state", ("state", "alerts"), a["by_state"].items())
        + table("By step of the ladder reached", ("step", "alerts"), a["by_step_reached"].items())
        + shares_table("Beyond the first step", [("escalated", a["escalated"]),
                       ("never acknowledged", a["never_acknowledged"])])
        + times_table("Raised to acknowledged, or closed by a report", [("alerts", a["acknowledgement"])])
        + table("Deliveries", ("route", "state", "count"), routes)
    )  # fmt: skip


def _constancy(c: dict[str, Any]) -> str:
    return (
        f"<h2>Constancy checks</h2><p>{plural(c['checks'], 'check', 'checks')}, {c['on_their_way']} on their way.</p>"
        + shares_table("Passed", [("all", c["passed"]), *c["by_detector"].items()])
        + times_table("Seconds to the flag of passed checks", [("checks", c["seconds"])])
        + table(
            "Failed", ("at", "detector", "what"),
            [(f["at"][:19], f["detector"], f["detail"]) for f in c["failures"]],
        )
    )  # fmt: skip


def _subgroups(groups: dict[str, list[dict[str, Any]]]) -> str:
    parts = ["<h2>Is it the same for everyone?</h2>"]
    for name, rows in groups.items():
        cells = [
            (r["group"], r["note"], "", "", "") if r["n"] is None
            else (r["group"], r["n"], *(_short(r[key]) for key in ("analysed", "flagged", "ppv")))
            for r in rows
        ]  # fmt: skip
        parts.append(table(name.replace("_", " "), ("", "n", "analysed", "flagged", "PPV"), cells))
    return "".join(parts)


def _short(figure: dict[str, Any]) -> str:
    if figure["value"] is None:
        return str(figure.get("note") or "none")
    return (
        f"{percent(figure['value'])} ({percent(figure['low'])} to {percent(figure['high'])}), {figure['n']}"
    )


def _changes(changes: list[dict[str, str]]) -> str:
    return table(
        "Changes in the period",
        ("at (UTC)", "what", "object"),
        [(c["at"][:19], c["act"], c["object"]) for c in changes],
    )


def _how(definitions: dict[str, str]) -> str:
    lines = "".join(f'<p class="how"><b>{escape(k)}</b>: {escape(v)}.</p>' for k, v in definitions.items())
    return f"<h2>How it was counted</h2>{lines}"


# --- small parts ---------------------------------------------------------------------------------------------


def table(caption: str, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table of escaped cells; nothing at all when there are no rows."""
    lines = ["".join(f"<td>{escape(str(cell))}</td>" for cell in row) for row in rows]
    if not lines:
        return f'<p class="how">{escape(caption)}: none.</p>' if caption else ""
    top = (
        f"<thead><tr>{''.join(f'<th scope=col>{escape(h)}</th>' for h in header)}</tr></thead>"
        if header
        else ""
    )
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    # Reachable by keys where it scrolls sideways (WCAG 2.1.1).
    reach = f'class="wide" tabindex="0" role="region" aria-label="{escape(caption or "table")}"'
    return f"<div {reach}><table>{title}{top}<tbody><tr>{'</tr><tr>'.join(lines)}</tr></tbody></table></div>"


def shares_table(caption: str, rows: Iterable[tuple[str, dict[str, Any]]]) -> str:
    return table(caption, ("", *_SHARE), [(name, *_share_cells(f)) for name, f in rows])


def _share_cells(f: dict[str, Any]) -> tuple[str, ...]:
    if f["value"] is None:
        return ("", "", str(f["count"]), str(f["n"]))
    return (percent(f["value"]), f"{percent(f['low'])} to {percent(f['high'])}", str(f["count"]), str(f["n"]))


def times_table(caption: str, rows: Iterable[tuple[str, dict[str, Any]]]) -> str:
    cells = []
    for name, t in rows:
        longest = (
            ""
            if t["longest"] is None
            else duration(t["longest"]) + (" (open)" if t["longest_is_open"] else "")
        )
        quantiles = [_quantile(t[q]) for q in ("median", "p75", "p90", "p95")]
        cells.append((name, t["n"], t["open"], *quantiles, longest))
    return table(caption, ("", *_TIMES), cells)


def _quantile(q: dict[str, float | None]) -> str:
    """The time with its interval; an interval that has no upper end (too few done) is left open."""
    if q["value"] is None:
        return ""
    low = "?" if q["low"] is None else duration(q["low"])
    high = "?" if q["high"] is None else duration(q["high"])
    return f"{duration(q['value'])} ({low} to {high})"


def _interval_chart(title: str, rows: Sequence[tuple[str, dict[str, Any]]]) -> str:
    bars = [
        charts.Bar(name, f["value"], f["low"], f["high"],
                   f"{percent(f['value'])} ({f['count']} of {f['n']})" if f["value"] is not None else "none judged")
        for name, f in rows
    ]  # fmt: skip
    widest = max((b.high for b in bars if b.value is not None), default=1.0)
    most = next(m for m in (0.05, 0.1, 0.25, 0.5, 1.0) if m >= min(widest, 1.0))
    return f"<p><b>{escape(title)}</b></p>{charts.intervals(title, bars, most=most)}"


def plural(n: int, one: str, many: str) -> str:
    return f"{n} {one if n == 1 else many}"


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def duration(seconds: float) -> str:
    """3.2 s, 4 min 05 s, 2 h 10 min, 3 d 4 h: what a person reads at once."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 3600:
        return f"{whole // 60} min"
    if whole < 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600} h"

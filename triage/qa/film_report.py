"""The files of a film evaluation: figures.csv, groups.csv, scores.csv, evaluation.json and one page with its plots.

The plots are SVG made here: a page that a hospital keeps must not need a library or the network to be read.
"""

from __future__ import annotations

import csv
import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from triage.domain.statistics import reliability

Curves = Mapping[str, tuple[NDArray[np.bool_], NDArray[np.float64]]]
_SIZE, _RIM = 180, 24  # of one plot, px
_COLUMNS = (
    "n", "positives", "auc", "auc_low", "auc_high", "average_precision", "threshold", "sensitivity",
    "sensitivity_low", "sensitivity_high", "specificity", "specificity_low", "specificity_high", "ppv",
    "ppv_low", "ppv_high", "flagged",
)  # fmt: skip
_GROUP_COLUMNS = ("n", "positives", "auc", "auc_low", "auc_high")
_STYLE = (
    "body{font:14px system-ui,sans-serif;margin:2rem;max-width:1200px;color:#1c2126;background:#fff}"
    "table{border-collapse:collapse}td,th{padding:.25rem .6rem;text-align:right;border-bottom:1px solid #d5dadf}"
    "td:first-child,th:first-child{text-align:left}figure{display:inline-block;margin:.5rem}"
    "figcaption{font-size:12px}svg{background:#f6f8fa}"
)


def write_report(
    out: Path, document: Mapping[str, Any], scores: Sequence[Mapping[str, Any]], curves: Curves
) -> None:
    """All files of one evaluation into the folder `out`, made when absent."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "evaluation.json").write_text(json.dumps(document, indent=1) + "\n")
    with (out / "figures.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["finding", *_COLUMNS])
        for name, row in document["findings"].items():
            writer.writerow([name, *(row.get(c) for c in _COLUMNS)])
    with (out / "groups.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["finding", "group", "value", *_GROUP_COLUMNS])
        writer.writerows(_group_rows(document["findings"]))
    if scores:
        with (out / "scores.csv").open("w", newline="") as stream:
            rows = csv.DictWriter(stream, list(scores[0]))
            rows.writeheader()
            rows.writerows(scores)
    (out / "report.html").write_text(_page(document, curves))


def _page(document: Mapping[str, Any], curves: Curves) -> str:
    title = f"Evaluation of {html.escape(document['release'])}"
    plots = "".join(_plots(name, *curve) for name, curve in curves.items())
    refused = "".join(
        f"<li>{html.escape(r['path'])}: {html.escape(r['reason'])}</li>" for r in document["refused"]
    )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
        f"<h1>{title}</h1><p>{document['cases']} cases, {len(document['refused'])} refused. Mean AUC "
        f"{document['mean_auc']}. Intervals are 95 %: DeLong on the logit scale, Wilson for proportions.</p>"
        f"{_table(document['findings'])}<h2>By view, sex, age and source</h2>{_groups(document['findings'])}"
        f"{_robustness(document.get('robustness', {}))}<h2>Plots</h2>{plots}"
        f"<h2>Refused</h2><ul>{refused or '<li>none</li>'}</ul></html>\n"
    )


def _table(findings: Mapping[str, Mapping[str, Any]]) -> str:
    head = "".join(
        f"<th>{w}</th>"
        for w in (
            "finding",
            "n",
            "positives",
            "AUC",
            "comparator",
            "sensitivity",
            "specificity",
            "PPV",
            "ECE",
        )
    )
    body = ""
    for name, row in findings.items():
        cells = [name, row["n"], row["positives"]]
        cells += [_interval(row, "auc"), _interval(row.get("comparator") or {}, "auc")]
        cells += [_interval(row, word) for word in ("sensitivity", "specificity", "ppv")]
        cells.append(row["calibration"]["ece"])
        body += _row(cells)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _row(cells: Sequence[Any]) -> str:
    return "<tr>" + "".join(f"<td>{html.escape(str(c))}</td>" for c in cells) + "</tr>"


def _group_rows(findings: Mapping[str, Mapping[str, Any]]) -> list[list[Any]]:
    return [
        [name, group, value, *(figures[c] for c in _GROUP_COLUMNS)]
        for name, row in findings.items()
        for group, values in row.get("groups", {}).items()
        for value, figures in values.items()
    ]


def _groups(findings: Mapping[str, Mapping[str, Any]]) -> str:
    """One line a finding, one column a group: its AUC, or its positives where they are too few for one."""
    columns = sorted({(r[1], r[2]) for r in _group_rows(findings)})
    head = "".join(f"<th>{html.escape(f'{group} {value}')}</th>" for group, value in columns)
    body = ""
    for name, row in findings.items():
        cells = [name]
        for group, value in columns:
            figures = row["groups"][group].get(value, {"auc": None, "positives": 0})
            few = f"{figures['positives']} positive"
            cells.append(few if figures["auc"] is None else _interval(figures, "auc"))
        body += _row(cells)
    return f"<table><thead><tr><th>finding</th>{head}</tr></thead><tbody>{body}</tbody></table>"


def _robustness(table: Mapping[str, Mapping[str, Any]]) -> str:
    if not table:
        return ""
    body = "".join(_row([name, r["mean_auc"], r["fall"], r["refused"]]) for name, r in table.items())
    head = "<th>the same films</th><th>mean AUC</th><th>fall</th><th>refused</th>"
    return f"<h2>Robustness</h2><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _interval(row: Mapping[str, Any], word: str) -> str:
    if row.get(word) is None:
        return "–"
    return f"{row[word]:.3f} ({row[f'{word}_low']:.2f}–{row[f'{word}_high']:.2f})"


def _plots(name: str, truth: NDArray[np.bool_], probability: NDArray[np.float64]) -> str:
    order = np.argsort(-probability, kind="stable")
    # Ties are one step: a corner inside them would promise an order that the detector does not give.
    last = np.flatnonzero(np.append(np.diff(probability[order]) != 0, True))
    hits = np.cumsum(truth[order])[last]
    flagged = last + 1
    recall = np.append(0, hits / truth.sum())
    false = np.append(0, (flagged - hits) / (~truth).sum())
    bins = reliability(truth, probability)
    dots = [(b.probability, b.observed.value, b.observed.low, b.observed.high) for b in bins]
    shown = html.escape(name)
    return (
        _figure(f"{shown}: ROC", _line(false, recall) + _diagonal())
        + _figure(f"{shown}: precision by recall", _line(recall[1:], hits / flagged))
        + _figure(f"{shown}: observed by probability", _diagonal() + _dots(dots))
    )


def _figure(caption: str, drawing: str) -> str:
    frame = f'<rect x="{_RIM}" y="{_RIM}" width="{_SIZE}" height="{_SIZE}" fill="none" stroke="#8a949e"/>'
    side = _SIZE + 2 * _RIM
    return (
        f'<figure><svg width="{side}" height="{side}" role="img" aria-label="{caption}">{frame}{drawing}</svg>'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _at(x: float, y: float) -> tuple[float, float]:
    return round(_RIM + x * _SIZE, 1), round(_RIM + (1 - y) * _SIZE, 1)


def _line(x: NDArray[np.float64], y: NDArray[np.float64]) -> str:
    points = " ".join(f"{a},{b}" for a, b in (_at(float(u), float(v)) for u, v in zip(x, y, strict=True)))
    return f'<polyline points="{points}" fill="none" stroke="#0b5cad" stroke-width="2"/>'


def _diagonal() -> str:
    (a, b), (c, d) = _at(0, 0), _at(1, 1)
    return f'<line x1="{a}" y1="{b}" x2="{c}" y2="{d}" stroke="#b3bbc3" stroke-dasharray="4"/>'


def _dots(bins: Sequence[tuple[float, float, float, float]]) -> str:
    drawn = ""
    for x, y, low, high in bins:
        (a, b), (_, top), (_, bottom) = _at(x, y), _at(x, high), _at(x, low)
        drawn += f'<line x1="{a}" y1="{bottom}" x2="{a}" y2="{top}" stroke="#0b5cad"/>'
        drawn += f'<circle cx="{a}" cy="{b}" r="3" fill="#0b5cad"/>'
    return drawn

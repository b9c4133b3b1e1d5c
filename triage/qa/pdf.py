"""The QA report as PDF: the same page, set in print. Made from the report's own HTML, so the two cannot differ.

Understands the closed set of elements that `qa.page` and `qa.charts` write, and nothing else.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from html import escape, unescape
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree as ET

from reportlab.graphics.shapes import Circle, Drawing, Line, Path, Rect, String
from reportlab.lib import colors
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import getSampleStyleSheet
from reportlab.lib.units import mm
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Flowable, Paragraph, SimpleDocTemplate, Spacer, Table, TableStyle

from triage.qa.charts import WIDTH
from triage.qa.page import fragment

_MARGIN = 18 * mm
_ACROSS = A4[0] - 2 * _MARGIN
_CELLS_MAX = 220  # characters of one cell: a row must fit on a page
_STYLES = getSampleStyleSheet()
_BLOCKS = {"h1": "Title", "h2": "Heading2", "h3": "Heading3", "p": "BodyText"}
_TABLE = TableStyle(
    [
        ("FONTSIZE", (0, 0), (-1, -1), 7.5), ("LEADING", (0, 0), (-1, -1), 9), ("TOPPADDING", (0, 0), (-1, -1), 1),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 1), ("LINEBELOW", (0, 0), (-1, -1), 0.25, colors.grey),
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
    ]
)  # fmt: skip


def to_pdf(report: dict[str, Any], say: Callable[[str], str] = str) -> bytes:
    """A4, page numbers and the period on every page; the bytes depend on the report and the language alone.

    say  the markup of the report (or a phrase in `>` and `<`) with its texts in another language
    """
    head = report["head"]
    reader = _Reader()
    reader.feed(say(fragment(report)))
    out = io.BytesIO()
    document = SimpleDocTemplate(
        out, pagesize=A4, leftMargin=_MARGIN, rightMargin=_MARGIN, topMargin=_MARGIN, bottomMargin=_MARGIN,
        title=f"{head['title']} · {head['site']}", author="triage", invariant=1,
    )  # fmt: skip
    warning = unescape(say(f">{escape(head['not_for'])}<")[1:-1])
    foot = f"{head['site']} · {head['from'][:10]} – {head['to'][:10]} · {warning}"

    def numbered(canvas: Canvas, page: SimpleDocTemplate) -> None:
        canvas.setFont("Helvetica", 7)
        canvas.drawString(_MARGIN, 10 * mm, foot[:130])
        canvas.drawRightString(A4[0] - _MARGIN, 10 * mm, str(page.page))

    document.build(reader.flowables, onFirstPage=numbered, onLaterPages=numbered)
    return out.getvalue()


class _Reader(HTMLParser):
    """HTML of the report to flowables, in order."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.flowables: list[Flowable] = []
        self._text: list[str] = []
        self._rows: list[list[str]] = []
        self._svg: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self._svg or tag == "svg":
            self._svg.append(_element(tag, attrs))
        elif tag == "tr":
            self._rows.append([])
            self._text = []
        elif tag in ("td", "th", "caption", *_BLOCKS):
            self._text = []

    def handle_data(self, data: str) -> None:
        if self._svg:
            self._svg.append(_escaped(data))
        else:
            self._text.append(data)

    def handle_endtag(self, tag: str) -> None:
        if self._svg:
            self._svg.append(f"</{tag}>")
            if tag == "svg":
                self.flowables += [_drawing("".join(self._svg)), Spacer(1, 2 * mm)]
                self._svg = []
            return
        text = _escaped("".join(self._text).strip())
        if tag in ("td", "th") and self._rows:
            self._rows[-1].append(text[:_CELLS_MAX])
        elif tag == "caption" and text:
            self.flowables.append(Paragraph(f"<b>{text}</b>", _STYLES["BodyText"]))
        elif tag in _BLOCKS and text:
            self.flowables.append(Paragraph(text, _STYLES[_BLOCKS[tag]]))
        elif tag == "table":
            self._finish_table()
        if tag in ("td", "th", "caption", *_BLOCKS):
            self._text = []

    def _finish_table(self) -> None:
        rows = [r for r in self._rows if r]
        self._rows = []
        if not rows:
            return
        wide = max(len(r) for r in rows)
        cells = [
            [Paragraph(text, _STYLES["BodyText"].clone("cell", fontSize=7.5, leading=9)) for text in r]
            + [""] * (wide - len(r))
            for r in rows
        ]
        first = 0.34 if wide > 2 else 0.4
        widths = (
            [_ACROSS * first, *[_ACROSS * (1 - first) / (wide - 1)] * (wide - 1)] if wide > 1 else [_ACROSS]
        )
        self.flowables += [Table(cells, colWidths=widths, style=_TABLE), Spacer(1, 3 * mm)]


def _element(tag: str, attrs: list[tuple[str, str | None]]) -> str:
    named = [f'{name}="{_escaped(value or "")}"' for name, value in attrs if name != "xmlns"]
    return f"<{' '.join([tag, *named])}>"


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")


def _drawing(svg: str) -> Drawing:
    """A picture of `qa.charts`: rectangles, lines, circles, words and straight paths; y grows downwards there."""
    root = ET.fromstring(re.sub(r"<(rect|line|path|circle)([^>]*)></\1>|<(rect|line|path|circle)([^>/]*)/?>",
                                lambda m: f"<{m[1] or m[3]}{m[2] or m[4]}/>", svg))  # fmt: skip
    height = float(root.get("viewbox", root.get("viewBox", "0 0 1 1")).split()[3])
    scale = _ACROSS / WIDTH
    drawing = Drawing(_ACROSS, height * scale)
    drawing.scale(scale, scale)
    for e in root:
        shape = _shape(e, height)
        if shape is not None:
            drawing.add(shape)
    return drawing


def _number(e: ET.Element, name: str) -> float:
    return float(e.get(name, "0"))


def _colour(text: str) -> Any:
    if text == "none":
        return None
    return colors.black if text in ("", "currentColor") else colors.HexColor(text)


def _shape(e: ET.Element, height: float) -> Any:
    line = {
        "strokeColor": _colour(e.get("stroke", "none")), "strokeWidth": float(e.get("stroke-width", "1")),
        "strokeDashArray": [float(v) for v in e.get("stroke-dasharray", "").split()] or None,
    }  # fmt: skip
    if e.tag == "rect":
        w, h = _number(e, "width"), _number(e, "height")
        colour = _colour(e.get("fill", "none"))
        return Rect(_number(e, "x"), height - _number(e, "y") - h, w, h, strokeColor=None, fillColor=colour,
                    fillOpacity=float(e.get("fill-opacity", "1")))  # fmt: skip
    if e.tag == "line":
        return Line(
            _number(e, "x1"), height - _number(e, "y1"), _number(e, "x2"), height - _number(e, "y2"), **line
        )
    if e.tag == "circle":
        return Circle(_number(e, "cx"), height - _number(e, "cy"), _number(e, "r"),
                      fillColor=_colour(e.get("fill", "none")), **line)  # fmt: skip
    if e.tag == "text":
        return String(_number(e, "x"), height - _number(e, "y"), e.text or "", fontSize=12, fontName="Helvetica",
                      textAnchor=e.get("text-anchor", "start"))  # fmt: skip
    if e.tag == "path":
        return _path(e.get("d", ""), height, line)
    return None  # title


def _path(d: str, height: float, line: dict[str, Any]) -> Path:
    path = Path(fillColor=None, **line)
    x = y = 0.0
    for step, numbers in re.findall(r"([MLHV])([^MLHV]*)", d):
        values = [float(v) for v in numbers.split()]
        x = values[0] if step in "MLH" else x
        y = values[-1] if step in "MLV" else y
        (path.moveTo if step == "M" else path.lineTo)(x, height - y)
    return path

"""Charts as SVG text, drawn by the server: no script, no font of their own, readable in black and white.

Every mark has a text beside it or a pattern of its own (never colour alone), and the page gives the same numbers as a
table. Colours are presentation attributes, so a strict Content-Security-Policy lets them pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 720
# Okabe and Ito 2008: told apart with every kind of colour vision, and on paper by their dashes.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
DASHES = ("", "7 4", "2 3", "10 3 2 3")


@dataclass(frozen=True)
class Bar:
    """One line of a bar chart; low and high are the ends of its interval."""

    label: str
    value: float | None
    low: float
    high: float
    text: str  # what is written at its end: "12.5 % (3 of 24)"


def intervals(title: str, bars: Sequence[Bar], *, most: float = 1.0) -> str:
    """Shares with their intervals, one below the other; a bar without value shows its text alone."""
    row, left, right = 26, 310, 150
    height = row * len(bars) + 34
    scale = (WIDTH - left - right) / most
    parts = []
    for i, bar in enumerate(bars):
        y = row * i + 16
        parts.append(_text(left - 8, y + 4, bar.label, "end"))
        if bar.value is not None:
            parts.append(
                f'<rect x="{left}" y="{y - 6}" width="{bar.value * scale:.1f}" height="12" fill="{COLOURS[0]}" '
                'fill-opacity="0.35"/>'
            )
            low, high = left + bar.low * scale, left + min(bar.high, most) * scale
            parts.append(_line(low, y, high, y, COLOURS[0], 2))
            parts += [_line(x, y - 4, x, y + 4, COLOURS[0], 2) for x in (low, high)]
        parts.append(_text(WIDTH - right + 10, y + 4, bar.text))
    base = height - 22
    parts.append(_line(left, base, left + most * scale, base, "currentColor", 1))
    for k in range(5):
        x = left + most * scale * k / 4
        parts.append(_line(x, base, x, base + 4, "currentColor", 1))
        parts.append(_text(x, base + 17, f"{100 * most * k / 4:g} %", "middle"))
    return _svg(title, height, parts)


@dataclass(frozen=True)
class Curve:
    """A falling step curve of (seconds, share) points, beginning at (0, 1); it is drawn until `until_s`."""

    label: str
    points: Sequence[Sequence[float]]
    until_s: float


def steps(title: str, curves: Sequence[Curve]) -> str:
    """Share still waiting over time; each curve has its own dashes and is named in the legend."""
    left, top, height, bottom = 60, 14, 300, 46
    longest = max([c.until_s for c in curves] + [60.0])
    unit, word = (3600.0, "hours") if longest > 2 * 3600 else (60.0, "minutes")
    step = _nice(longest / unit / 5)
    most = step * math.ceil(longest / unit / step) * unit
    across, down = WIDTH - left - 20, height - top - bottom

    def x_of(seconds: float) -> float:
        return left + across * seconds / most

    def y_of(share: float) -> float:
        return top + down * (1 - share)

    parts = [_line(left, y_of(0), left + across, y_of(0), "currentColor", 1)]
    for k in range(5):
        parts.append(_line(left - 4, y_of(k / 4), left + across, y_of(k / 4), "currentColor", 0.3))
        parts.append(_text(left - 8, y_of(k / 4) + 4, f"{25 * k} %", "end"))
    for k in range(round(most / unit / step) + 1):
        parts.append(_text(x_of(k * step * unit), y_of(0) + 17, f"{k * step:g}", "middle"))
    parts.append(_text(left + across / 2, height - 6, word, "middle"))
    for i, curve in enumerate(curves):
        path = [f"M{x_of(0):.1f} {y_of(1):.1f}"]
        for seconds, share in (p for p in curve.points[1:] if p[0] <= curve.until_s):
            path.append(f"H{x_of(seconds):.1f}V{y_of(share):.1f}")
        path.append(f"H{x_of(curve.until_s):.1f}")
        dash = f' stroke-dasharray="{DASHES[i]}"' if DASHES[i] else ""
        parts.append(f'<path d="{"".join(path)}" fill="none" stroke="{COLOURS[i]}" stroke-width="2"{dash}/>')
        y = top + 14 + 18 * i
        parts.append(
            f'<line x1="{WIDTH - 210}" y1="{y - 4}" x2="{WIDTH - 180}" y2="{y - 4}" stroke="{COLOURS[i]}" '
            f'stroke-width="2"{dash}/>'
        )
        parts.append(_text(WIDTH - 174, y, curve.label))
    return _svg(title, height, parts)


def lines(
    title: str,
    labels: Sequence[str],
    series: Sequence[tuple[str, Sequence[float | None]]],
    *,
    limits: Sequence[tuple[float, float]] = (),
    marked: Collection[int] = (),
    most: float | None = None,
    shares: bool = False,
) -> str:
    """Shares or values over days: one polyline a series, its limits as dotted steps, marked days as ringed points.

    labels  of the points, thinned where they would touch
    limits  (low, high) of each point, for the first series
    most    top of the scale; None: the next round number above everything
    shares  the scale is written in per cent
    """
    left, top, height, bottom, right = 60, 14, 220, 40, 130
    across, down = WIDTH - left - right, height - top - bottom
    everything = [v for _, values in series for v in values if v is not None] + [h for _, h in limits]
    peak = most if most is not None else _nice(max(everything, default=1.0) or 1.0)

    def x_of(i: int) -> float:
        return left + across * (i + 0.5) / max(1, len(labels))

    def y_of(value: float) -> float:
        return top + down * (1 - min(value, peak) / peak)

    parts = [_line(left, y_of(0), left + across, y_of(0), "currentColor", 1)]
    for k in range(5):
        parts.append(
            _line(left - 4, y_of(peak * k / 4), left + across, y_of(peak * k / 4), "currentColor", 0.3)
        )
        mark = f"{100 * peak * k / 4:.3g} %" if shares else f"{peak * k / 4:.3g}"
        parts.append(_text(left - 8, y_of(peak * k / 4) + 4, mark, "end"))
    every = max(1, math.ceil(len(labels) / 10))
    parts += [
        _text(x_of(i), y_of(0) + 17, label, "middle") for i, label in enumerate(labels) if i % every == 0
    ]
    for ends in zip(*limits, strict=True):
        path = "".join(f"{'M' if i == 0 else 'L'}{x_of(i):.1f} {y_of(v):.1f}" for i, v in enumerate(ends))
        parts.append(
            f'<path d="{path}" fill="none" stroke="currentColor" stroke-width="1" stroke-dasharray="2 3"/>'
        )
    for number, (name, values) in enumerate(series):
        parts += _polyline(number % len(COLOURS), name, values, x_of, y_of, marked if number == 0 else ())
    return _svg(title, height, parts)


def _polyline(
    style: int,
    name: str,
    values: Sequence[float | None],
    x_of: Callable[[int], float],
    y_of: Callable[[float], float],
    marked: Collection[int],
) -> list[str]:
    colour, dash = COLOURS[style], f' stroke-dasharray="{DASHES[style]}"' if DASHES[style] else ""
    path, drawing = [], False
    parts = []
    for i, value in enumerate(values):
        if value is None:
            drawing = False  # a day without cases is a gap, not a zero
            continue
        path.append(f"{'L' if drawing else 'M'}{x_of(i):.1f} {y_of(value):.1f}")
        drawing = True
        parts.append(f'<circle cx="{x_of(i):.1f}" cy="{y_of(value):.1f}" r="2.5" fill="{colour}"/>')
        if i in marked:
            parts.append(
                f'<circle cx="{x_of(i):.1f}" cy="{y_of(value):.1f}" r="7" fill="none" stroke="{COLOURS[1]}" '
                'stroke-width="2"/>'
            )
    y = 28 + 18 * style
    parts.append(f'<path d="{"".join(path)}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>')
    parts.append(
        f'<line x1="{WIDTH - 120}" y1="{y - 4}" x2="{WIDTH - 95}" y2="{y - 4}" stroke="{colour}" stroke-width="2"{dash}/>'
    )
    parts.append(_text(WIDTH - 90, y, name))
    return parts


def columns(title: str, labels: Sequence[str], counts: Sequence[int]) -> str:
    """Counts side by side, each with its number above."""
    left, top, height, bottom = 30, 24, 180, 30
    width = (WIDTH - left) / max(1, len(labels))
    peak = max([*counts, 1])
    parts = []
    for i, (label, count) in enumerate(zip(labels, counts, strict=True)):
        tall = (height - top - bottom) * count / peak
        x = left + width * i
        parts.append(
            f'<rect x="{x + 2:.1f}" y="{height - bottom - tall:.1f}" width="{width - 4:.1f}" height="{tall:.1f}" '
            f'fill="{COLOURS[0]}" fill-opacity="0.6"/>'
        )
        parts.append(_text(x + width / 2, height - bottom - tall - 5, str(count), "middle"))
        parts.append(_text(x + width / 2, height - bottom + 16, label, "middle"))
    return _svg(title, height, parts)


def _nice(value: float) -> float:
    """The next of 1, 2, 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value)) if value > 0 else 1.0
    return next(k * power for k in (1, 2, 5, 10) if k * power >= value * 0.999)


def _svg(title: str, height: float, parts: Sequence[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" role="img" '
        f'font-family="sans-serif" font-size="12"><title>{escape(title)}</title>{"".join(parts)}</svg>'
    )


def _text(x: float, y: float, words: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="currentColor">{escape(words)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, width: float) -> str:
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" '
        f'stroke-width="{width:g}"/>'
    )

"""The palette, from the style sheet itself: contrast of every token on every surface, and distances in four kinds of
colour vision (ux 8 and its appendix A; T28)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import triage.web
from tests.web.browser import CHROMIUM, Visit

STYLE = (Path(triage.web.__file__).parent / "static" / "style.css").read_text()
SURFACES = ("page", "row", "alt", "hover", "selected", "panel")
TEXTS = (
    "text", "muted", "link", "critical", "high", "elevated", "not-analysed", "pending", "failed", "claimed-me",
)  # fmt: skip
STATES = ("critical", "high", "elevated", "not-analysed", "pending", "failed", "claimed-me")
# Machado, Oliveira, Fernandes 2009, severity 1.0, on linear RGB
VISION = {
    "full": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "protan": (
        (0.152286, 1.052583, -0.204868),
        (0.114503, 0.786281, 0.099216),
        (-0.003882, -0.048116, 1.051998),
    ),
    "deutan": (
        (0.367322, 0.860646, -0.227968),
        (0.280085, 0.672501, 0.047413),
        (-0.011820, 0.042940, 0.968881),
    ),
    "tritan": (
        (1.255528, -0.076749, -0.178779),
        (-0.078411, 0.930809, 0.147602),
        (0.004733, 0.691367, 0.303900),
    ),
}
Colour = tuple[float, ...]


def tokens(theme: str) -> dict[str, str]:
    place = {"light": 0, "dark": 1}[theme]
    found = dict(re.findall(r"--([a-z-]+):\s*(#[0-9a-f]{6});", STYLE))
    for name, *pair in re.findall(r"--([a-z-]+):\s*light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\)", STYLE):
        found[name] = pair[place]
    return found


def linear(colour: str) -> Colour:
    parts = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return tuple(c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)


def contrast(a: str, b: str) -> float:
    light = sorted(
        sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear(x), strict=True)) for x in (a, b)
    )
    return (light[1] + 0.05) / (light[0] + 0.05)


def lab(rgb: Colour) -> Colour:
    rows = ((0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505))
    x, y, z = (sum(m * c for m, c in zip(row, rgb, strict=True)) for row in rows)

    def f(t: float) -> float:
        return t ** (1 / 3) if t > 0.008856 else 7.787 * t + 16 / 116

    a, b, c = f(x / 0.95047), f(y), f(z / 1.08883)
    return 116 * b - 16, 500 * (a - b), 200 * (b - c)


def seen(colour: str, vision: str) -> Colour:
    rgb = linear(colour)
    return lab(
        tuple(min(1, max(0, sum(p * q for p, q in zip(row, rgb, strict=True)))) for row in VISION[vision])
    )


@pytest.mark.parametrize("theme", ["dark", "light"])
@pytest.mark.parametrize("surface", SURFACES)
def test_t28_every_text_is_legible_on_every_surface(theme: str, surface: str) -> None:
    palette = tokens(theme)
    poor = {t: round(contrast(palette[t], palette[surface]), 2) for t in TEXTS}
    assert {t: c for t, c in poor.items() if c < 4.5} == {}
    for edge in ("focus", "border"):
        assert contrast(palette[edge], palette[surface]) >= 3


def test_t28_bars_and_banner_are_legible() -> None:
    palette = tokens("dark")
    for text, fill, published in (
        ("banner-text", "banner", 9.11), ("info-text", "info", 11.61), ("stale-text", "stale", 11.34),
    ):  # fmt: skip
        assert contrast(palette[text], palette[fill]) == pytest.approx(published, abs=0.05)


def test_t28_the_dark_palette_is_the_published_one() -> None:
    palette = tokens("dark")
    for token, surface, published in (
        ("text", "page", 13.47),
        ("failed", "selected", 4.66),
        ("critical", "row", 8.13),
    ):
        assert contrast(palette[token], palette[surface]) == pytest.approx(published, abs=0.05)


@pytest.mark.parametrize("vision", VISION)
def test_t28_states_differ_for_every_kind_of_colour_vision(vision: str) -> None:
    palette = tokens("dark")
    colours = {t: seen(palette[t], vision) for t in STATES}
    closest = min(
        (sum((p - q) ** 2 for p, q in zip(colours[a], colours[b], strict=True)) ** 0.5, a, b)
        for a in STATES for b in STATES if a < b
    )  # fmt: skip
    assert closest[0] >= 20, closest


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")
@pytest.mark.parametrize("theme", ["dark", "light"])
def test_t28_the_browser_computes_the_colours_that_were_judged(visit: Visit, theme: str) -> None:
    page = visit("ann", "/help/keys", theme=theme)
    names = [*TEXTS, *SURFACES, "focus", "border"]
    found = page.evaluate(
        """names => names.map(name => {
          const probe = document.createElement("span");
          document.body.append(probe);
          probe.style.setProperty("color", `var(--${name})`);
          return getComputedStyle(probe).color.match(/[0-9]+/g).slice(0, 3).map(Number);
        })""",
        names,
    )
    judged = tokens(theme)
    wanted = [[int(judged[n][i : i + 2], 16) for i in (1, 3, 5)] for n in names]
    assert dict(zip(names, found, strict=True)) == dict(zip(names, wanted, strict=True))
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb({}, {}, {})".format(
        *wanted[names.index("page")]
    )

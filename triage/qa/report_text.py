"""Reads a radiology report as silver truth: which findings it states, denies, or leaves open.

Rules, no learning: sentences are cut at full stops and at words like "but"; a finding is denied or hedged by words before
or after it in its piece (after NegEx, Chapman et al. 2001). It serves sampling and rates over many studies, never a
single patient: what it cannot decide it says nothing about. A language is one file in `lexicon/`.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib import resources

LANGUAGES = ("en", "de")
TEXT_MAX = 20_000  # characters; a longer report is cut, its conclusion stands in the first pages
_REACH_WORDS = 8  # so far a word that denies or hedges reaches


class Said(StrEnum):
    PRESENT = "present"
    UNCERTAIN = "uncertain"
    ABSENT = "absent"


# Of several mentions the strongest stands: "no effusion on the left. Small effusion on the right" is an effusion.
_STRENGTH = {Said.ABSENT: 0, Said.UNCERTAIN: 1, Said.PRESENT: 2}


@dataclass(frozen=True)
class Lexicon:
    """Compiled rules of one language."""

    language: str
    findings: dict[str, re.Pattern[str]]
    denied_before: re.Pattern[str]
    denied_after: re.Pattern[str]
    hedged_before: re.Pattern[str]
    hedged_after: re.Pattern[str]
    stops: re.Pattern[str]
    skipped: re.Pattern[str]
    read: re.Pattern[str]
    normal: tuple[tuple[re.Pattern[str], tuple[str, ...]], ...]


@cache
def lexicon(language: str) -> Lexicon:
    """raises  KeyError for a language without a file"""
    if language not in LANGUAGES:
        raise KeyError(language)
    held = tomllib.loads(resources.files("triage.qa").joinpath(f"lexicon/{language}.toml").read_text("utf-8"))
    return Lexicon(
        language=held["language"],
        findings={name: _any(words) for name, words in held["findings"].items()},
        denied_before=_any(held["negation"]["before"]),
        denied_after=_any(held["negation"]["after"]),
        hedged_before=_any(held["uncertainty"]["before"]),
        hedged_after=_any(held["uncertainty"]["after"]),
        stops=_any(held["scope"]["stops"]),
        skipped=_heading(held["scope"]["skipped"]),
        read=_heading(held["scope"]["read"]),
        normal=tuple((_any([words]), tuple(names)) for words, names in held["normal"].items()),
    )


def _any(words: Iterable[str]) -> re.Pattern[str]:
    # Longest first, so that "no longer" is not read as "no".
    joined = "|".join(sorted(words, key=len, reverse=True))
    return re.compile(rf"(?<!\w)(?:{joined})(?!\w)", re.IGNORECASE)


def _heading(words: Iterable[str]) -> re.Pattern[str]:
    return re.compile(rf"(?:^|(?<=[.\n]))\s*(?:{'|'.join(words)})\s*:", re.IGNORECASE)


def read_report(text: str, language: str = "en") -> dict[str, Said]:
    """Finding names and what the report says of each; a finding that it does not mention is not a key."""
    rules = lexicon(language)
    found: dict[str, Said] = {}
    for sentence in _sentences(_observed(text[:TEXT_MAX], rules)):
        for name, said in _of_sentence(sentence, rules):
            if name not in found or _STRENGTH[said] > _STRENGTH[found[name]]:
                found[name] = said
    return found


def guess_language(text: str) -> str:
    """The language whose findings and denials the text uses most; English when nothing tells."""
    return max(LANGUAGES, key=lambda code: _hits(text[:TEXT_MAX], lexicon(code)))


def _hits(text: str, rules: Lexicon) -> int:
    patterns = (rules.denied_before, rules.hedged_before, rules.read, rules.skipped, *rules.findings.values())
    return sum(len(p.findall(text)) for p in patterns)


def _observed(text: str, rules: Lexicon) -> str:
    """The text without the sections that speak of something else (history, technique, comparison)."""
    marks = sorted(
        [(m.start(), m.end(), False) for m in rules.skipped.finditer(text)]
        + [(m.start(), m.end(), True) for m in rules.read.finditer(text)]
    )
    if not marks:
        return text
    kept = [text[: marks[0][0]]]
    for i, (_, end, wanted) in enumerate(marks):
        if wanted:
            kept.append(text[end : marks[i + 1][0] if i + 1 < len(marks) else len(text)])
    return "\n".join(kept)


def _sentences(text: str) -> list[str]:
    """Cut at line ends and after a stop followed by a space; "v.a." and "3.5 cm" stay whole."""
    lines = re.split(
        r"\n\s*\n|\n(?=\s*[-*•\d]+[.)]?\s)|(?<=[a-zäöüß)\]])[.;!](?=\s|$)", text, flags=re.IGNORECASE
    )
    return [re.sub(r"\s+", " ", part).strip() for part in lines if part.strip()]


def _of_sentence(sentence: str, rules: Lexicon) -> list[tuple[str, Said]]:
    found = []
    for pattern, names in rules.normal:
        if pattern.search(sentence):
            found += [(name, Said.ABSENT) for name in names]
    for piece in rules.stops.split(sentence):
        for name, pattern in rules.findings.items():
            found += [(name, _judged(piece, m, rules)) for m in pattern.finditer(piece)]
    return found


def _judged(piece: str, mention: re.Match[str], rules: Lexicon) -> Said:
    before = " ".join(piece[: mention.start()].split()[-_REACH_WORDS:])
    after = " ".join(piece[mention.end() :].split()[:_REACH_WORDS])
    if rules.hedged_before.search(before) or rules.hedged_after.match(after):
        return Said.UNCERTAIN
    if rules.denied_before.search(before) or rules.denied_after.search(after):
        return Said.ABSENT
    return Said.PRESENT

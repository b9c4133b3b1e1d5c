"""Releases on this machine as the administrator sees them: card, licence, and whether their files are their own."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from triage.detectors.releases import MODELS, load_release
from triage.domain.errors import Misconfigured

CARD_MAX = 40_000  # characters shown


@dataclass(frozen=True)
class Card:
    text: str
    content: dict[str, Any]
    whole: bool  # every file has the digest that release.json names
    trouble: str


@lru_cache(maxsize=1)
def by_digest() -> dict[str, Card]:
    """{digest: card} of the release folders; files are verified once in the life of this process."""
    found = {}
    for folder in sorted(p.parent for p in MODELS.glob("*/*/release.json")):
        try:
            release = load_release(folder, verify=False)
        except Misconfigured:
            continue
        trouble = ""
        try:
            load_release(folder)
        except Misconfigured as error:
            trouble = str(error)
        card = folder / "card.md"
        text = card.read_text(encoding="utf-8")[:CARD_MAX] if card.exists() else ""
        found[release.digest] = Card(text, release.content, not trouble, trouble)
    return found

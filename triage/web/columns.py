"""The columns of the list, in order (ux 5.2): which are shown, how each is filtered and sorted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from triage.store.narrowing import SORTS
from triage.web.language import N_

WIDTH_MIN, WIDTH_MAX = 24, 600  # px that a person may give a column
DENSITIES = ("compact", "comfortable")


@dataclass(frozen=True)
class Column:
    """`filter`: nothing; `text` kept in the URL; `naming` text that can name a patient; `choice` of known words; `range`.
    `parameter` is its name in the URL."""

    id: str
    header: str
    label: str  # for those who do not see the header
    width: int
    filter: Literal["", "text", "naming", "choice", "range"] = ""
    parameter: str = ""
    first: bool = True  # shown unless a person chooses otherwise

    @property
    def sorts(self) -> bool:
        return self.id in SORTS


ALL: tuple[Column, ...] = (
    Column("sel", "", N_("Select"), 22),
    Column("pos", "#", N_("Place in reading order"), 28),
    Column("why", N_("Priority, reason"), N_("Priority and first reason"), 274, "choice", "priority_class"),
    Column("due", N_("Time left"), N_("Time left to the limit of its class"), 98),
    Column("age", N_("Waiting"), N_("Waiting since the end of acquisition"), 66, "range", "waited_minutes"),
    Column("pat", N_("Patient"), N_("Patient"), 132, "naming"),
    Column("mrn", N_("ID"), N_("Patient ID"), 78, "naming"),
    Column("mod", N_("Mod"), N_("Modality"), 42, "choice", "modality"),
    Column("body", N_("Part, view"), N_("Body part and view"), 78, "text", "body_part"),
    Column("desc", N_("Study"), N_("Study description"), 56, "text", "description"),
    Column("loc", N_("From"), N_("Ordering location"), 58, "choice", "location"),
    Column("site", N_("Site"), N_("Site"), 58, "choice", "site"),
    Column("ord", N_("Ordered"), N_("Priority as ordered"), 70, "choice", "ordered_priority"),
    Column("ai", N_("AI"), N_("State of the AI analysis"), 260, "choice", "ai_status"),
    Column("img", N_("Images"), N_("Images received of expected"), 68),
    Column("claim", N_("Reader"), N_("Claimed by"), 104, "choice", "reader"),
    Column("alert", N_("Alert"), N_("Alert"), 72, "choice", "alerts_open"),
    Column("acc", N_("Accession"), N_("Accession number"), 96, "naming", first=False),
    Column("src", N_("Sender"), N_("Calling AE title"), 90, "choice", "sender", first=False),
    Column("acq", N_("Acquired"), N_("Time of acquisition"), 124, first=False),
    Column("recv", N_("Received"), N_("Time of receipt"), 124, "range", "received", first=False),
    Column("ref", N_("Referrer"), N_("Referring physician"), 120, "text", "referrer", first=False),
    Column("rep", N_("Report"), N_("State of the report"), 120, "choice", "report_state", first=False),
    Column("cmp", N_("Complete because"), N_("Why the images were taken as complete"), 150, first=False),
)
BY_ID: Mapping[str, Column] = {c.id: c for c in ALL}
FIXED = ("sel", "pos", "why", "pat", "ai")  # a list without these would not say what it is
PARAMETERS = tuple(c.parameter for c in ALL if c.parameter)


def shown(preferences: Mapping[str, Any]) -> Sequence[Column]:
    """This person's columns in their order of the specification; the first 17 unless chosen otherwise."""
    chosen = preferences.get("columns")
    if not isinstance(chosen, list):
        return [c for c in ALL if c.first]
    return [c for c in ALL if c.id in chosen or c.id in FIXED]


def widths(preferences: Mapping[str, Any]) -> dict[str, int]:
    """{column id: px} that this person gave."""
    given = preferences.get("widths")
    return {k: v for k, v in given.items() if k in BY_ID} if isinstance(given, dict) else {}

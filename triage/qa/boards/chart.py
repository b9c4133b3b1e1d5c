"""What a chart of the dashboard is, and the facts that all of them are made of, read once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from sqlalchemy import Connection

from triage.qa.measures import Verdicts, flagged_when_opened, present, verdicts
from triage.qa.report_text import Said, guess_language, read_report
from triage.store import double_reads, monitoring
from triage.store import measures as facts

REFERENCE = timedelta(days=30)  # the month before the period: what drift is measured against


@dataclass(frozen=True, kw_only=True)
class Chart:
    """One question, its answer as rows, and the picture of the same numbers.

    number, key  place and name in addresses
    whose        who asks: "lead", "QA", "physicist", "admin", "auditor"
    definition   how it was counted and when it alarms
    n            cases behind it
    alarm        "" or what is wrong, in words
    columns      of `rows`; a row's cells are text, numbers or None
    units        of numbers, by column or by a row's first cell: "share", "seconds" or "minutes"; a page writes them out
    studies      row number to the studies behind it, for inside the department
    svg          the picture, escaped; "" where a table says it better
    """

    number: int
    key: str
    question: str
    whose: str
    definition: str
    n: int
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    alarm: str = ""
    units: Mapping[str, str] = field(default_factory=dict)
    studies: Mapping[int, Sequence[int]] = field(default_factory=dict)
    svg: str = ""

    def as_json(self) -> dict[str, Any]:
        return {
            "number": self.number, "key": self.key, "question": self.question, "whose": self.whose,
            "definition": self.definition, "n": self.n, "alarm": self.alarm, "columns": list(self.columns),
            "rows": [list(row) for row in self.rows],
        }  # fmt: skip


@dataclass(frozen=True)
class Facts:
    """The rows of a period, each kind read when a chart first asks for it."""

    tx: Connection
    start: datetime
    end: datetime
    until: datetime  # min(end, now)

    @cached_property
    def studies(self) -> list[facts.StudyFacts]:
        return facts.studies_between(self.tx, self.start, self.end)

    @cached_property
    def by_id(self) -> dict[int, facts.StudyFacts]:
        return {s.study_id: s for s in self.studies}

    @cached_property
    def runs(self) -> list[facts.RunFacts]:
        return facts.runs_between(self.tx, self.start, self.end)

    @cached_property
    def flags(self) -> list[facts.FlagFacts]:
        return facts.flags_between(self.tx, self.start, self.end)

    @cached_property
    def given(self) -> list[facts.FlagFacts]:
        """Every flag that a reader could see, those withdrawn since among them."""
        return facts.given_between(self.tx, self.start, self.end)

    @cached_property
    def flagged_when_opened(self) -> set[int]:
        return flagged_when_opened(self.studies, self.given, self.until)

    @cached_property
    def flagged(self) -> set[int]:
        return {f.study_id for f in self.flags}

    @cached_property
    def words(self) -> list[facts.FeedbackFacts]:
        return facts.feedback_between(self.tx, self.start, self.end)

    @cached_property
    def said(self) -> Verdicts:
        return verdicts(self.given, self.words)

    @cached_property
    def seen(self) -> Verdicts:
        """As `said`, but whether the finding is there: known or not relevant, it is."""
        return present(self.given, self.words)

    @cached_property
    def alerts(self) -> list[facts.AlertFacts]:
        return facts.alerts_between(self.tx, self.start, self.end)

    @cached_property
    def scores(self) -> list[monitoring.ScoreFacts]:
        return monitoring.scores_between(self.tx, self.start, self.end)

    @cached_property
    def inputs(self) -> list[monitoring.InputFacts]:
        return monitoring.inputs_between(self.tx, self.start, self.end)

    @cached_property
    def timings(self) -> list[monitoring.TimingFacts]:
        return monitoring.timings_between(self.tx, self.start, self.end)

    @cached_property
    def opened(self) -> list[monitoring.Opened]:
        return monitoring.opened_between(self.tx, self.start, self.end)

    @cached_property
    def double_reads(self) -> list[double_reads.DoubleRead]:
        return double_reads.between(self.tx, self.start, self.end)

    @cached_property
    def reported(self) -> dict[int, dict[str, Said]]:
        """What the last final report of a study says of each finding, read by rules."""
        texts = monitoring.report_texts_between(self.tx, self.start, self.end)
        return {study_id: read_report(text, guess_language(text)) for study_id, text in texts.items()}

    @cached_property
    def reference(self) -> Facts:
        """The month before."""
        return Facts(self.tx, self.start - REFERENCE, self.start, self.start)

    @cached_property
    def days(self) -> list[datetime]:
        """First moments of the days that have begun; a period beside the calendar's days is cut by 24 hours."""
        whole = -(-(self.until - self.start) // timedelta(days=1))
        return [self.start + timedelta(days=k) for k in range(max(1, whole))]

    def day_of(self, at: datetime) -> int:
        return min(int((at - self.start) / timedelta(days=1)), len(self.days) - 1)


# Columns that hold shares, in every chart but that of a stability index.
SHARES = dict.fromkeys(
    ("PPV", "low", "high", "finding there", "sensitivity", "at most", "share", "month before", "flag rate",
     "not analysed", "EWMA", "share by next", "said", "seen"), "share",
)  # fmt: skip


def share(value: float | None) -> float | None:
    """Shares in tables have four digits."""
    return None if value is None else round(value, 4)

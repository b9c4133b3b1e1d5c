"""What happens in the day: studies, orders, merges, corrections, faults. Plain values drawn from one seed.

The script knows beforehand what each study must come to: which reason or which flags. Nothing here asks the product.
"""

from __future__ import annotations

import os
import random
from dataclasses import dataclass, replace
from typing import Any

from tests.factories import a_header, uid
from tests.simulation.actors import Object, Plan, scripted
from triage.domain.study import InstanceHeader

SECOND, MINUTE, HOUR = 1000, 60_000, 3_600_000
DAY_BEGINS = 12 * HOUR  # the world's clock starts at noon: midnight UTC, so that a report's day is this day
DAY_ENDS = DAY_BEGINS + 24 * HOUR
STUDIES = 600 if os.environ.get("TRIAGE_TEST_FULL") == "1" else 200  # the whole day in `make test-faults`
FILM_ROOMS, SCANNERS = ("DX_1", "DX_2", "CR_WARD", "DX_ED"), ("CT_1", "CT_ED")
HOURLY = (1, 1, 1, 1, 1, 2, 3, 5, 8, 9, 9, 8, 7, 8, 8, 7, 6, 5, 4, 3, 3, 2, 2, 1)  # arrivals, midnight first
SLICES = 9  # one more than the fewest that make a stack
NEW_EFFUSION_THRESHOLD = 0.75
POLICY_AT = DAY_BEGINS + 12 * HOUR
CONSUMER_DEAD = (DAY_BEGINS + 8 * HOUR, DAY_BEGINS + 11 * HOUR)
WORKERS_OUT = (DAY_BEGINS + 14 * HOUR, DAY_BEGINS + 14 * HOUR + 40 * MINUTE)
HANDOVER = (DAY_BEGINS + 6 * HOUR, DAY_BEGINS + 6 * HOUR + 12 * MINUTE)  # of the night shift: nobody looks
RELEASES = {"film": "chest_xray 1.0.0", "scan": "lung_nodule 1.0.0"}
PRIORITIES = {"S": "STAT", "A": "URGENT", "R": "ROUTINE"}


@dataclass(frozen=True, kw_only=True)
class Case:
    """One study. mark: what its images hold; late_mark: what the slice holds that comes late."""

    number: int
    sender: str
    at_ms: int
    kind: str  # film, scan
    mark: str = ""
    lateral: str = ""  # "", "beside", "alone"
    child: bool = False
    late_ms: int = 0
    late_mark: str = ""
    gap: bool = False  # the late slice is one of the middle
    ordered: str = ""  # priority of the order as HL7 writes it, "" without an order
    order_after_images: bool = False
    changed_to: str = ""  # a later message gives the order this priority
    cancelled: bool = False

    @property
    def study(self) -> str:
        return f"day{self.number}"

    @property
    def study_uid(self) -> str:
        return uid(self.study)

    @property
    def accession(self) -> str:
        return f"DAY{self.number:05d}"

    @property
    def patient_id(self) -> str:
        return f"D{self.number}"

    @property
    def priority(self) -> str:
        """What the order asks for in the end."""
        return "ROUTINE" if self.cancelled else PRIORITIES[self.changed_to or self.ordered or "R"]

    @property
    def ends(self) -> tuple[str, str]:
        """(ai_status, reason) that the study must end with."""
        if self.lateral == "alone":
            return "not_analysed", "LATERAL_ONLY"
        if self.child:
            return "not_analysed", "OUT_OF_AGE"
        return {
            "corrupt": ("not_analysed", "CORRUPT_PIXELS"),
            "raises": ("failed", "valueerror"),
            "poison": ("failed", "crashed"),
        }.get(self.mark, ("completed", ""))

    @property
    def runs(self) -> list[tuple[str, str]]:
        """How each run that counts must end: one of each film, one of a scan."""
        return [self.ends, ("not_analysed", "LATERAL_ONLY")] if self.lateral == "beside" else [self.ends]

    @property
    def flags(self) -> set[str]:
        """Findings that must be flagged at the end of the day."""
        if self.ends[0] != "completed":
            return set()
        found = {m for m in (self.mark, self.late_mark) if m}
        if "clear" in found:
            found -= {"clear", "pneumothorax"}
        if "effusion" in found and self.at_ms >= POLICY_AT:
            said = scripted("effusion", True, RELEASES[self.kind], self._content(0, self.mark))
            if said.probability < NEW_EFFUSION_THRESHOLD:
                return found - {"effusion"}
        return found

    @property
    def alerts(self) -> bool:
        """A critical finding is there at some time."""
        return "pneumothorax" in (self.mark, self.late_mark) and self.ends[0] == "completed"

    def objects(self) -> list[Object]:
        return self._slices() if self.kind == "scan" else self._films()

    def _films(self) -> list[Object]:
        frontal = self._object(0, self.mark, view_position="PA")
        lateral = self._object(1, "", view_position="LL", patient_orientation=("A", "F"))
        return {"": [frontal], "beside": [frontal, lateral], "alone": [lateral]}[self.lateral]

    def _slices(self) -> list[Object]:
        late = (SLICES // 2 if self.gap else SLICES) if self.late_ms else -1
        found = []
        for i in range(SLICES + (late >= 0)):
            item = self._object(i, self.mark if i == 2 else self.late_mark if i == late else "")
            found.append(replace(item, after_ms=self.at_ms + self.late_ms) if i == late else item)
        return found

    def _object(self, number: int, mark: str, **values: Any) -> Object:
        header = self._header(number, **values)
        return Object(header, self._content(number, mark), self.at_ms)

    def _content(self, number: int, mark: str) -> str:
        return f"{uid(self.study, 1, number)}|{mark}"

    def _header(self, number: int, **values: Any) -> InstanceHeader:
        return a_header(
            study=self.study, instance=number, modality="CT" if self.kind == "scan" else "DX",
            patient_id=self.patient_id, issuer_of_patient_id="HOSP", accession_number=self.accession,
            patient_age_years=9.0 if self.child else 30.0 + self.number % 60, patient_sex="FM"[self.number % 2],
            **values,
        )  # fmt: skip


def the_day(seed: int) -> list[Case]:
    """All studies in order of arrival."""
    chance = random.Random(seed)
    hours = chance.choices(range(24), HOURLY, k=STUDIES)
    times = sorted(DAY_BEGINS + h * HOUR + chance.randrange(HOUR - MINUTE) for h in hours)
    cases = [_case(chance, number, at_ms) for number, at_ms in enumerate(times)]
    unseen = Case(
        number=STUDIES,
        sender="DX_ED",
        at_ms=HANDOVER[0] + MINUTE,
        kind="film",
        mark="pneumothorax",
        ordered="S",
    )
    taken_back = Case(
        number=STUDIES + 1, sender="CT_ED", at_ms=HANDOVER[0] + 2 * MINUTE, kind="scan", mark="pneumothorax",
        late_ms=4 * MINUTE, late_mark="clear",
    )  # fmt: skip
    return sorted([*cases[2:], unseen, taken_back], key=lambda c: c.at_ms)


def _case(chance: random.Random, number: int, at_ms: int) -> Case:
    scan = chance.random() < 0.2
    sender = chance.choice(SCANNERS if scan else FILM_ROOMS)
    ordered = chance.choices(("", "S", "A", "R"), (25, 12, 18, 45))[0]
    case = Case(
        number=number, sender=sender, at_ms=at_ms, kind="scan" if scan else "film", ordered=ordered,
        order_after_images=chance.random() < 0.3,
        changed_to="S" if ordered == "R" and chance.random() < 0.08 else "",
        cancelled=bool(ordered) and chance.random() < 0.03,
    )  # fmt: skip
    return _as_scan(chance, case) if scan else _as_film(chance, case)


def _as_film(chance: random.Random, case: Case) -> Case:
    marks = ("", "pneumothorax", "consolidation", "effusion", "corrupt", "raises", "poison")
    mark = chance.choices(marks, (70, 8, 10, 12, 2, 2, 0.7))[0]
    near = abs(case.at_ms - POLICY_AT) < 15 * MINUTE or _in_outage(case.at_ms)
    if mark == "effusion" and near:
        mark = ""  # which policy judges it would depend on seconds
    lateral = chance.choices(("", "beside", "alone"), (60, 35, 5))[0]
    return replace(
        case, mark="" if lateral == "alone" else mark, lateral=lateral, child=chance.random() < 0.04
    )


def _as_scan(chance: random.Random, case: Case) -> Case:
    mark = chance.choices(("", "nodule", "pneumothorax"), (50, 35, 15))[0]
    case = replace(case, mark=mark)
    if _in_outage(case.at_ms) or chance.random() < 0.7:
        return case
    late_mark = chance.choice(("clear", "clear", "nodule") if mark == "pneumothorax" else ("", "nodule"))
    # What takes an alert back comes before anybody has reported: afterwards the alert is closed and stays so.
    late = (
        chance.randrange(2 * MINUTE, 4 * MINUTE)
        if late_mark == "clear"
        else chance.randrange(5 * MINUTE, 40 * MINUTE)
    )
    if _in_outage(case.at_ms + late) or case.at_ms + late >= DAY_ENDS:
        return case
    return replace(case, late_ms=late, late_mark=late_mark, gap=late_mark == "" and chance.random() < 0.5)


def _in_outage(at_ms: int) -> bool:
    return WORKERS_OUT[0] - 15 * MINUTE < at_ms < WORKERS_OUT[1] + 15 * MINUTE


def senders(cases: list[Case]) -> list[Plan]:
    """Six modalities, each with what it has to send; some objects twice."""
    plans = []
    for title in (*FILM_ROOMS, *SCANNERS):
        objects = [o for c in cases if c.sender == title for o in c.objects()]
        plans.append(Plan(title.lower(), objects, resends=3, ae_title=title))
    return plans

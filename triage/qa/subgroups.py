"""Is it the same for everyone? Coverage, flags and agreement by sex, age, view and sender, and the small-number rules."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from triage.domain.eligibility import FILM_MODALITIES
from triage.qa.measures import Verdicts, proportion
from triage.store.measures import FlagFacts, StudyFacts

POSITIVES_MIN = 20  # a subgroup below has n and "too few", no figure (standards 11.10)
CELL_MIN = 5  # smaller cells are suppressed when the report leaves the department (standards 12.1)
AGE_BANDS = ((18, "0-17"), (40, "18-39"), (65, "40-64"), (80, "65-79"), (math.inf, "80+"))


def age_band(age_years: float | None) -> str:
    return "unknown" if age_years is None else next(word for limit, word in AGE_BANDS if age_years < limit)


def film_view(s: StudyFacts) -> str | None:
    """None: a scan has no view, and stands in no row of views."""
    if s.modality and s.modality not in FILM_MODALITIES:
        return None
    return s.view or "unknown"


_GROUPS: Mapping[str, Callable[[StudyFacts], str | None]] = {
    "sex": lambda s: s.sex or "unknown",
    "age_band": lambda s: age_band(s.age_years),
    "view": film_view,
    "sender": lambda s: s.sender or "unknown",
}


def subgroups(
    studies: Sequence[StudyFacts], flags: Sequence[FlagFacts], said: Verdicts, *, deidentified: bool
) -> dict[str, list[dict[str, Any]]]:
    """Is it the same for everyone? Share analysed, share flagged and PPV by sex, age, view (of films) and sender."""
    flagged = {f.study_id for f in flags}
    judged: dict[int, list[bool]] = defaultdict(list)
    for (study_id, _), agreed in said.items():
        judged[study_id].append(agreed)
    return {
        name: _subgroup_rows(studies, key, flagged, judged, deidentified) for name, key in _GROUPS.items()
    }


def _subgroup_rows(
    studies: Sequence[StudyFacts],
    key: Callable[[StudyFacts], str | None],
    flagged: set[int],
    judged: Mapping[int, list[bool]],
    deidentified: bool,
) -> list[dict[str, Any]]:
    groups: dict[str, list[StudyFacts]] = defaultdict(list)
    for s in studies:
        if (group := key(s)) is not None:
            groups[group].append(s)
    hidden = small_cells({g: len(members) for g, members in groups.items()}) if deidentified else set()
    rows: list[dict[str, Any]] = []
    for group in sorted(groups):
        if group in hidden:
            rows.append({"group": group, "n": None, "note": f"<{CELL_MIN}"})
            continue
        members = groups[group]
        analysed = [s for s in members if s.ai_status == "completed"]
        words = [a for s in analysed for a in judged.get(s.study_id, [])]
        rows.append(
            {
                "group": group,
                "n": len(members),
                "note": "",
                "analysed": _enough(len(analysed), sum(bool(s.ai_status) for s in members), deidentified),
                "flagged": _enough(sum(s.study_id in flagged for s in analysed), len(analysed), deidentified),
                "ppv": _enough(sum(words), len(words), deidentified, positives=len(words)),
            }
        )
    return rows


def small_cells(counts: Mapping[str, int]) -> set[str]:
    """Cells below five; and, lest the total gives a single one away, the next smallest with it."""
    hidden = {name for name, n in counts.items() if 0 < n < CELL_MIN}
    others = sorted((n, name) for name, n in counts.items() if name not in hidden)
    if len(hidden) == 1 and others:
        hidden.add(others[0][1])
    return hidden


def _enough(count: int, n: int, deidentified: bool, positives: int | None = None) -> dict[str, Any]:
    """The share, unless it rests on fewer positives than may carry one."""
    if (count if positives is None else positives) >= POSITIVES_MIN:
        return proportion(count, n)
    shown = None if deidentified and 0 < count < CELL_MIN else count
    return {"value": None, "low": None, "high": None, "count": shown, "n": n, "note": "too few"}

"""How a search by date and by reference is understood."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from triage.domain.errors import Refused
from triage.workflow.fhir import row_id, span

MARCH, APRIL = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC)
SECOND = datetime(2026, 3, 14, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2026-03", (MARCH, APRIL)),
        ("ge2026-03", (MARCH, None)),
        ("gt2026-03", (APRIL, None)),
        ("le2026-03", (None, APRIL)),
        ("lt2026-03", (None, MARCH)),
        ("2026", (MARCH.replace(month=1), MARCH.replace(year=2027, month=1))),
        ("2026-03-31", (MARCH.replace(day=31), APRIL)),
        ("2026-03-14T12:00:00Z", (SECOND, SECOND.replace(second=1))),
        ("2026-03-14T12:00:00", (SECOND, SECOND.replace(second=1))),
        ("gt2026-03-14T13:00:00+01:00", (SECOND.replace(second=1), None)),
    ],
)
def test_a_date_is_the_span_that_it_names(
    value: str, expected: tuple[datetime | None, datetime | None]
) -> None:
    assert span(value) == expected


@pytest.mark.parametrize(
    "value", ["", "yesterday", "2026-13", "2026-02-30", "0000", "9999", "2026-03-14Tnoon", "ne2026"]
)
def test_what_is_no_date_is_refused(value: str) -> None:
    with pytest.raises(Refused):
        span(value)


def test_a_reference_is_a_number_however_it_is_written() -> None:
    assert (
        row_id("12", "Patient")
        == row_id("Patient/12", "Patient")
        == row_id("https://h/x/Patient/12", "Patient")
    )
    for value in ("", "Patient/", "twelve", "١٢", "1" * 16):
        with pytest.raises(Refused, match="looks like Patient/12"):
            row_id(value, "Patient")

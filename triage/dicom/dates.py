"""Days, ages and moments of a header: lenient with old forms, silent about what cannot be."""

from __future__ import annotations

import re
from datetime import date

from triage.dicom.text import Values


def tolerant_date(text: str) -> str:
    """YYYYMMDD of a DA value, also of the old form YYYY.MM.DD (PS3.5 6.2); "" for what is no day."""
    digits = text.replace(".", "").replace("-", "")[:8]
    if len(digits) != 8 or not (digits.isascii() and digits.isdigit()):
        return ""
    try:
        date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))
    except ValueError:
        return ""
    return digits


def age_years(age_string: str, birth_date: str, study_date: str) -> float | None:
    """Age at the study, or None when nobody can say.

    age_string  Patient's Age (0010,1010), an AS value like 018Y, 011M; "29" is no AS and says nothing
    source      standards 4.1: 000Y is a console's default, 19000101 a placeholder for an unknown birth date;
                an age and a birth date that contradict each other by more than two years say nothing
    """
    stated = _stated_age(age_string)
    reckoned = _reckoned_age(birth_date, study_date)
    if stated is None or reckoned is None:
        return stated if reckoned is None else reckoned
    return stated if abs(stated - reckoned) <= 2 else None


def _stated_age(age_string: str) -> float | None:
    match = re.fullmatch(r"(\d{3})([DWMY])", age_string.upper())
    if not match or age_string.upper() == "000Y":
        return None
    return int(match[1]) / {"D": 365.25, "W": 365.25 / 7, "M": 12, "Y": 1}[match[2]]


def _reckoned_age(birth_date: str, study_date: str) -> float | None:
    if not birth_date or not study_date or birth_date in ("19000101", study_date):
        return None
    born, seen = (date(int(d[:4]), int(d[4:6]), int(d[6:])) for d in (birth_date, study_date))
    had_birthday = (seen.month, seen.day) >= (born.month, born.day)
    years = seen.year - born.year - (0 if had_birthday else 1)
    if not 0 <= years <= 120:
        return None
    if years:
        return float(years)
    return (seen - born).days / 365.25


def acquisition_datetime(v: Values) -> str:
    """When the image was taken, "YYYYMMDDHHMMSS", local to the device; "" when no date is there.

    The first that is whole of Acquisition DateTime (0008,002A), Acquisition, Content, Series and Study date and
    time.
    """
    whole = v.code(0x0008002A)
    if tolerant_date(whole[:8]):
        return (whole[:8] + _clock(whole[8:14])) if len(whole) > 8 else whole[:8] + "000000"
    for date_tag, time_tag in (
        (0x00080022, 0x00080032),
        (0x00080023, 0x00080033),
        (0x00080021, 0x00080031),
        (0x00080020, 0x00080030),
    ):
        day = tolerant_date(v.code(date_tag))
        if day:
            return day + _clock(v.code(time_tag))
    return ""


def _clock(text: str) -> str:
    digits = text.replace(":", "").split(".")[0][:6]
    return digits.ljust(6, "0") if digits.isascii() and (digits + "0").isdigit() else "000000"

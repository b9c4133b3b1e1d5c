"""Times in the zone of the site, on the nights on which its clocks change (ux 14)."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from flask import Flask

from triage.domain.errors import Misconfigured
from triage.settings import Settings, load
from triage.web.times import clock, iso, minute, moment


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", site="NORTH", zone="Europe/Berlin")


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[arg-type, misc]


def test_the_hour_that_comes_twice_says_which_one_it_is(app: Flask) -> None:
    with app.app_context():
        assert clock(utc(2026, 10, 25, 0, 30)) == "02:30 CEST"
        assert clock(utc(2026, 10, 25, 1, 30)) == "02:30 CET"
        assert clock(utc(2026, 10, 25, 2, 30)) == "03:30"
        assert minute(utc(2026, 10, 25, 1, 30)) == "2026-10-25 02:30 CET"
        assert iso(utc(2026, 10, 25, 0, 30)) == "2026-10-25T02:30:00+02:00"
        assert iso(utc(2026, 10, 25, 1, 30)) == "2026-10-25T02:30:00+01:00"


def test_the_hour_that_is_left_out_is_never_shown(app: Flask) -> None:
    with app.app_context():
        assert clock(utc(2026, 3, 29, 0, 59)) == "01:59"
        assert clock(utc(2026, 3, 29, 1, 0)) == "03:00"
        assert moment(utc(2026, 3, 29, 1, 0)) == "2026-03-29 03:00:00 CEST"


def test_today_begins_at_midnight_of_the_site(app: Flask) -> None:
    zone = app.extensions["triage"].zone
    midnight = utc(2026, 10, 25, 12).astimezone(zone).replace(hour=0, minute=0)
    assert midnight.astimezone(UTC) == utc(2026, 10, 24, 22)


def test_a_zone_that_does_not_exist_is_named(tmp_path: Path) -> None:
    file = tmp_path / "triage.toml"
    file.write_text('zone = "Europe/Atlantis"\n')
    with pytest.raises(Misconfigured, match="Europe/Atlantis"):
        load(file)

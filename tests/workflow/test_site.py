"""The core's view of the settings, and ids that fit every message."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from triage.domain.finding import Mode
from triage.settings import RouteSettings, RungSettings, Settings
from triage.workflow.site import new_id, site_of


def test_a_ladder_without_routes_tells_everybody_at_once_and_nobody_later() -> None:
    hook = RouteSettings(name="hook", kind="webhook", url="https://hook", secret_file=Path("key"))
    pager = RouteSettings(name="pager", kind="mllp", host="pager", port=2575)

    site = site_of(Settings(routes=(hook, pager), mode="overlay", site="NORTH", quiet_seconds=3))

    assert site.ladder[0].routes == ("hook", "pager")
    assert all(rung.routes == () for rung in site.ladder[1:])
    assert (site.mode, site.name, site.quiet_seconds) == (Mode.OVERLAY, "NORTH", 3)


def test_a_rung_that_names_its_routes_tells_those() -> None:
    hook = RouteSettings(name="hook", kind="webhook", url="https://hook", secret_file=Path("key"))
    ladder = (RungSettings(after_minutes=0), RungSettings(after_minutes=4, routes=("hook",)))

    second = site_of(Settings(routes=(hook,), ladder=ladder)).ladder[1]

    assert (second.after, second.routes) == (timedelta(minutes=4), ("hook",))


def test_ids_fit_a_control_id_and_do_not_repeat() -> None:
    made = {new_id() for _ in range(1000)}

    assert len(made) == 1000
    assert all(len(i) == 20 and i.isalnum() and not set("ILOU") & set(i) for i in made)

"""Once a day: does every release that counts still compute what it was released with? (ux 10, chart 9)

The golden case is fixed input with known output, without gate and without the way through the door: what a driver, a
library or a processor changes shows here, where the constancy phantom only says that a flag still comes. Each answer is
an event of the audit; one that drifted is told to operators.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from triage.domain.errors import TriageError
from triage.domain.monitoring import GOLDEN_ACTS, GOLDEN_DRIFTED, GOLDEN_FITS
from triage.log import get_logger
from triage.store import audit, constancy, events, releases
from triage.store.database import Database
from triage.workflow.releases import find_release, verify_release
from triage.workflow.site import NewId, new_id

EVERY = timedelta(hours=24)
Difference = Callable[
    [str, str, Sequence[Path]], float
]  # of a release by (detector, version); raises TriageError
log = get_logger()


def check_due(
    database: Database,
    places: Sequence[Path],
    operator_routes: Sequence[str],
    clock: Callable[[], datetime],
    difference: Difference | None = None,
    ids: NewId = new_id,
) -> int:
    """Compute every active release that was not looked at for a day; returns how many were."""
    with database.read() as tx:
        due = [r for r in releases.in_states(tx, "active") if _is_due(tx, r["id"], clock())]
    for release in due:
        try:
            found: float | None = (difference or in_a_child)(release["detector"], release["version"], places)
            error = ""
        except TriageError as trouble:
            found, error = None, str(trouble)
        with database.write() as tx:
            note(tx, release, found, error, operator_routes, ids, clock())
    return len(due)


def note(
    tx: Connection, release: dict[str, Any], difference: float | None, error: str, operator_routes: Sequence[str],
    ids: NewId, now: datetime,
) -> None:  # fmt: skip
    """Keep one answer; `error` says what does not fit."""
    title = f"{release['detector']} {release['version']}"
    detail = {
        "detector": release["detector"],
        "version": release["version"],
        "difference": difference,
        "error": error,
    }
    audit.append(
        tx, now, "triage", GOLDEN_DRIFTED if error else GOLDEN_FITS, "release", release["id"], detail
    )
    if not error:
        return
    text = f"{title} no longer computes what it was released with: {error}. Run: triage models verify"
    for route in operator_routes:
        constancy.add_notice(tx, GOLDEN_DRIFTED, text, route, ids(), now)
    events.publish(tx, now, "health", None, golden=False)
    log.error(GOLDEN_DRIFTED, detector=release["detector"], version=release["version"], detail=error)


def in_a_child(detector: str, version: str, places: Sequence[Path]) -> float:
    """The networks and their memory leave with the child."""
    with ProcessPoolExecutor(max_workers=1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_compute, detector, version, tuple(places)).result()


def _compute(detector: str, version: str, places: Sequence[Path]) -> float:
    return verify_release(find_release(detector, version, places), places)


def _is_due(tx: Connection, release_id: int, now: datetime) -> bool:
    last = audit.newest(tx, GOLDEN_ACTS, "release", release_id)
    return last is None or now - last >= EVERY

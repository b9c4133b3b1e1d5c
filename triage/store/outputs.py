"""Objects that we made: which completed Runs still lack theirs, and what was written where.

One of a kind for a Run and a version of its study's identity: who is named anew gets objects anew. `path` is relative to
the outputs folder. A row is `written` once its file is durable, `failed` with the reason, `superseded` when out of date.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, and_, func, or_, select, update
from sqlalchemy.sql import Select

from triage.domain.run import RunState
from triage.store.dispatches import NOTE
from triage.store.runs import SHADOW
from triage.store.schema import output, release, run, series, study
from triage.store.upsert import insert_or_get

_OPEN = (RunState.REQUESTED.value, RunState.RUNNING.value)


@dataclass(frozen=True, kw_only=True)
class Completed:
    """A completed Run with what its objects need beside headers and findings.

    made_before       how often objects of this study were made before these: numbers our series
    identity_version  how often its study was named anew
    told_digest       of whom the newest objects of this Run tell; "": there are none, or nobody noted it
    """

    run_id: int
    study_id: int
    study_instance_uid: str
    accession_number: str
    series_instance_uid: str
    detector: str
    version: str
    release_digest: str
    not_covered: tuple[str, ...]
    input_digest: str
    sop_instance_uids: tuple[str, ...]
    mode: str
    requested_at: datetime
    finished_at: datetime
    identity_version: int
    made_before: int = 0
    told_digest: str = ""


def waiting(tx: Connection, after: int, limit: int) -> list[int]:
    """Completed Runs with an id above `after` that have no object yet, oldest first.

    Shadow Runs and constancy studies never get one: neither is for an archive.
    """
    has_one = select(output.c.id).where(output.c.run_id == run.c.id).exists()
    query = (
        select(run.c.id)
        .join(study, study.c.id == run.c.study_id)
        .where(
            run.c.id > after,
            run.c.state == RunState.COMPLETED.value,
            run.c.queue != SHADOW,
            study.c.constancy.is_(False),
            ~has_one,
        )
        .order_by(run.c.id)
        .limit(limit)
    )
    return [int(r.id) for r in tx.execute(query)]


def named_anew(tx: Connection, limit: int) -> list[int]:
    """Completed Runs with objects whose study was named anew since these were looked at."""
    query = (
        select(run.c.id)
        .where(
            run.c.named_anew,
            run.c.state == RunState.COMPLETED.value,
            select(output.c.id).where(output.c.run_id == run.c.id).exists(),
        )
        .order_by(run.c.id)
        .limit(limit)
    )
    return [int(r.id) for r in tx.execute(query)]


def looked_at(tx: Connection, read: Completed) -> None:
    """The objects of this Run name whom the study was of when it was read; unless it was named anew since."""
    same = update(run).where(run.c.id == read.run_id, run.c.identity_version == read.identity_version)
    tx.execute(same.values(named_anew=False))


def settled_up_to(tx: Connection) -> int:
    """The id up to which no Run is open any more: once nothing waits, the next look may begin there."""
    first_open = tx.execute(select(func.min(run.c.id)).where(run.c.state.in_(_OPEN))).scalar_one()
    if first_open is not None:
        return int(first_open) - 1
    return int(tx.execute(select(func.coalesce(func.max(run.c.id), 0))).scalar_one())


def completed(tx: Connection, run_id: int) -> Completed | None:
    """None when the Run was superseded or removed meanwhile."""
    return find_run(tx, run_id, RunState.COMPLETED)


def find_run(
    tx: Connection, run_id: int, state: RunState | None = None, *, at: int | None = None
) -> Completed | None:
    """A Run with what its objects need, in this state alone or in any. at: as it was at this version of the identity"""
    query = _runs().where(run.c.id == run_id, *([run.c.state == state.value] if state else []))
    row = tx.execute(query).mappings().first()
    if row is None:
        return None
    values = dict(row) | ({} if at is None else {"identity_version": at})
    made = tx.execute(
        select(output.c.run_id, output.c.identity_version, output.c.told_digest)
        .join(run, run.c.id == output.c.run_id)
        .where(run.c.study_id == row["study_id"], output.c.kind != NOTE)
        .order_by(output.c.id)
    ).all()
    sets = list(dict.fromkeys((m.run_id, m.identity_version) for m in made))
    own = (run_id, values["identity_version"])
    return _completed(
        values,
        made_before=sets.index(own) if own in sets else len(sets),
        told_digest=next((m.told_digest for m in reversed(made) if m.run_id == run_id), ""),
    )


def before(tx: Connection, newer: Completed, kind: str) -> tuple[Completed, int] | None:
    """The written object of `kind` whose place these take, by its Run and the version of the identity it was made at.

    It is the same Run's under an earlier name, else that of the newest superseded Run of the same detector over some
    of these images.
    """
    query = (
        _runs()
        .add_columns(output.c.identity_version.label("made_at"))
        .join(output, output.c.run_id == run.c.id)
        .where(
            series.c.series_instance_uid == newer.series_instance_uid,
            run.c.study_id == newer.study_id,
            or_(
                and_(run.c.id < newer.run_id, run.c.state == RunState.SUPERSEDED.value),
                and_(run.c.id == newer.run_id, output.c.identity_version < newer.identity_version),
            ),
            release.c.detector == newer.detector,
            output.c.kind == kind,
            output.c.path != "",
        )
        .order_by(run.c.id.desc(), output.c.identity_version.desc())
    )
    images = set(newer.sop_instance_uids)
    for row in tx.execute(query).mappings():
        if images & set(row["sop_instance_uids"]):
            values = dict(row)
            made_at = int(values.pop("made_at"))
            return _completed(values), made_at
    return None


def record(
    tx: Connection, run_id: int, kind: str, sop_instance_uid: str, now: datetime, *, path: str = "",
    state: str = "written", detail: str = "", identity_version: int = 0, told_digest: str = "", peer: str = "",
) -> int | None:  # fmt: skip
    """Keep that an object was made; its id, or None when it is known already. peer: of a note, which is for it alone"""
    key = {"run_id": run_id, "kind": kind, "identity_version": identity_version, "peer": peer}
    values = {
        "sop_instance_uid": sop_instance_uid,
        "path": path,
        "state": state,
        "detail": detail[:400],
        "created_at": now,
        "told_digest": told_digest,
    }
    output_id, inserted = insert_or_get(tx, output, key, values)
    return output_id if inserted else None


def written(tx: Connection, after: int, kinds: Sequence[str], since: datetime, limit: int) -> list[int]:
    """Ids above `after` of objects of these kinds that were written since, oldest first."""
    query = (
        select(output.c.id)
        .where(
            output.c.id > after,
            output.c.kind.in_(kinds),
            output.c.state == "written",
            output.c.created_at >= since,
        )
        .order_by(output.c.id)
        .limit(limit)
    )
    return list(tx.execute(query).scalars())


def of_runs(tx: Connection, run_ids: Sequence[int]) -> list[dict[str, Any]]:
    query = select(output).where(output.c.run_id.in_(list(run_ids))).order_by(output.c.id)
    return [dict(r) for r in tx.execute(query).mappings()]


def find(tx: Connection, sop_instance_uid: str) -> int | None:
    query = select(output.c.id).where(output.c.sop_instance_uid == sop_instance_uid)
    return tx.execute(query).scalar_one_or_none()


def is_as_read(tx: Connection, read: Completed) -> bool:
    """False when the Run was superseded or removed, or its study named anew, since it was read.

    The row is locked: whoever supersedes the Run or names it anew finds what is recorded now.
    """
    query = select(run.c.id).where(
        run.c.id == read.run_id,
        run.c.state == RunState.COMPLETED.value,
        run.c.identity_version == read.identity_version,
    )
    return tx.execute(query.with_for_update()).first() is not None


def _runs() -> Select[Any]:
    return (
        select(
            run.c.id.label("run_id"),
            run.c.study_id,
            study.c.study_instance_uid,
            study.c.accession_number,
            series.c.series_instance_uid,
            release.c.detector,
            release.c.version,
            release.c.digest.label("release_digest"),
            release.c.not_covered,
            run.c.input_digest,
            run.c.sop_instance_uids,
            run.c.mode,
            run.c.requested_at,
            run.c.finished_at,
            run.c.identity_version,
        )
        .join(study, study.c.id == run.c.study_id)
        .join(series, series.c.id == run.c.series_id)
        .join(release, release.c.id == run.c.release_id)
    )


def _completed(row: dict[str, Any], **more: Any) -> Completed:
    lists = {name: tuple(row[name]) for name in ("not_covered", "sop_instance_uids")}
    return Completed(**{**row, **lists}, **more)

"""What the spool holds, as DICOM's query model asks for it: studies, series, instances (PS3.4 C, PS3.18 10.6).

Constancy studies are not there for anybody. Patients are those of the rows, also after merges.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, Select, func, or_, select

from triage.domain.rejection import VIEWABLE
from triage.store.schema import instance, patient, series, study

Level = Literal["study", "series", "instance"]


@dataclass(frozen=True)
class Match:
    """One condition. how: "uid" any of the values, "text" with wildcards, "name" too but any case, "range" low-high
    (either may be empty), "number"."""

    key: str
    how: Literal["uid", "text", "name", "range", "number"]
    values: tuple[str, ...]


def _of_first(name: str) -> Any:
    """A header value of a study's first instance."""
    first = instance.alias()
    of = series.alias()
    return (
        select(first.c.header[name].as_string())
        .join(of, of.c.id == first.c.series_id)
        .where(of.c.study_id == study.c.id)
        .order_by(first.c.id)
        .limit(1)
        .scalar_subquery()
    )


_COLUMNS: dict[str, Any] = {
    "StudyInstanceUID": study.c.study_instance_uid,
    "AccessionNumber": study.c.accession_number,
    "StudyDescription": study.c.study_description,
    "ReferringPhysicianName": study.c.referring_physician_name,
    "PatientID": patient.c.patient_id,
    "IssuerOfPatientID": patient.c.issuer_of_patient_id,
    "PatientName": patient.c.patient_name,
    "PatientBirthDate": patient.c.patient_birth_date,
    "PatientSex": patient.c.patient_sex,
    "SeriesInstanceUID": series.c.series_instance_uid,
    "Modality": series.c.modality,
    "SeriesDescription": series.c.series_description,
    "BodyPartExamined": series.c.body_part_examined,
    "SeriesNumber": series.c.series_number,
    "SOPInstanceUID": instance.c.sop_instance_uid,
    "SOPClassUID": instance.c.sop_class_uid,
    "InstanceNumber": instance.c.header["instance_number"].as_integer(),
}
_FIRST = {"StudyDate": "study_date", "StudyTime": "study_time", "StudyID": "study_id"}
KEYS: dict[Level, frozenset[str]] = {
    "study": frozenset({*_FIRST, "ModalitiesInStudy", *list(_COLUMNS)[:9]}),
    "series": frozenset(list(_COLUMNS)[9:14]),
    "instance": frozenset(list(_COLUMNS)[14:]),
}


def search(
    tx: Connection, level: Level, matches: Sequence[Match], limit: int, offset: int
) -> list[dict[str, Any]]:
    """Rows of a level with what is above them, newest study first. One more than `limit` says that there are more."""
    columns: list[Any] = [
        study, patient.c.patient_id.label("patient_code"), patient.c.issuer_of_patient_id, patient.c.patient_name,
        patient.c.patient_birth_date, patient.c.patient_sex,
    ]  # fmt: skip
    order: list[Any] = [study.c.id.desc()]
    if level != "study":
        columns += [
            series.c.id.label("series_id"), series.c.series_instance_uid, series.c.modality, series.c.series_number,
            series.c.series_description, series.c.body_part_examined, series.c.instance_count,
        ]  # fmt: skip
        order.append(series.c.id)
    if level == "instance":
        columns += [instance.c.header, instance.c.digest, instance.c.size_bytes]
        order.append(instance.c.id)
    query = _from(select(*columns), level).where(study.c.constancy.is_(False))
    for match in matches:
        query = query.where(_condition(match, level))
    rows = tx.execute(query.order_by(*order).limit(limit).offset(offset)).mappings()
    return [dict(r) for r in rows]


def of_studies(tx: Connection, study_ids: Sequence[int]) -> dict[int, dict[str, Any]]:
    """{study id: modalities, series and instance counts, header of its first instance}."""
    found: dict[int, dict[str, Any]] = {}
    rows = tx.execute(
        select(
            series.c.study_id, series.c.modality, func.count(instance.c.id).label("instances"),
            func.min(instance.c.id).label("first"),
        )
        .join(instance, instance.c.series_id == series.c.id)
        .where(series.c.study_id.in_(study_ids))
        .group_by(series.c.id)
        .order_by(series.c.id)
    )  # fmt: skip
    for r in rows:
        one = found.setdefault(r.study_id, {"modalities": [], "series": 0, "instances": 0, "first": r.first})
        one["series"] += 1
        one["instances"] += r.instances
        one["first"] = min(one["first"], r.first)
        if r.modality not in one["modalities"]:
            one["modalities"].append(r.modality)
    firsts = {one["first"]: study_id for study_id, one in found.items()}
    for row in tx.execute(select(instance.c.id, instance.c.header).where(instance.c.id.in_(firsts))):
        found[firsts[row.id]]["header"] = row.header
    return found


def _from(query: Select[Any], level: Level) -> Select[Any]:
    query = query.select_from(study).join(patient, patient.c.id == study.c.patient_id)
    if level != "study":
        query = query.join(series, series.c.study_id == study.c.id).where(series.c.instance_count > 0)
    if level == "instance":
        query = query.join(instance, instance.c.series_id == series.c.id)
        query = query.where(instance.c.rejected.in_(VIEWABLE))
    return query


def _condition(match: Match, level: Level) -> ColumnElement[bool]:
    if match.key == "ModalitiesInStudy":
        other = series.alias()
        found = select(other.c.id).where(other.c.study_id == study.c.id, _says(other.c.modality, match))
        return found.exists()
    if match.key in _FIRST:
        if level == "instance":
            return _says(instance.c.header[_FIRST[match.key]].as_string(), match)
        return _says(_of_first(_FIRST[match.key]), match)
    return _says(_COLUMNS[match.key], match)


def _says(column: Any, match: Match) -> ColumnElement[bool]:
    if match.how == "uid":
        return column.in_(match.values)  # type: ignore[no-any-return]
    if match.how == "number":
        return column == int(match.values[0])  # type: ignore[no-any-return]
    if match.how == "range":
        low, high = match.values
        conditions = [
            c
            for c in (column >= low if low else None, column <= high + "~" if high else None)
            if c is not None
        ]
        return conditions[0] & conditions[-1]  # type: ignore[no-any-return]
    patterns = [_like(v) for v in match.values]
    if match.how == "name":
        # (family^given=ideographic): a name without its groups' delimiters still finds (PS3.18 8.3.4.2 case-insensitive)
        return or_(*(func.lower(column).like(p.lower(), escape="!") for p in patterns))
    return or_(*(column.like(p, escape="!") for p in patterns))


def _like(text: str) -> str:
    for special in "!%_":
        text = text.replace(special, "!" + special)
    return text.replace("*", "%").replace("?", "_")

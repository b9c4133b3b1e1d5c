"""Rejection notes: why images are taken out of use, and what follows (IHE IOCM; PS3.16 CID 7010; standards 2.7)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """Code values of the document title, scheme DCM, in words; later ones hide more."""

    QUALITY = "quality"
    EXPIRED = "expired"
    SAFETY = "safety"
    WRONG_ENTRY = "wrong_entry"


OF_TITLE: Mapping[str, Reason] = {
    "113001": Reason.QUALITY,
    "113037": Reason.SAFETY,
    "113038": Reason.WRONG_ENTRY,
    "113039": Reason.EXPIRED,
}
WHY: Mapping[Reason, str] = {
    Reason.QUALITY: "the images were rejected for quality",
    Reason.EXPIRED: "the images' retention time is over",
    Reason.SAFETY: "the images were rejected for patient safety",
    Reason.WRONG_ENTRY: "the images are of another patient",
}
VIEWABLE = ("", Reason.QUALITY.value)  # a person may still look at these
_WEIGHT = tuple(Reason)


@dataclass(frozen=True, kw_only=True)
class Rejection:
    """One note. replaces: SOP Instance UIDs of documents that it takes the place of."""

    reason: Reason
    study_instance_uid: str
    sop_instance_uids: frozenset[str]
    replaces: frozenset[str] = frozenset()


def heaviest(reasons: Collection[str]) -> str:
    """Of several live notes about one instance the one that counts; "" for none."""
    return max(reasons, key=lambda r: _WEIGHT.index(Reason(r)), default="")

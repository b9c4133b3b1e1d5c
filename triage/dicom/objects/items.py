"""Content items of a structured report as pydicom data sets (PS3.3 C.17.3), one small function per value type.

Built by hand and not with highdicom: that library takes 2 s and 200 MB to import, writes the clock into what it makes
and drops identity that we must keep (standards 6.6, 6.7). Tests read every object back with it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items

PRIVATE_SCHEME = "99TRIAGE"


class Code(NamedTuple):
    """A coded concept; `meaning` is spelt as in the context groups of PS3.16, since validators compare case."""

    value: str
    scheme: str
    meaning: str


def code(concept: Code) -> Dataset:
    """The item of a code sequence (PS3.3 8.8)."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = concept
    return item


def container(concept: Code, children: Sequence[Dataset]) -> Dataset:
    item = _item("CONTAINER", "CONTAINS", concept, children)
    item.ContinuityOfContent = "SEPARATE"
    return item


def coded(
    concept: Code, value: Code, children: Sequence[Dataset] = (), *, relation: str = "CONTAINS"
) -> Dataset:
    item = _item("CODE", relation, concept, children)
    item.ConceptCodeSequence = Items([code(value)])
    return item


def text(concept: Code, value: str, *, relation: str = "CONTAINS") -> Dataset:
    item = _item("TEXT", relation, concept)
    item.TextValue = value
    return item


def uid(concept: Code, value: str, *, relation: str = "CONTAINS") -> Dataset:
    item = _item("UIDREF", relation, concept)
    item.UID = value
    return item


def number(concept: Code, value: float, unit: Code, children: Sequence[Dataset] = ()) -> Dataset:
    """A measured value: six significant digits as text, and what was measured as a double (standards 6.1)."""
    measured = Dataset()
    measured.MeasurementUnitsCodeSequence = Items([code(unit)])
    measured.NumericValue = f"{value:.6g}"
    measured.FloatingPointValue = float(value)
    item = _item("NUM", "CONTAINS", concept, children)
    item.MeasuredValueSequence = Items([measured])
    return item


def image(sop: Dataset, concept: Code | None = None, *, relation: str = "CONTAINS") -> Dataset:
    """sop  an item of `common.referenced`"""
    item = _item("IMAGE", relation, concept)
    item.ReferencedSOPSequence = Items([sop])
    return item


def composite(sop: Dataset) -> Dataset:
    """Any object that is no image, as a key object selection names it."""
    item = _item("COMPOSITE", "CONTAINS", None)
    item.ReferencedSOPSequence = Items([sop])
    return item


def segment(sop: Dataset, number: int, concept: Code) -> Dataset:
    """An IMAGE item that means one segment of a segmentation (PS3.3 C.17.3, C.18.4)."""
    sop.ReferencedSegmentNumber = number
    return image(sop, concept)


def polygon(concept: Code, points: Sequence[tuple[float, float]], source: Dataset) -> Dataset:
    """A closed outline on one image.

    points  (column, row) from the top-left corner of the top-left pixel (PS3.3 C.18.6.1.2); closed here
    """
    item = _item("SCOORD", "CONTAINS", concept, [image(source, relation="SELECTED FROM")])
    item.GraphicType = "POLYLINE"
    item.GraphicData = [single(v) for point in (*points, points[0]) for v in point]
    return item


def point_in_space(concept: Code, lps_mm: tuple[float, float, float], frame_of_reference_uid: str) -> Dataset:
    item = _item("SCOORD3D", "CONTAINS", concept)
    item.GraphicType = "POINT"
    item.GraphicData = [single(v) for v in lps_mm]
    item.ReferencedFrameOfReferenceUID = frame_of_reference_uid
    return item


def schemes(items: Sequence[Dataset]) -> Iterator[str]:
    """Every coding scheme in the tree below `items`."""
    for item in items:
        for element in item:
            if element.VR == "SQ":
                yield from schemes(element.value)
            elif element.keyword == "CodingSchemeDesignator":
                yield str(element.value)


def _item(value_type: str, relation: str, concept: Code | None, children: Sequence[Dataset] = ()) -> Dataset:
    item = Dataset()
    item.RelationshipType, item.ValueType = relation, value_type
    if concept is not None:
        item.ConceptNameCodeSequence = Items([code(concept)])
    if children:
        item.ContentSequence = Items(children)
    return item


def single(value: float) -> float:
    """As VR FL keeps it, so that what is built equals what is read back."""
    return float(struct.unpack("<f", struct.pack("<f", value))[0])

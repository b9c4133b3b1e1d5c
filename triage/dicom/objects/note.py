"""A rejection note for objects of our own: a Key Object Selection that takes them out of use (IHE IOCM; TID 2010)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items

from triage.dicom.objects import common
from triage.dicom.objects.common import Analysis, Made, Reference
from triage.dicom.objects.items import Code, code, coded, composite, image, text
from triage.dicom.objects.kos import KEY_OBJECT_SELECTION
from triage.domain.rejection import OF_TITLE, Reason

KIND = "note"
_DESCRIPTION = Code("113012", "DCM", "Key Object Description")
_MODIFIER = Code("113011", "DCM", "Document Title Modifier")
_SOFTWARE_FAILURE = Code("111218", "DCM", "Software failure")  # CID 7011; standards 2.7
_MEANINGS: Mapping[Reason, str] = {
    Reason.QUALITY: "Rejected for Quality Reasons",
    Reason.SAFETY: "Rejected for Patient Safety Reasons",
    Reason.EXPIRED: "Data Retention Policy Expired",
}
_TITLES = {
    reason: Code(value, "DCM", _MEANINGS[reason]) for value, reason in OF_TITLE.items() if reason in _MEANINGS
}
_IMAGES = frozenset({"1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.7"})  # SEG and SC have pixels


def build(analysis: Analysis, rejected: Sequence[Reference], reason: Reason, why: str, *, peer: str) -> Made:
    """The note for one peer.

    analysis  of the Run that the rejected objects tell of; of whom the study is now, `finished_at` when the note is made
    rejected  all in that study
    why       in words, for whoever opens the note
    """
    told = replace(analysis, key="|".join((analysis.key, peer)))
    ds = common.new_object(told, KIND, KEY_OBJECT_SELECTION, "KO")
    ds.SeriesNumber = str(analysis.series_number + 8)  # behind those of its objects, before the next set's
    ds.SeriesDescription = common.series_description(analysis.title, "taken back")
    ds.CurrentRequestedProcedureEvidenceSequence = common.hierarchy(rejected)
    if requests := common.requests(analysis):
        ds.ReferencedRequestSequence = requests
    ds.ValueType, ds.ContinuityOfContent = "CONTAINER", "SEPARATE"
    ds.ConceptNameCodeSequence = Items([code(_TITLES[reason])])
    template = Dataset()
    template.MappingResource, template.TemplateIdentifier = "DCMR", "2010"
    template.MappingResourceUID = "1.2.840.10008.8.1.1"
    ds.ContentTemplateSequence = Items([template])
    modifier = [coded(_MODIFIER, _SOFTWARE_FAILURE, relation=common.HAS_MODIFIER)]
    content = [
        *(modifier if reason is Reason.QUALITY else []),
        *common.context(analysis),
        text(_DESCRIPTION, f"Taken back by {common.MANUFACTURER}: {why}"),
        *(_named(r) for r in rejected),
    ]
    return Made(KIND, ds.SOPInstanceUID, common.finish(ds, told, content))


def _named(reference: Reference) -> Dataset:
    item = image if reference.sop_class_uid in _IMAGES else composite
    return item(common.sop_of(reference))

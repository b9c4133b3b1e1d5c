"""The flag of one Run as archives show it: a Key Object Selection, TID 2010 "Of Interest" (PS3.3 A.35.4)."""

from __future__ import annotations

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items

from triage.dicom.objects import common, places
from triage.dicom.objects.common import Analysis, Made
from triage.dicom.objects.items import Code, code, image, text

KIND = "kos"
KEY_OBJECT_SELECTION = "1.2.840.10008.5.1.4.1.1.88.59"
_DESCRIPTION = Code("113012", "DCM", "Key Object Description")


def build(analysis: Analysis) -> Made | None:
    """The flag; None when nothing is flagged.

    It names the film, of a scan the slices through the places that may be told, and where none may be told the whole
    series (standards 6.6).
    """
    if not analysis.findings:
        return None
    ds = common.new_object(analysis, KIND, KEY_OBJECT_SELECTION, "KO")
    ds.SeriesNumber = str(analysis.series_number + 1)
    ds.SeriesDescription = common.series_description(analysis.title, "flag")
    chosen = places.nearest(analysis.sources, analysis.findings) or analysis.sources
    ds.CurrentRequestedProcedureEvidenceSequence = common.evidence(chosen)
    if requests := common.requests(analysis):
        ds.ReferencedRequestSequence = requests
    ds.ValueType, ds.ContinuityOfContent = "CONTAINER", "SEPARATE"
    ds.ConceptNameCodeSequence = Items([code(Code("113000", "DCM", "Of Interest"))])
    template = Dataset()
    template.MappingResource, template.TemplateIdentifier = "DCMR", "2010"
    template.MappingResourceUID = "1.2.840.10008.8.1.1"
    ds.ContentTemplateSequence = Items([template])
    content = [
        *common.context(analysis),
        text(_DESCRIPTION, f"{common.suspected(analysis.findings)} (not read, not for diagnosis)"),
        *(image(common.referenced(h)) for h in chosen),
    ]
    return Made(KIND, ds.SOPInstanceUID, common.finish(ds, analysis, content))

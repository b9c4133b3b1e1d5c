"""The report of one Run: TID 1500 "Measurement Report" as Comprehensive 3D SR, preliminary and unverified.

What a finding carries decides its form: measurements of a nodule make a TID 1411 group, an outline on a film a TID 1410
group, neither a qualitative TID 1501 group per kind of finding. A place that `domain.finding.shown` took away is
therefore nowhere in the object (standards 0.4).
"""

from __future__ import annotations

from collections.abc import Mapping

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items

from triage.dicom.objects import common, places, seg
from triage.dicom.objects.common import HAS_CONTEXT, HAS_MODIFIER, Analysis, Made, Reference
from triage.dicom.objects.items import (
    PRIVATE_SCHEME,
    Code,
    code,
    coded,
    container,
    image,
    number,
    point_in_space,
    polygon,
    segment,
    text,
    uid,
)
from triage.dicom.objects.nodules import Nodule, nodules
from triage.domain.finding import Finding, PriorityClass
from triage.domain.study import CT_CLASSES

KIND = "sr"
COMPREHENSIVE_3D_SR = "1.2.840.10008.5.1.4.1.1.88.34"

# Spelt as in the context groups (CID 6102 to 6105, 645, 3700); of the others the display name with a capital.
_MEANINGS: Mapping[str, str] = {
    "lung_opacity": "Opacity",
    "pneumonia": "Opacity",
    "infiltration": "Infiltrate",
    "nodule": "Nodule",
    "mass": "Mass",
    "cardiomegaly": "Cardiomegaly",
}
_LUNG = Code("39607008", "SCT", "Lung")
_PLEURA = Code("3120008", "SCT", "Pleura")
_SITES: Mapping[str, Code] = {
    "pneumothorax": _PLEURA,
    "effusion": _PLEURA,
    "pleural_thickening": _PLEURA,
    "cardiomegaly": Code("80891009", "SCT", "Heart"),
    "hernia": Code("816094009", "SCT", "Chest"),
    "fracture": Code("816094009", "SCT", "Chest"),
    "abnormal": Code("816094009", "SCT", "Chest"),
}
_SIDES: Mapping[str, Code] = {  # CID 244
    "left": Code("7771000", "SCT", "Left"),
    "right": Code("24028007", "SCT", "Right"),
    "both": Code("51440002", "SCT", "Bilateral"),
}
_TEXTURES: Mapping[str, Code] = {
    "solid": Code("RID50151", "RADLEX", "solid pulmonary nodule"),
    "part_solid": Code("RID50152", "RADLEX", "part-solid pulmonary nodule"),
    "ground_glass": Code("RID50153", "RADLEX", "non-solid pulmonary nodule"),
}
_ACTIONABLE: Mapping[PriorityClass, Code] = {  # CID 7035
    PriorityClass.CRITICAL: Code("RID49480", "RADLEX", "ACR Category 1 Actionable Finding"),
    PriorityClass.HIGH: Code("RID49481", "RADLEX", "ACR Category 2 Actionable Finding"),
    PriorityClass.ELEVATED: Code("RID49482", "RADLEX", "ACR Category 3 Actionable Finding"),
}
_MODALITIES: Mapping[str, str] = {
    "CR": "Computed Radiography",
    "DX": "Digital Radiography",
    "CT": "Computed Tomography",
}
_MM = Code("mm", "UCUM", "mm")
_PERCENT = Code("%", "UCUM", "Percent")
_COMMENT = Code("121106", "DCM", "Comment")


def build(analysis: Analysis) -> Made:
    """The report; also of a Run that flagged nothing, which it says without calling anything normal."""
    ds = common.new_object(analysis, KIND, COMPREHENSIVE_3D_SR, "SR")
    ds.SeriesNumber = str(analysis.series_number)
    ds.SeriesDescription = common.series_description(analysis.title, "result")
    ds.PreliminaryFlag, ds.CompletionFlag, ds.VerificationFlag = "PRELIMINARY", "COMPLETE", "UNVERIFIED"
    ds.PerformedProcedureCodeSequence = Items([])
    segmentation = seg.reference(analysis) if analysis.cites_segmentation else None
    ds.CurrentRequestedProcedureEvidenceSequence = common.evidence(analysis.sources, segmentation)
    if requests := common.requests(analysis):
        ds.ReferencedRequestSequence = requests
    if analysis.predecessors:
        ds.PredecessorDocumentsSequence = common.hierarchy(analysis.predecessors)
    ds.ValueType, ds.ContinuityOfContent = "CONTAINER", "SEPARATE"
    ds.ConceptNameCodeSequence = Items([code(Code("126000", "DCM", "Imaging Measurement Report"))])
    ds.ContentTemplateSequence = Items([_template("1500")])
    content = [*common.context(analysis), _procedure(), _image_library(analysis)]
    if groups := _groups(analysis, segmentation):
        content.append(container(Code("126010", "DCM", "Imaging Measurements"), groups))
    content.append(_words(analysis))
    return Made(KIND, ds.SOPInstanceUID, common.finish(ds, analysis, content))


def _template(identifier: str) -> Dataset:
    item = Dataset()
    item.MappingResource, item.TemplateIdentifier = "DCMR", identifier
    item.MappingResourceUID = "1.2.840.10008.8.1.1"
    return item


def _procedure() -> Dataset:
    """The procedure that was analysed, never the algorithm (IHE AIR); general, to stay in CID 100."""
    reported = Code("363679005", "SCT", "Imaging procedure")
    return coded(Code("121058", "DCM", "Procedure reported"), reported, relation=HAS_MODIFIER)


def _image_library(analysis: Analysis) -> Dataset:
    """TID 1600: what was looked at, all of it, so that it points to nothing."""
    modality = analysis.sources[0].modality
    entries = [image(common.referenced(h)) for h in analysis.sources]
    if modality in _MODALITIES:
        concept = Code("121139", "DCM", "Modality")
        value = Code(modality, "DCM", _MODALITIES[modality])
        entries.insert(0, coded(concept, value, relation="HAS ACQ CONTEXT"))
    group = container(Code("126200", "DCM", "Image Library Group"), entries)
    return container(Code("111028", "DCM", "Image Library"), [group])


def _words(analysis: Analysis) -> Dataset:
    """What the codes cannot say: suspected only, not read, and what was not looked for."""
    lines = [
        f"{common.suspected(analysis.findings)}. By software, not yet read by a person."
        if analysis.findings
        else "No flag raised by software. This is no statement that the study is normal.",
        "Not for diagnosis.",
    ]
    if analysis.not_covered:
        lines.append(f"Not assessed: {', '.join(n.replace('_', ' ') for n in analysis.not_covered)}.")
    for nodule in nodules(analysis):
        lines += filter(None, (_zone_words(nodule), _growth_words(nodule)))
    return container(
        Code("C0034375", "UMLS", "Qualitative Evaluations"), [text(_COMMENT, line) for line in lines]
    )


def _zone_words(nodule: Nodule) -> str:
    """The third of the lungs' height: no lobe, which nobody segmented, and so no code of one."""
    zone = nodule.finding.location.zone if nodule.finding.location else ""
    return f"{nodule.name}: {zone} third of the height of the lungs." if zone else ""


def _growth_words(nodule: Nodule) -> str:
    growth = nodule.finding.growth
    if growth is None:
        return ""
    volume = "" if growth.volume_change_percent is None else f", volume {growth.volume_change_percent:+.0f} %"
    return (
        f"{nodule.name}: mean diameter {growth.diameter_change_mm:+.1f} mm since {growth.prior_diameter_mm:.1f} mm in "
        f"the CT {growth.days} days earlier{volume}. For information; software matched the two."
    )


# --- groups --------------------------------------------------------------------------------------------------


def _groups(analysis: Analysis, segmentation: Reference | None) -> list[Dataset]:
    outlined = [f for f in analysis.findings if f.measurements is None and places.outline_of(f)]
    kinds: dict[str, Finding] = {}
    for f in analysis.findings:
        if f.measurements is None and not places.outline_of(f):
            best = kinds.get(f.name)
            kinds[f.name] = f if best is None or f.probability > best.probability else best
    return [
        *(_qualitative_group(analysis, f) for f in kinds.values()),
        *(_outlined_group(analysis, f) for f in outlined),
        *(_nodule_group(analysis, n, segmentation) for n in nodules(analysis)),
    ]


def _qualitative_group(analysis: Analysis, finding: Finding) -> Dataset:
    """TID 1501: that it is suspected, and how sure."""
    children = [*_tracked_kind(analysis, finding), *_algorithm(analysis, finding)]
    if finding.location is not None and finding.location.side:
        children.append(_site(finding, _SITES.get(finding.name, _LUNG)))
    children += _judgements(finding)
    if len(analysis.sources) == 1:
        source = Code("121112", "DCM", "Source of Measurement")
        children.append(image(common.referenced(analysis.sources[0]), source))
    return _group(children)


def _outlined_group(analysis: Analysis, finding: Finding) -> Dataset:
    """TID 1410: the same with its outline on the one film."""
    film = analysis.sources[0]
    children = [*_tracked_kind(analysis, finding), *_algorithm(analysis, finding)]
    if finding.location is not None and finding.location.side:
        children.append(_site(finding, _SITES.get(finding.name, _LUNG)))
    region = Code("111030", "DCM", "Image Region")
    children.append(
        polygon(region, places.on_film(places.outline_of(finding), film), common.referenced(film))
    )
    return _group([*children, *_judgements(finding)])


def _nodule_group(analysis: Analysis, nodule: Nodule, segmentation: Reference | None) -> Dataset:
    """TID 1411: its place is a segment of the segmentation where there is one, else a point."""
    finding, m = nodule.finding, nodule.finding.measurements
    assert m is not None
    source = analysis.sources[0]
    children = [
        *_tracked(finding, nodule.name, nodule.followed),
        *_algorithm(analysis, finding),
        _site(finding, _LUNG),
    ]
    series = Code("121232", "DCM", "Source series for segmentation")
    if nodule.segment is not None and segmentation is not None:
        where = Code("121191", "DCM", "Referenced Segment")
        children.append(segment(common.sop_of(segmentation), nodule.segment, where))
        children.append(uid(series, source.series_instance_uid))
    elif source.frame_of_reference_uid:
        where = Code("121231", "DCM", "Volume Surface")
        children.append(point_in_space(where, m.center_lps_mm, source.frame_of_reference_uid))
        children.append(uid(series, source.series_instance_uid))
    children += [
        number(Code("103339001", "SCT", "Long axis"), m.long_axis_mm, _MM),
        number(Code("103340004", "SCT", "Short axis"), m.short_axis_mm, _MM),
        number(
            Code("81827009", "SCT", "Diameter"),
            round((m.long_axis_mm + m.short_axis_mm) / 2, 1),
            _MM,
            [_derived_mean()],
        ),
        number(
            Code("118565006", "SCT", "Volume"),
            m.volume_mm3,
            Code("mm3", "UCUM", "cubic millimeter"),
            [_summed_voxels()],
        ),
        number(
            Code("112031", "DCM", "Attenuation Coefficient"),
            m.mean_hu,
            Code("[hnsf'U]", "UCUM", "Hounsfield unit"),
            [_derived_mean()],
        ),
        *_judgements(finding),
    ]
    if m.texture in _TEXTURES:
        children.append(coded(Code("TEXTURE", PRIVATE_SCHEME, "Nodule texture"), _TEXTURES[m.texture]))
    return _group(children)


def _derived_mean() -> Dataset:
    return coded(Code("121401", "DCM", "Derivation"), Code("373098007", "SCT", "Mean"), relation=HAS_MODIFIER)


def _summed_voxels() -> Dataset:
    method = Code("126030", "DCM", "Sum of segmented voxel method for volume")
    return coded(Code("370129005", "SCT", "Measurement Method"), method, relation=HAS_MODIFIER)


def _group(children: list[Dataset]) -> Dataset:
    return container(Code("125007", "DCM", "Measurement Group"), children)


def _tracked_kind(analysis: Analysis, finding: Finding) -> list[Dataset]:
    """Identity of a finding of this kind on these images, the same after every re-run."""
    first = analysis.sources[0]
    on = first.series_instance_uid if first.sop_class_uid in CT_CLASSES else first.sop_instance_uid
    return _tracked(
        finding,
        f"{analysis.detector}/{finding.name}",
        common.derived_uid("finding", on, analysis.detector, finding.name),
    )


def _tracked(finding: Finding, name: str, followed: str) -> list[Dataset]:
    return [
        text(Code("112039", "DCM", "Tracking Identifier"), name, relation=HAS_CONTEXT),
        uid(Code("112040", "DCM", "Tracking Unique Identifier"), followed, relation=HAS_CONTEXT),
        coded(Code("121071", "DCM", "Finding"), _code_of(finding)),
    ]


def _algorithm(analysis: Analysis, finding: Finding) -> list[Dataset]:
    """TID 4019."""
    parameters = f"release {analysis.release_digest[:16]}; threshold {finding.threshold}"
    return [
        text(Code("111001", "DCM", "Algorithm Name"), analysis.detector, relation=HAS_MODIFIER),
        text(Code("111003", "DCM", "Algorithm Version"), analysis.version, relation=HAS_MODIFIER),
        text(Code("111002", "DCM", "Algorithm Parameters"), parameters, relation=HAS_MODIFIER),
    ]


def _judgements(finding: Finding) -> list[Dataset]:
    """How sure in calibrated percent, and how soon somebody should look."""
    certainty = Code("111012", "DCM", "Certainty of Finding")
    said = [number(certainty, round(100 * finding.probability, 1), _PERCENT)]
    category = _ACTIONABLE.get(finding.coded.priority_class)
    if category is not None:
        said.append(coded(Code("ACTCLASS", PRIVATE_SCHEME, "Actionable finding class"), category))
    return said


def _site(finding: Finding, site: Code) -> Dataset:
    side = finding.location.side if finding.location else ""
    laterality = Code("272741003", "SCT", "Laterality")
    lateral = [coded(laterality, _SIDES[side], relation=HAS_MODIFIER)] if side in _SIDES else []
    return coded(Code("363698007", "SCT", "Finding Site"), site, lateral, relation=HAS_MODIFIER)


def _code_of(finding: Finding) -> Code:
    coded_as = finding.coded
    meaning = _MEANINGS.get(finding.name, coded_as.display.capitalize())
    return Code(coded_as.code, coded_as.scheme, meaning)

"""Outlines and marks over the received images, as viewers lay them on: a softcopy presentation state (PS3.3 A.33.1).

Overlay mode only, and only where a site asks for it: many viewers apply the newest presentation state by themselves
(standards 6.6). The image's own window stays; an image whose look is a lookup table gets none.
"""

from __future__ import annotations

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items

from triage.dicom.objects import common, nodules, places
from triage.dicom.objects.common import Analysis, Made
from triage.dicom.objects.items import single
from triage.domain.finding import Finding
from triage.domain.study import CT_CLASSES, InstanceHeader

KIND = "gsps"
PRESENTATION_STATE = "1.2.840.10008.5.1.4.1.1.11.1"
LAYER = "AI"
LUNG_WINDOW = (-600.0, 1500.0)  # centre, width in HU
AROUND_MM = 4.0  # a circle keeps so far off what it marks
_GREY, _COLOUR = 0xFFFF, (56_000, 34_000, 54_000)
Mark = tuple[InstanceHeader, Dataset]


def build(analysis: Analysis) -> Made | None:
    """The presentation state; None when no place may be told or the images' own look could not be kept."""
    scan = analysis.sources[0].sop_class_uid in CT_CLASSES
    marks = _on_slices(analysis) if scan else _on_film(analysis)
    if not marks or not _look_can_be_kept(analysis.sources):
        return None
    ds = common.new_object(analysis, KIND, PRESENTATION_STATE, "PR")
    ds.SeriesNumber = str(analysis.series_number + 3)
    ds.SeriesDescription = common.series_description(analysis.title, "marks")
    ds.BodyPartExamined = "CHEST"
    ds.ContentLabel, ds.ContentDescription = "AI_MARKS", "AI marks (not for diagnosis)"
    ds.ContentCreatorName = ""  # no person made it
    ds.PresentationCreationDate, ds.PresentationCreationTime = ds.ContentDate, ds.ContentTime
    del ds.ContentDate, ds.ContentTime
    series = Dataset()
    series.SeriesInstanceUID = analysis.sources[0].series_instance_uid
    series.ReferencedImageSequence = Items([common.referenced(h) for h in analysis.sources])
    ds.ReferencedSeriesSequence = Items([series])
    _appearance(ds, analysis.sources)
    layer = Dataset()
    layer.GraphicLayer, layer.GraphicLayerOrder = LAYER, "1"
    layer.GraphicLayerRecommendedDisplayGrayscaleValue = _GREY
    layer.GraphicLayerRecommendedDisplayCIELabValue = list(_COLOUR)
    ds.GraphicLayerSequence = Items([layer])
    ds.GraphicAnnotationSequence = Items([_annotation(header, mark) for header, mark in marks])
    return Made(KIND, ds.SOPInstanceUID, common.part10(ds, analysis))


def _look_can_be_kept(sources: tuple[InstanceHeader, ...]) -> bool:
    """One state says one rescale, size and polarity for all its images, and no lookup table."""
    said = {
        (h.rescale_slope, h.rescale_intercept, h.photometric_interpretation, h.rows, h.columns)
        for h in sources
    }
    shape_known = sources[0].photometric_interpretation in ("MONOCHROME1", "MONOCHROME2")
    return len(said) == 1 and shape_known and not any(h.has_voi_lut for h in sources)


def _appearance(ds: Dataset, sources: tuple[InstanceHeader, ...]) -> None:
    """Modality LUT, window, area and polarity as the images have them (PS3.3 C.11.1, C.11.8, C.10.4, C.11.6)."""
    first = sources[0]
    if first.rescale_slope is not None and first.rescale_intercept is not None:
        ds.RescaleIntercept, ds.RescaleSlope = (
            f"{first.rescale_intercept:.10g}",
            f"{first.rescale_slope:.10g}",
        )
        ds.RescaleType = first.rescale_type or ("HU" if first.sop_class_uid in CT_CLASSES else "US")
    window = first.window or (LUNG_WINDOW if first.sop_class_uid in CT_CLASSES else None)
    if window is not None:
        voi = Dataset()
        voi.WindowCenter, voi.WindowWidth = (f"{v:.10g}" for v in window)
        ds.SoftcopyVOILUTSequence = Items([voi])
    area = Dataset()
    area.DisplayedAreaTopLeftHandCorner = [1, 1]
    area.DisplayedAreaBottomRightHandCorner = [first.columns, first.rows]
    area.PresentationSizeMode = "SCALE TO FIT"
    if first.pixel_spacing_mm:
        area.PresentationPixelSpacing = [f"{v:.10g}" for v in first.pixel_spacing_mm]
    else:
        area.PresentationPixelAspectRatio = ["1", "1"]
    ds.DisplayedAreaSelectionSequence = Items([area])
    ds.PresentationLUTShape = "INVERSE" if first.photometric_interpretation == "MONOCHROME1" else "IDENTITY"


def _annotation(header: InstanceHeader, mark: Dataset) -> Dataset:
    mark.GraphicLayer = LAYER
    mark.ReferencedImageSequence = Items([common.referenced(header)])
    return mark


def _on_film(analysis: Analysis) -> list[Mark]:
    film = analysis.sources[0]
    return [
        (film, _outlined(outline, f"AI: {f.coded.display} suspected", film))
        for f in analysis.findings
        if (outline := places.on_film(places.outline_of(f), film))
    ]


def _on_slices(analysis: Analysis) -> list[Mark]:
    """A circle around each nodule, on every slice that it reaches."""
    marks: list[Mark] = []
    for n in nodules.nodules(analysis):
        for header in _slices(analysis.sources, n):
            marks.append((header, _circled(n.finding, n.name, header)))
    return marks


def _slices(sources: tuple[InstanceHeader, ...], n: nodules.Nodule) -> list[InstanceHeader]:
    if n.masks:
        return [sources[i] for i, _ in n.masks]
    return list(places.nearest(sources, [n.finding]))


def _outlined(points: list[tuple[float, float]], words: str, film: InstanceHeader) -> Dataset:
    closed = [*points, points[0]]
    top = min(points, key=lambda p: p[1])
    return _mark("POLYLINE", [v for p in closed for v in p], len(closed), words, top, film)


def _circled(finding: Finding, name: str, header: InstanceHeader) -> Dataset:
    m = finding.measurements
    assert m is not None and header.pixel_spacing_mm is not None
    column, row = (v + 0.5 for v in places.pixel_at(header, m.center_lps_mm))
    radius = (m.long_axis_mm / 2 + AROUND_MM) / header.pixel_spacing_mm[1]
    middle, edge = _kept((column, row), header), _kept((column + radius, row), header)
    return _mark("CIRCLE", [*middle, *edge], 2, f"AI: {name}, {m.long_axis_mm:g} mm", edge, header)


def _mark(
    kind: str, data: list[float], points: int, words: str, at: tuple[float, float], header: InstanceHeader
) -> Dataset:
    """One graphic with its words (PS3.3 C.10.5): pixels from the top-left corner of the top-left pixel."""
    graphic = Dataset()
    graphic.GraphicAnnotationUnits, graphic.GraphicDimensions = "PIXEL", 2
    graphic.NumberOfGraphicPoints, graphic.GraphicData = points, [single(v) for v in data]
    graphic.GraphicType, graphic.GraphicFilled = kind, "N"
    text = Dataset()
    text.AnchorPointAnnotationUnits, text.UnformattedTextValue = "PIXEL", words
    text.AnchorPoint, text.AnchorPointVisibility = [single(v) for v in _kept(at, header)], "N"
    mark = Dataset()
    mark.TextObjectSequence, mark.GraphicObjectSequence = Items([text]), Items([graphic])
    return mark


def _kept(point: tuple[float, float], header: InstanceHeader) -> tuple[float, float]:
    return min(max(point[0], 0.0), float(header.columns)), min(max(point[1], 0.0), float(header.rows))

"""The voxels of each nodule as a binary segmentation: one segment per nodule on the planes of the scan (PS3.3 A.51).

Written by hand as the reports are (docs/decisions/0005): everything that it needs stands in the headers and findings.
"""

from __future__ import annotations

import numpy as np
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items

from triage.dicom.objects import common
from triage.dicom.objects.common import Analysis, Made, Reference
from triage.dicom.objects.items import Code, code
from triage.dicom.objects.nodules import Nodule, nodules, pixels
from triage.domain.finding import SliceMask
from triage.domain.study import InstanceHeader

KIND = "seg"
SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
MOST_FRAMES = 4_000
_LUNG = Code("39607008", "SCT", "Lung")
_NODULE = Code("27925004", "SCT", "Nodule")
_MASS = Code("4147007", "SCT", "Mass")
_ABNORMAL = Code("49755003", "SCT", "Morphologically Abnormal Structure")
# CIELab as PS3.3 C.10.7.1.1 scales it: six colours that are told apart on grey, used in turn.
_COLOURS = (
    (48_000, 34_000, 50_000),
    (44_000, 20_000, 30_000),
    (50_000, 45_000, 40_000),
    (56_000, 28_000, 52_000),
    (40_000, 46_000, 20_000),
    (52_000, 22_000, 36_000),
)
Frame = tuple[Nodule, int, SliceMask]


def reference(analysis: Analysis) -> Reference | None:
    """The segmentation as the report names it; None when `build` makes none."""
    if not _frames(analysis):
        return None
    return Reference(
        analysis.sources[0].study_instance_uid,
        common.series_instance_uid(analysis.key, KIND),
        SEGMENTATION,
        common.sop_instance_uid(analysis.key, KIND),
    )


def build(analysis: Analysis) -> Made | None:
    """The segmentation; None where no voxels may be told, or the slices are not of one grid."""
    frames = _frames(analysis)
    if not frames:
        return None
    ds = common.new_object(analysis, KIND, SEGMENTATION, "SEG")
    ds.SeriesNumber = str(analysis.series_number + 2)
    ds.SeriesDescription = common.series_description(analysis.title, "regions")
    ds.BodyPartExamined = "CHEST"
    ds.FrameOfReferenceUID = analysis.sources[0].frame_of_reference_uid
    ds.PositionReferenceIndicator = ""
    ds.ReferencedSeriesSequence = Items([_referenced_series(analysis, frames)])
    _image(ds, analysis, frames)
    ds.SegmentSequence = Items([_segment(analysis, n) for n in nodules(analysis) if n.segment is not None])
    _dimensions(ds, analysis)
    ds.SharedFunctionalGroupsSequence = Items([_shared(analysis.sources)])
    ds.PerFrameFunctionalGroupsSequence = Items([
        _frame(analysis.sources[i], nodule, place) for (nodule, i, _), place in zip(frames, _places(frames), strict=True)
    ])  # fmt: skip
    return Made(KIND, ds.SOPInstanceUID, common.part10(ds, analysis))


def _frames(analysis: Analysis) -> list[Frame]:
    frames = [(n, i, mask) for n in nodules(analysis) for i, mask in n.masks]
    return frames if len(frames) <= MOST_FRAMES and _one_grid(analysis.sources) else []


def _one_grid(sources: tuple[InstanceHeader, ...]) -> bool:
    """One frame of reference, size, spacing and orientation, which the shared groups then say for all."""
    said = {
        (
            h.frame_of_reference_uid,
            h.rows,
            h.columns,
            h.pixel_spacing_mm,
            tuple(round(v, 5) for v in h.image_orientation_patient or ()),
        )
        for h in sources
    }
    return len(said) == 1 and bool(sources[0].frame_of_reference_uid)


def _image(ds: Dataset, analysis: Analysis, frames: list[Frame]) -> None:
    source = analysis.sources[0]
    ds.ImageType = ["DERIVED", "PRIMARY"]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns, ds.NumberOfFrames = source.rows, source.columns, str(len(frames))
    ds.BitsAllocated = ds.BitsStored = 1
    ds.HighBit = ds.PixelRepresentation = 0
    ds.LossyImageCompression = "00"
    ds.SegmentationType = "BINARY"
    ds.SegmentsOverlap = "YES" if _overlap(frames) else "NO"
    ds.ContentLabel, ds.ContentDescription = "NODULES", "AI regions (not for diagnosis)"
    ds.ContentCreatorName = ""  # no person made it
    # Bits run on over the borders of frames and are filled up at the very end (PS3.5 8.1.1, A.4).
    bits = np.zeros((len(frames), source.rows, source.columns), bool)
    for plane, (_, _, m) in zip(bits, frames, strict=True):
        plane[m.row : m.row + m.height, m.column : m.column + m.width] = pixels(m)
    packed = np.packbits(bits, axis=None, bitorder="little").tobytes()
    ds.PixelData = packed + b"\0" * (len(packed) % 2)
    ds["PixelData"].VR = "OB"


def _overlap(frames: list[Frame]) -> bool:
    """Does a voxel belong to two nodules?"""
    taken: set[tuple[int, int, int]] = set()
    for _, i, m in frames:
        rows, columns = np.nonzero(pixels(m))
        voxels = {(i, m.row + int(r), m.column + int(c)) for r, c in zip(rows, columns, strict=True)}
        if voxels & taken:
            return True
        taken |= voxels
    return False


def _segment(analysis: Analysis, nodule: Nodule) -> Dataset:
    assert nodule.segment is not None
    segment = Dataset()
    segment.SegmentNumber, segment.SegmentLabel = nodule.segment, nodule.name
    segment.SegmentAlgorithmType, segment.SegmentAlgorithmName = "AUTOMATIC", analysis.detector
    algorithm = Dataset()
    algorithm.AlgorithmFamilyCodeSequence = Items([code(Code("123110", "DCM", "Artificial Intelligence"))])
    algorithm.AlgorithmName, algorithm.AlgorithmVersion = analysis.detector, analysis.version
    algorithm.AlgorithmSource = common.MANUFACTURER
    segment.SegmentationAlgorithmIdentificationSequence = Items([algorithm])
    segment.SegmentedPropertyCategoryCodeSequence = Items([code(_ABNORMAL)])
    kind = _MASS if nodule.finding.name == "mass" else _NODULE
    segment.SegmentedPropertyTypeCodeSequence = Items([code(kind)])
    segment.AnatomicRegionSequence = Items([code(_LUNG)])
    segment.TrackingID, segment.TrackingUID = nodule.name, nodule.followed
    segment.RecommendedDisplayCIELabValue = list(_COLOURS[(nodule.segment - 1) % len(_COLOURS)])
    return segment


def _dimensions(ds: Dataset, analysis: Analysis) -> None:
    """Frames are sorted by segment, then along the scan (PS3.3 C.7.6.17)."""
    organization = Dataset()
    organization.DimensionOrganizationUID = common.derived_uid(analysis.key, KIND, "dimensions")
    ds.DimensionOrganizationSequence = Items([organization])
    indices = []
    for pointer, group, label in (
        (0x0062000B, 0x0062000A, "Segment"),
        (0x00200032, 0x00209113, "Position"),
    ):
        index = Dataset()
        index.DimensionIndexPointer, index.FunctionalGroupPointer = pointer, group
        index.DimensionOrganizationUID = organization.DimensionOrganizationUID
        index.DimensionDescriptionLabel = label
        indices.append(index)
    ds.DimensionIndexSequence = Items(indices)


def _shared(sources: tuple[InstanceHeader, ...]) -> Dataset:
    source = sources[0]
    assert source.pixel_spacing_mm is not None and source.image_orientation_patient is not None
    measures = Dataset()
    measures.PixelSpacing = [f"{v:.10g}" for v in source.pixel_spacing_mm]
    measures.SliceThickness = f"{source.slice_thickness_mm or _step(sources):.10g}"
    orientation = Dataset()
    orientation.ImageOrientationPatient = [f"{v:.10g}" for v in source.image_orientation_patient]
    group = Dataset()
    group.PixelMeasuresSequence, group.PlaneOrientationSequence = Items([measures]), Items([orientation])
    return group


def _step(sources: tuple[InstanceHeader, ...]) -> float:
    """mm between neighbouring planes: what a slice without a stated thickness stands for."""
    first, last = sources[0].image_position_patient, sources[-1].image_position_patient
    if len(sources) < 2 or first is None or last is None:
        return 1.0
    return float(np.linalg.norm(np.subtract(last, first)) / (len(sources) - 1)) or 1.0


def _frame(source: InstanceHeader, nodule: Nodule, place: int) -> Dataset:
    group, content, position, identity = Dataset(), Dataset(), Dataset(), Dataset()
    content.DimensionIndexValues = [nodule.segment, place]
    position.ImagePositionPatient = [f"{v:.10g}" for v in source.image_position_patient or ()]
    identity.ReferencedSegmentNumber = nodule.segment
    derived, image = Dataset(), common.referenced(source)
    image.PurposeOfReferenceCodeSequence = Items(
        [code(Code("121322", "DCM", "Source image for image processing operation"))]
    )
    image.SpatialLocationsPreserved = "YES"
    derived.SourceImageSequence = Items([image])
    derived.DerivationCodeSequence = Items([code(Code("113076", "DCM", "Segmentation"))])
    group.FrameContentSequence, group.PlanePositionSequence = Items([content]), Items([position])
    group.SegmentIdentificationSequence, group.DerivationImageSequence = Items([identity]), Items([derived])
    return group


def _places(frames: list[Frame]) -> list[int]:
    """Place of each frame's plane among the planes that any frame lies on, from 1."""
    planes = {i: place for place, i in enumerate(sorted({i for _, i, _ in frames}), start=1)}
    return [planes[i] for _, i, _ in frames]


def _referenced_series(analysis: Analysis, frames: list[Frame]) -> Dataset:
    series = Dataset()
    series.SeriesInstanceUID = analysis.sources[0].series_instance_uid
    used = sorted({i for _, i, _ in frames})
    series.ReferencedInstanceSequence = Items([common.referenced(analysis.sources[i]) for i in used])
    return series

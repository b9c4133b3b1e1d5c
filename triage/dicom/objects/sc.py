"""A picture with words for archives and viewers that know no reports: Secondary Capture (PS3.3 A.8.1), a last resort."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items

from triage.dicom.objects import common
from triage.dicom.objects.common import Analysis, Made
from triage.dicom.objects.items import Code, code
from triage.domain.study import InstanceHeader

KIND = "sc"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
MOST_SOURCES = 100


def build(analysis: Analysis, picture: NDArray[np.uint8]) -> Made:
    """picture: (rows, columns, 3) RGB with "not for diagnosis" painted into it, and nothing of the patient's identity."""
    ds = common.new_object(analysis, KIND, SECONDARY_CAPTURE, "OT")
    ds.SeriesNumber = str(analysis.series_number + 4)
    ds.SeriesDescription = common.series_description(analysis.title, "overview")
    ds.BodyPartExamined = "CHEST"
    ds.ConversionType = "SYN"
    ds.ImageType = ["DERIVED", "SECONDARY", "OTHER"]
    ds.BurnedInAnnotation = "NO"  # words, but nobody's name
    ds.PatientOrientation = ""
    ds.DerivationDescription = "Compressed overview made by software, not for diagnosis"
    ds.LossyImageCompression = "01"  # the pictures went through JPEG
    ds.LossyImageCompressionRatio, ds.LossyImageCompressionMethod = "10", "ISO_10918_1"
    ds.SourceImageSequence = Items([_source(h) for h in analysis.sources[:MOST_SOURCES]])
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, "RGB", 0
    ds.Rows, ds.Columns = picture.shape[:2]
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit, ds.PixelRepresentation = 7, 0
    raw = np.ascontiguousarray(picture).tobytes()
    ds.PixelData = raw + b"\0" * (len(raw) % 2)
    ds["PixelData"].VR = "OB"
    return Made(KIND, ds.SOPInstanceUID, common.part10(ds, analysis))


def _source(header: InstanceHeader) -> Dataset:
    item = common.referenced(header)
    item.PurposeOfReferenceCodeSequence = Items(
        [code(Code("121322", "DCM", "Source image for image processing operation"))]
    )
    return item

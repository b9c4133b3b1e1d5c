"""What every object that we make says alike: whose it is, who made it, from which images, and under which UIDs.

An object is a pure function of an `Analysis`, so the same rows give the same bytes under the same UID, and a repeated
step makes no twin. Text goes out as UTF-8 whatever the sender's character set was (standards 6.1).
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from io import BytesIO

from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import UID, ExplicitVRLittleEndian

from triage import __version__
from triage.dicom import services
from triage.dicom.objects.identity import as_received, copy_identity, issuer_of_accession
from triage.dicom.objects.items import PRIVATE_SCHEME, Code, code, coded, schemes, text, uid
from triage.domain.finding import Finding
from triage.domain.study import InstanceHeader

MANUFACTURER = "triage"
NAMESPACE = uuid.UUID("5c4d4f2e-6a0b-5d6f-9b67-0f3c8a1f7e21")  # the product's own (standards 6.1)
LO_LENGTH = 64
HAS_CONTEXT, HAS_MODIFIER = "HAS OBS CONTEXT", "HAS CONCEPT MOD"

DEVICE_OBSERVER_UID = Code("121012", "DCM", "Device Observer UID")
PROCESSING_EQUIPMENT = Code("109102", "DCM", "Processing Equipment")


@dataclass(frozen=True)
class Reference:
    """One object of ours, as another one names it."""

    study_instance_uid: str
    series_instance_uid: str
    sop_class_uid: str
    sop_instance_uid: str


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """One completed Run as objects may tell it.

    key          names the Run among all Runs of all sites for ever; UIDs are derived from it
    findings     what is reported, after `domain.finding.shown`: a place or a size that is here may be told
    sources      headers of the analysed images, all of one series
    series_number  of the report; the flag gets the next one
    predecessors   reports of superseded Runs over the same images
    cites_segmentation  False where a peer gets the report without the segmentation: its places are points then
    """

    key: str
    detector: str
    version: str
    release_digest: str
    findings: tuple[Finding, ...]
    not_covered: tuple[str, ...]
    sources: tuple[InstanceHeader, ...]
    finished_at: datetime
    series_number: int
    placer_order_number: str = ""
    filler_order_number: str = ""
    predecessors: tuple[Reference, ...] = ()
    ae_title: str = "TRIAGE"
    cites_segmentation: bool = True

    @property
    def title(self) -> str:
        return self.detector.replace("_", " ")


@dataclass(frozen=True)
class Made:
    """One object: `kind` is "sr", "kos", "seg", "gsps" or "sc", `content` a whole Part 10 file."""

    kind: str
    sop_instance_uid: str
    content: bytes


def derived_uid(*names: object) -> str:
    """A UID made from names (PS3.5 B.2); the same names give the same UID."""
    return f"2.25.{uuid.uuid5(NAMESPACE, '|'.join(str(n) for n in names)).int}"


def sop_instance_uid(key: str, kind: str) -> str:
    return derived_uid(key, kind, "instance")


def series_instance_uid(key: str, kind: str) -> str:
    return derived_uid(key, kind, "series")


def new_object(analysis: Analysis, kind: str, sop_class_uid: str, modality: str) -> Dataset:
    """The modules that all kinds share: SOP common, patient, study, series, equipment, document."""
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID, ds.SOPInstanceUID = sop_class_uid, sop_instance_uid(analysis.key, kind)
    copy_identity(ds, analysis.sources[0])
    ds.SeriesInstanceUID = series_instance_uid(analysis.key, kind)
    ds.Modality, ds.InstanceNumber = modality, "1"
    if modality in ("SR", "KO"):
        ds.ReferencedPerformedProcedureStepSequence = Items([])  # type 2 in documents, elsewhere 1C or 3
    _date(ds, analysis)
    _equipment(ds, analysis)
    return ds


def series_description(title: str, what: str) -> str:
    """`AI <detector> <what> (not for diagnosis)` within the 64 characters of an LO (standards 0.3)."""
    end = f" {what} (not for diagnosis)"
    return f"AI {title}"[: LO_LENGTH - len(end)] + end


def referenced(header: InstanceHeader) -> Dataset:
    """One image as an item of a Referenced SOP Sequence (PS3.3 10.8)."""
    return _sop(header.sop_class_uid, header.sop_instance_uid)


def evidence(headers: Iterable[InstanceHeader], ours: Reference | None = None) -> Items:
    """Current Requested Procedure Evidence Sequence (0040,A375): the images, and an object of ours that is named."""
    images = [
        Reference(h.study_instance_uid, h.series_instance_uid, h.sop_class_uid, h.sop_instance_uid)
        for h in headers
    ]
    return hierarchy([*images, *([ours] if ours else [])])


def sop_of(reference: Reference) -> Dataset:
    """An object of ours as an item of a Referenced SOP Sequence."""
    return _sop(reference.sop_class_uid, reference.sop_instance_uid)


def hierarchy(references: Iterable[Reference]) -> Items:
    """Hierarchical SOP Instance Reference Macro (PS3.3 C.17.2.1)."""
    studies: dict[str, dict[str, list[Dataset]]] = {}
    for r in references:
        of_series = studies.setdefault(r.study_instance_uid, {}).setdefault(r.series_instance_uid, [])
        of_series.append(_sop(r.sop_class_uid, r.sop_instance_uid))
    found = []
    for study_uid, by_series in studies.items():
        study = Dataset()
        study.StudyInstanceUID, study.ReferencedSeriesSequence = study_uid, Items([])
        for series_uid, sops in by_series.items():
            series = Dataset()
            series.SeriesInstanceUID, series.ReferencedSOPSequence = series_uid, Items(sops)
            study.ReferencedSeriesSequence.append(series)
        found.append(study)
    return Items(found)


def requests(analysis: Analysis) -> Items:
    """Referenced Request Sequence (0040,A370); empty when nobody told us of an order (type 1C)."""
    header = analysis.sources[0]
    if not (header.accession_number or analysis.placer_order_number or analysis.filler_order_number):
        return Items([])
    item = Dataset()
    item.StudyInstanceUID = header.study_instance_uid
    item.ReferencedStudySequence = Items([])
    as_received(item, "AccessionNumber", header.accession_number)
    if any(header.issuer_of_accession_number):
        item.IssuerOfAccessionNumberSequence = issuer_of_accession(header)
    as_received(item, "PlacerOrderNumberImagingServiceRequest", analysis.placer_order_number)
    as_received(item, "FillerOrderNumberImagingServiceRequest", analysis.filler_order_number)
    item.RequestedProcedureID = item.RequestedProcedureDescription = ""
    item.RequestedProcedureCodeSequence = Items([])
    return Items([item])


def context(analysis: Analysis) -> list[Dataset]:
    """Language (TID 1204) and the device that observes (TID 1002, 1004)."""
    english = Code("en-US", "RFC5646", "English (United States)")
    language = Code("121049", "DCM", "Language of Content Item and Descendants")
    device = Code("121007", "DCM", "Device")
    return [
        coded(language, english, relation=HAS_MODIFIER),
        coded(Code("121005", "DCM", "Observer Type"), device, relation=HAS_CONTEXT),
        uid(DEVICE_OBSERVER_UID, device_uid(analysis), relation=HAS_CONTEXT),
        text(Code("121013", "DCM", "Device Observer Name"), MANUFACTURER, relation=HAS_CONTEXT),
        text(Code("121014", "DCM", "Device Observer Manufacturer"), MANUFACTURER, relation=HAS_CONTEXT),
        text(Code("121015", "DCM", "Device Observer Model Name"), analysis.detector, relation=HAS_CONTEXT),
        text(Code("121016", "DCM", "Device Observer Serial Number"), _serial(analysis), relation=HAS_CONTEXT),
    ]


def device_uid(analysis: Analysis) -> str:
    """One per release, new on every retraining (IHE AIR 6.5.3.1)."""
    return derived_uid("device", analysis.release_digest)


def finish(ds: Dataset, analysis: Analysis, content: Sequence[Dataset]) -> bytes:
    """The Part 10 file of a document with this content tree."""
    ds.ContentSequence = Items(content)
    if PRIVATE_SCHEME in schemes(content):
        scheme = Dataset()
        scheme.CodingSchemeDesignator = PRIVATE_SCHEME
        scheme.CodingSchemeName = "Private codes of triage"
        scheme.CodingSchemeResponsibleOrganization = MANUFACTURER
        ds.CodingSchemeIdentificationSequence = Items([scheme])
    return part10(ds, analysis)


def part10(ds: Dataset, analysis: Analysis) -> bytes:
    """The object as a file (PS3.10 7.1); the same data set gives the same bytes."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(services.IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = services.IMPLEMENTATION_VERSION_NAME
    meta.SourceApplicationEntityTitle = analysis.ae_title
    ds.file_meta = meta
    buffer = BytesIO()
    dcmwrite(buffer, ds, enforce_file_format=True)
    return buffer.getvalue()


def suspected(findings: Sequence[Finding]) -> str:
    """ "AI flag: pneumothorax, pleural effusion suspected": names once, most urgent first (standards 0.3)."""
    names = [
        f.coded.display for f in sorted(findings, key=lambda f: (-f.coded.priority_class, -f.probability))
    ]
    return f"AI flag: {', '.join(dict.fromkeys(names))} suspected"


# --- modules -------------------------------------------------------------------------------------------------


def _date(ds: Dataset, analysis: Analysis) -> None:
    """Times of creation in the zone of the study; where it names none, in this machine's, as senders mean theirs."""
    offset = _offset(analysis.sources[0].timezone_offset)
    at = analysis.finished_at.astimezone(offset)
    if offset is not None:
        ds.TimezoneOffsetFromUTC = analysis.sources[0].timezone_offset
    day, moment = at.strftime("%Y%m%d"), at.strftime("%H%M%S.%f")
    ds.InstanceCreationDate = ds.SeriesDate = ds.ContentDate = day
    ds.InstanceCreationTime = ds.SeriesTime = ds.ContentTime = moment


def _equipment(ds: Dataset, analysis: Analysis) -> None:
    ds.Manufacturer, ds.ManufacturerModelName = MANUFACTURER, analysis.detector[:LO_LENGTH]
    ds.DeviceSerialNumber = _serial(analysis)
    ds.SoftwareVersions = [f"triage {__version__}", f"{analysis.detector} {analysis.version}"[:LO_LENGTH]]
    ds.DeviceUID = device_uid(analysis)
    algorithm = Dataset()
    algorithm.PurposeOfReferenceCodeSequence = Items([code(PROCESSING_EQUIPMENT)])
    algorithm.Manufacturer, algorithm.ManufacturerModelName = MANUFACTURER, ds.ManufacturerModelName
    algorithm.SoftwareVersions = analysis.version[:LO_LENGTH]
    algorithm.DeviceUID = device_uid(analysis)
    ds.ContributingEquipmentSequence = Items([algorithm])


def _serial(analysis: Analysis) -> str:
    """Which copy of the device: the release, by its digest."""
    return analysis.release_digest[:16]


def _sop(sop_class_uid: str, sop_uid: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class_uid, sop_uid
    return item


def _offset(received: str) -> timezone | None:
    """The zone of Timezone Offset From UTC (0008,0201), &ZZXX from -1200 to +1400; None for anything else."""
    match = re.fullmatch(r"([+-])(\d\d)([0-5]\d)", received)
    if not match or received == "-0000":
        return None
    length = timedelta(hours=int(match[2]), minutes=int(match[3]))
    length = -length if match[1] == "-" else length
    if not timedelta(hours=-12) <= length <= timedelta(hours=14):
        return None
    return timezone(length)

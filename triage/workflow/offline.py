"""Suitability and detectors on files, without server or database: what `triage assess` and `evaluate` stand on.

The same header reader, tag rules, guarded decoder and detectors as the real path; nothing is stored.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from triage.dicom.header import read_header
from triage.dicom.pixels import Decoder
from triage.domain.eligibility import ct_series_answer, radiograph_answer
from triage.domain.errors import Refused, Unavailable
from triage.domain.finding import as_json
from triage.domain.image import Radiograph, Volume
from triage.domain.run import RunState
from triage.domain.study import CT_CLASSES, RADIOGRAPH_CLASSES, InstanceHeader
from triage.domain.suitability import NotSuitable, NotSuitableError, ReasonCode
from triage.workflow.assess import detect
from triage.workflow.releases import load_detector

PICTURE_PIXELS = 6_000 * 6_000
PICTURES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp"})
Found = tuple[Path, InstanceHeader]


@dataclass(frozen=True)
class Refusal:
    path: Path
    reason: str


def files_under(paths: Iterable[Path]) -> Iterator[Path]:
    """Files as given, and those of folders, in order of name."""
    for path in paths:
        if path.is_dir():
            yield from sorted(p for p in path.rglob("*") if p.is_file() and not p.name.startswith("."))
        else:
            yield path


def read_headers(paths: Iterable[Path]) -> tuple[list[Found], list[Refusal]]:
    found: list[Found] = []
    refused: list[Refusal] = []
    for path in files_under(paths):
        try:
            found.append((path, read_header(path)))
        except (Refused, Unavailable) as error:  # a file that is gone or locked stops no other
            refused.append(Refusal(path, str(error)))
    return found, refused


def assess_files(
    paths: Iterable[Path],
    detectors: tuple[str, ...],
    progress: Callable[[str], None] = lambda _: None,
    keep: Callable[[InstanceHeader, Any], None] = lambda _, __: None,
    load: Callable[[str], Any] = load_detector,
) -> dict[str, Any]:
    """The contract of `assess --json` (architecture 8).

    detectors  names to run; an input that none of them wants is a run not_analysed(WRONG_MODALITY)
    keep       called with (header, Detection) of each completed run, for overlays
    load       the detector of a name; the shipped active release unless the caller wants another
    """
    found, refused = read_headers(paths)
    studies: dict[str, list[dict[str, Any]]] = {}
    loaded: dict[str, Any] = {}
    with Decoder() as decoder:
        for detector, inputs, answer in _inputs(found):
            header = inputs[0][1]
            progress(header.series_instance_uid)
            if detector is not None and detector not in detectors:
                continue
            if answer is None and detector is not None and detector not in loaded:
                loaded[detector] = load(detector)
            run = _run(detector, loaded.get(detector or ""), inputs, answer, decoder, keep)
            studies.setdefault(header.study_instance_uid, []).append(run)
    return {
        "studies": [{"study_uid": uid, "runs": runs} for uid, runs in studies.items()],
        "refused": [{"path": str(r.path), "reason": r.reason} for r in refused],
    }


def _inputs(found: list[Found]) -> Iterator[tuple[str | None, list[Found], NotSuitable | None]]:
    """(detector, files of one input, answer of the tags): each film alone, each CT series whole."""
    series: dict[str, list[Found]] = {}
    for path, header in found:
        if header.sop_class_uid in RADIOGRAPH_CLASSES:
            yield "chest_xray", [(path, header)], radiograph_answer(header)
        elif header.sop_class_uid in CT_CLASSES:
            series.setdefault(header.series_instance_uid, []).append((path, header))
        else:  # no detector's class: the film rules say why (a scanned film, another modality)
            answer = radiograph_answer(header) or NotSuitable(ReasonCode.WRONG_MODALITY, header.modality)
            yield None, [(path, header)], answer
    for inputs in series.values():
        yield "lung_nodule", inputs, ct_series_answer([h for _, h in inputs])


def _run(
    name: str | None,
    detector: Any,
    inputs: list[Found],
    answer: NotSuitable | None,
    decoder: Decoder,
    keep: Callable[[InstanceHeader, Any], None],
) -> dict[str, Any]:
    header = inputs[0][1]
    run: dict[str, Any] = {
        "detector": name,
        "release": detector.release if detector else None,
        "status": RunState.NOT_ANALYSED.value,
        "reason": None,
        "detail": "",
        "series_uid": header.series_instance_uid,
        "sop_uids": [h.sop_instance_uid for _, h in inputs],
        "seconds": 0.0,
        "findings": [],
        "not_covered": [],
        "notes": [],
    }
    started = time.monotonic()
    try:
        if answer is not None:
            raise NotSuitableError(answer.code, answer.detail)
        detection = detect(detector, decoder, [p for p, _ in inputs], [h for _, h in inputs])
        run |= {
            "status": RunState.COMPLETED.value,
            "findings": [as_json(f) for f in detection.findings],
            "not_covered": list(detection.not_covered),
            "notes": list(detection.notes),
        }
        keep(header, detection)
    except NotSuitableError as error:
        run |= {"reason": error.answer.code.value, "detail": error.answer.detail}
    run["seconds"] = round(time.monotonic() - started, 4)
    return run


def film_reader(decoder: Decoder) -> Callable[[Path], Radiograph]:
    """Reads one film of a cases file: DICOM through the real path, or a picture file as bright-bone grey."""

    def read(path: Path) -> Radiograph:
        if path.suffix.lower() in PICTURES:
            return picture(path)
        header = read_header(path)
        answer = radiograph_answer(header)
        if answer is not None:
            raise NotSuitableError(answer.code, answer.detail)
        return decoder.radiograph(path, header)

    return read


def scan_reader(decoder: Decoder) -> Callable[[Path], Volume]:
    """Reads one scan of a cases file: a folder (or file) of DICOM through the real path."""

    def read(path: Path) -> Volume:
        found, refused = read_headers([path])
        slices = [(p, h) for p, h in found if h.sop_class_uid in CT_CLASSES]
        if not slices:
            raise Refused(f"{path}: no CT in it" + (f" ({refused[0].reason})" if refused else ""))
        answer = ct_series_answer([h for _, h in slices])
        if answer is not None:
            raise NotSuitableError(answer.code, answer.detail)
        return decoder.volume([p for p, _ in slices], [h for _, h in slices])

    return read


def picture(path: Path) -> Radiograph:
    """A PNG, JPEG, WebP or TIFF as a film. raises Refused when it is none, or too large to open."""
    try:
        with Image.open(path) as image:
            if image.width * image.height > PICTURE_PIXELS:
                raise NotSuitableError(ReasonCode.TOO_LARGE, f"{image.height} x {image.width} pixels")
            deep = image.mode.startswith("I") or image.mode == "F"
            values = np.asarray(image if deep else image.convert("L"), dtype=np.float32)
    except (OSError, ValueError, SyntaxError) as error:
        raise Refused(f"{path}: not a picture that can be read ({type(error).__name__})") from error
    full = 65535.0 if deep and values.max(initial=0) > 4095 else 4095.0 if deep else 255.0
    return Radiograph(pixels=np.clip(values / np.float32(full), 0, 1))

"""Pictures with outlines for QA (`assess --overlay`): a film with polygons, a scan's slices with circles."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from triage.detectors.protocol import Detection
from triage.dicom.pixels import Decoder
from triage.domain.finding import Finding
from triage.domain.image import Volume
from triage.domain.study import CT_CLASSES, InstanceHeader
from triage.workflow.offline import read_headers

LONGEST_PX = 1024
COLOUR = (255, 192, 51)
LUNG_WINDOW = (-600.0, 1500.0)  # centre, width in HU
MOST_SLICES = 12


class OverlayWriter:
    """Called with each completed run; decodes the input once more and draws."""

    def __init__(self, folder: Path, paths: Iterable[Path]) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        found, _ = read_headers(paths)
        self._by_series: dict[str, list[tuple[Path, InstanceHeader]]] = {}
        for path, header in found:
            self._by_series.setdefault(header.series_instance_uid, []).append((path, header))
        self.written = 0

    def keep(self, header: InstanceHeader, detection: Detection) -> None:
        inputs = self._by_series[header.series_instance_uid]
        with Decoder() as decoder:
            if header.sop_class_uid in CT_CLASSES:
                volume = decoder.volume([p for p, _ in inputs], [h for _, h in inputs])
                self._scan(header, volume, detection)
            else:
                path = next(p for p, h in inputs if h.sop_instance_uid == header.sop_instance_uid)
                self._film(header, decoder.radiograph(path, header).pixels, detection)

    def _film(self, header: InstanceHeader, pixels: NDArray[np.float32], detection: Detection) -> None:
        image = Image.fromarray((pixels * 255).astype(np.uint8)).convert("RGB")
        scale = min(1.0, LONGEST_PX / max(image.size))
        image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BOX)
        draw = ImageDraw.Draw(image)
        for finding in detection.findings:
            if finding.actionable and finding.location and len(finding.location.outline) > 2:
                points = [(x * scale, y * scale) for x, y in finding.location.outline]
                draw.polygon(points, outline=COLOUR)
                draw.text(points[0], f"{finding.coded.display} {finding.band.value}", fill=COLOUR)
        self._save(image, header.sop_instance_uid)

    def _scan(self, header: InstanceHeader, volume: Volume, detection: Detection) -> None:
        measured = [f for f in detection.findings if f.measurements is not None]
        best = sorted(measured, key=lambda f: -f.probability)[:MOST_SLICES]
        for number, finding in enumerate(best, start=1):
            self._slice(header, volume, finding, number)

    def _slice(self, header: InstanceHeader, volume: Volume, finding: Finding, number: int) -> None:
        assert finding.measurements is not None
        index = np.linalg.inv(volume.affine) @ np.array([*finding.measurements.center_lps_mm, 1.0])
        column, row, k = (float(v) for v in index[:3])
        k_whole = int(np.clip(round(k), 0, volume.hu.shape[0] - 1))
        centre, width = LUNG_WINDOW
        grey = np.clip((volume.hu[k_whole].astype(np.float32) - centre) / width + 0.5, 0, 1) * 255
        image = Image.fromarray(grey.astype(np.uint8)).convert("RGB")
        radius = finding.measurements.long_axis_mm / 2 / volume.spacing_mm[1] + 4
        draw = ImageDraw.Draw(image)
        draw.ellipse((column - radius, row - radius, column + radius, row + radius), outline=COLOUR)
        draw.text((column + radius, row), f"{finding.probability:.2f}", fill=COLOUR)
        self._save(image, f"{header.series_instance_uid}-{number:02d}")

    def _save(self, image: Image.Image, name: str) -> None:
        image.save(self._folder / f"{name}.png")
        self.written += 1

"""Sends files to our own receiver through the real door: the demo and `triage echo` use it, as the constancy check does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from triage.dicom.send import send
from triage.domain.errors import Unavailable
from triage.settings import Settings


def send_study(settings: Settings, paths: Sequence[Path], calling: str = "DEMO-MODALITY") -> None:
    """raises Unavailable when an object was not stored."""
    # Where the receiver listens on every address, the way to it from here is loopback.
    host = "127.0.0.1" if settings.dicom.host in ("0.0.0.0", "::") else settings.dicom.host
    results = send(
        paths,
        host=host,
        port=settings.dicom.port,
        calling=calling,
        called=settings.dicom.ae_title,
    )
    failed = [r for r in results if not r.ok]
    if failed:
        raise Unavailable(f"the receiver refused {len(failed)} of {len(results)} objects: {failed[0].detail}")

"""Our own certificates: where they are, and whether they end soon (standards 9.1: said thirty days before)."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from triage.dicom.tls import TlsFiles, fingerprint, not_after, server_context
from triage.domain.errors import Misconfigured
from triage.settings import Settings

WARN = timedelta(days=30)


def tls_files(settings: Settings) -> TlsFiles | None:
    """The files of the DICOM TLS port, None when it is not configured."""
    dicom = settings.dicom
    if dicom.tls_certificate is None or dicom.tls_key is None:
        return None
    return TlsFiles(
        dicom.tls_certificate, dicom.tls_key, dicom.tls_ca if dicom.tls_clients == "required" else None
    )


def checks(settings: Settings, now: datetime) -> list[dict[str, Any]]:
    """[{"name", "ok", "detail", "fix"}] of each certificate that we use."""
    files = tls_files(settings)
    if files is None:
        return []
    fix = "renew it; the file is read again by itself"
    try:
        server_context(files)
        end = not_after(files.certificate.read_bytes())
    except (Misconfigured, OSError) as error:
        return [
            {
                "name": "certificate",
                "ok": False,
                "detail": f"DICOM TLS: {error}",
                "fix": "correct [dicom] tls_...",
            }
        ]
    left = end - now
    if left <= timedelta(0):
        detail = f"the DICOM certificate ended on {end:%Y-%m-%d}: peers refuse it"
    else:
        detail = f"the DICOM certificate ends on {end:%Y-%m-%d}, in {left.days} days"
    return [{"name": "certificate", "ok": left > WARN, "detail": detail, "fix": fix}]


def certificate_fingerprint(path: Path) -> str:
    """SHA-256 of a peer's certificate file. raises Misconfigured when it holds none."""
    return fingerprint(path.read_bytes())

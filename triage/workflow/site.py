"""The few settings that steps of the core depend on, as one value: the simulation makes its own."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from triage.domain.alerting import Rung
from triage.domain.finding import Mode
from triage.settings import Settings

NewId = Callable[[], str]  # 20 characters, unique for ever: control ids, lease tokens


@dataclass(frozen=True, kw_only=True)
class Site:
    name: str = "SITE"
    issuer_of_patient_id: str = ""  # who assigned the ids that come without an authority
    quiet_seconds: float = 10.0
    mode: Mode = Mode.TRIAGE_ONLY
    detectors: tuple[str, ...] = ("chest_xray", "lung_nodule")
    ladder: tuple[Rung, ...] = (Rung(timedelta(0), ()),)
    rejection_notes_from: tuple[str, ...] = ()  # whose notes count; (): of all who may send

    def may_reject(self, said_by: str) -> bool:
        """said_by  as the rows keep a sender: 16 characters, of a longer name of a token or peer the first ones"""
        return not self.rejection_notes_from or said_by in {n[:16] for n in self.rejection_notes_from}


def site_of(settings: Settings) -> Site:
    """The core's view of the settings. A rung that names no routes tells every route on rung 0, none later."""
    every = tuple(r.name for r in settings.routes)
    rungs = tuple(
        Rung(timedelta(minutes=r.after_minutes), r.routes or (every if i == 0 else ()), r.on_call)
        for i, r in enumerate(settings.ladder)
    )
    return Site(
        name=settings.site,
        issuer_of_patient_id=settings.issuer_of_patient_id,
        quiet_seconds=settings.quiet_seconds,
        mode=Mode(settings.mode),
        detectors=settings.detectors,
        ladder=rungs,
        rejection_notes_from=settings.dicom.rejection_notes_from,
    )


def new_id() -> str:
    """20 characters of 95 random bits: fits MSH-10 of HL7 v2.5.1."""
    alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford: nothing that is misread over the phone
    return "".join(secrets.choice(alphabet) for _ in range(20))

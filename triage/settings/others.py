"""The tables of whom we call: routes of alerts, outlets, archives and servers that are asked."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from triage.settings.kinds import LOOPBACK, Address, Hl7Name, Name, Port, Seconds, Table


class FhircastSettings(Table):
    """[fhircast]: a hub that hears which study a reader opened and left."""

    url: str = ""  # hub.url, https; "" switches it off
    topic: Annotated[str, Field(max_length=200)] = "{reader}"  # hub.topic; {reader} is the user's name
    token_file: Path | None = None  # sent as Bearer
    secret_file: Path | None = None  # key of X-Hub-Signature, HMAC-SHA256 over the body
    timeout_seconds: Seconds = 5.0
    allow_private: bool = False  # the hub may have a private address, and speak http


class RouteSettings(Table):
    """[[routes]]: one way out for alerts."""

    name: Name
    kind: Literal["mllp", "webhook", "mail", "fhir"]
    host: str = ""  # mllp, mail
    port: Port = 0
    url: str = ""  # webhook; fhir: the base of the server
    secret_file: Path | None = None  # webhook: key of the signature; mail: password; fhir: bearer token
    timeout_seconds: Seconds = 30.0
    processing_id: Literal["P", "T", "D"] = "P"
    sending_application: Hl7Name = "TRIAGE"  # mllp: MSH-3; MSH-4 is the site's name
    receiving_application: Hl7Name = "EHR"  # mllp: MSH-5 and 6, by which an interface engine routes
    receiving_facility: Hl7Name = "HOSP"
    allow_private: bool = (
        False  # webhook, fhir: the peer may have a private address; mail: without TLS is meant
    )
    operator: bool = (
        False  # webhook, mail: also told when triage itself fails (constancy missed, delivery parked)
    )
    tls: Literal["", "tls", "starttls"] = ""  # mllp: "tls"; mail: "starttls" (587) or "tls" (465)
    ca_file: Path | None = None  # PEM of the hospital's own authority; else the system's
    cert_file: Path | None = None  # PEM, where the peer wants to know who we are
    key_file: Path | None = None
    user: str = ""  # mail: signs in with the password of secret_file
    sender: Address = ""  # mail
    recipients: tuple[Address, ...] = ()  # mail; empty: only who is on call (a rung with on_call)
    patient_data: Literal["none", "initials"] = "none"  # mail: initials adds the initials and the place
    link: str = (
        ""  # mail, webhook: address of the phone page (https://.../m); a result gets a link that works once
    )
    result: Literal["DiagnosticReport", "Observation"] = (
        "DiagnosticReport"  # fhir: some take no reports by software
    )

    @model_validator(mode="after")
    def _complete(self) -> RouteSettings:
        needed = {
            "mllp": ("host", "port"),
            "webhook": ("url", "secret_file"),
            "mail": ("host", "port", "sender"),
            "fhir": ("url",),
        }[self.kind]
        if not all(getattr(self, name) for name in needed):
            raise ValueError(f"route {self.name}: a {self.kind} route needs {' and '.join(needed)}")
        if self.operator and self.kind not in ("webhook", "mail"):
            raise ValueError(f"route {self.name}: only a webhook or mail can tell an operator")
        if self.operator and self.kind == "mail" and not self.recipients:
            raise ValueError(f"route {self.name}: an operator needs an address (recipients)")
        if self.tls == "starttls" and self.kind != "mail":
            raise ValueError(f"route {self.name}: starttls is for mail")
        if self.kind == "mail" and not self.tls and not self.allow_private and self.host not in LOOPBACK:
            raise ValueError(
                f"route {self.name}: mail goes by starttls or tls; allow_private says plain is meant"
            )
        return self


class OutletSettings(Table):
    """[[outlets]]: a peer that gets the objects we make."""

    peer: Annotated[str, Field(min_length=1, max_length=40)]  # as named by `triage peer add`
    objects: tuple[Literal["sr", "kos", "seg", "gsps", "sc"], ...] = ("sr", "kos", "seg")
    by: Literal["dimse", "stow"] = "dimse"
    url: str = ""  # stow: base of its DICOMweb, as in https://pacs.example/dicom-web
    token_file: Path | None = None  # stow: sent as Bearer
    commitment: bool = False  # ask it for storage commitment of what it stored
    rejection_notes: bool = (
        False  # take objects that went out of date back there, by a note as IHE IOCM has it
    )
    timeout_seconds: Seconds = 60.0

    @model_validator(mode="after")
    def _complete(self) -> OutletSettings:
        if self.by == "stow" and not self.url.startswith(("http://", "https://")):
            raise ValueError(f"outlet {self.peer}: by stow it needs url, http:// or https://")
        return self


class RungSettings(Table):
    """[[ladder]]: after so many minutes without acknowledgement these routes are told."""

    after_minutes: Annotated[float, Field(ge=0)]
    routes: tuple[str, ...] = ()
    on_call: Literal[0, 1, 2] = 0  # 1, 2: also on the page of the first or second on call by the calendar


class FolderSettings(Table):
    """[folder]: files that somebody puts into a folder."""

    path: Path | None = None  # None: no folder is watched; files go to its done/ or refused/
    rest_seconds: Seconds = 2.0  # a file whose size rests for so long is whole


class PullSettings(Table):
    """[[pull]]: an archive that does not send, and is asked."""

    name: Name
    method: Literal["cmove", "cget", "wado"] = "cmove"  # cmove: the archive must know our AE title and port
    peer: Annotated[str, Field(max_length=40)] = ""  # of `triage peer add`; for cmove and cget
    url: str = ""  # of the DICOMweb service; for wado
    token_file: Path | None = None
    modalities: tuple[str, ...] = ("CR", "DX", "CT")
    body_parts: tuple[str, ...] = ()  # (): a chest, by part or description, and what says neither
    interval_seconds: Seconds = 60.0
    overlap_minutes: Annotated[int, Field(ge=0)] = 120  # looked at again: an archive may show a study late
    priors_months: Annotated[int, Field(ge=0, le=240)] = 0  # older studies to compare with; 0: none
    timeout_seconds: Seconds = 30.0

    @model_validator(mode="after")
    def _complete(self) -> PullSettings:
        if self.method == "wado" and not self.url:
            raise ValueError(f"pull {self.name}: wado needs url")
        if self.method != "wado" and not self.peer:
            raise ValueError(f"pull {self.name}: {self.method} needs peer")
        return self


class PerformSettings(Table):
    """[[perform]]: a UPS server whose work items we perform."""

    name: Name
    by: Literal["dimse", "rs"] = "dimse"
    peer: Annotated[str, Field(max_length=40)] = ""  # dimse: of `triage peer add`; asked by C-FIND
    url: str = ""  # rs: base of its DICOMweb, up to what stands before /workitems
    token_file: Path | None = None  # rs: sent as Bearer
    codes: tuple[str, ...] = ("110004", "110003")  # Scheduled Workitem Codes: CAD, detection and diagnosis
    pull: str = ""  # name of the [[pull]] that fetches images that are not here; "": they are sent to us
    interval_seconds: Seconds = 15.0
    patience_minutes: Annotated[float, Field(gt=0)] = 60.0  # then what is not done is given back
    timeout_seconds: Seconds = 30.0

    @model_validator(mode="after")
    def _complete(self) -> PerformSettings:
        if self.by == "rs" and not self.url.startswith(("http://", "https://")):
            raise ValueError(f"perform {self.name}: by rs it needs url, http:// or https://")
        if self.by == "dimse" and not self.peer:
            raise ValueError(f"perform {self.name}: by dimse it needs peer")
        return self

"""Typed settings: one table of the TOML file each, defaults in place, units in names.

Order of strength: defaults, file (TOML), `TRIAGE_...` environment variables (nested by `__`), options.
A part gets its table, not the whole. Secrets come from files or the environment, never from the TOML.
"""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, available_timezones

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict
from tzlocal import get_localzone_name

from triage.domain.errors import Misconfigured


def _is_name(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9_-]{1,40}", text):
        raise ValueError("a name has up to 40 lower-case letters, digits, - and _")
    return text


Port = Annotated[int, Field(ge=0, le=65535)]  # 0: any free port, printed at start
Seconds = Annotated[float, Field(gt=0)]
Name = Annotated[str, AfterValidator(_is_name)]
Address = Annotated[str, Field(pattern=r"^([^\s@<>,;:\"]+@[^\s@<>,;:\"]+)?$", max_length=200)]  # of mail
Hl7Name = Annotated[
    str, Field(pattern=r"^[!-~]([ -~]{0,18}[!-~])?$")
]  # HD.1 of HL7 v2.5.1: twenty characters
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DatabaseSettings(_Table):
    """[database]"""

    url: SecretStr = SecretStr("")  # empty: SQLite in TRIAGE_HOME/triage.db


class BrokerSettings(_Table):
    """[broker]"""

    url: SecretStr = SecretStr("")  # empty: a private redis in TRIAGE_HOME


class DicomSettings(_Table):
    """[dicom]"""

    host: str = "127.0.0.1"
    port: Port = 11112  # 104 needs privileges; 11112 is registered for DICOM
    ae_title: Annotated[str, Field(min_length=1, max_length=16)] = "TRIAGE"
    tls_port: Port = 2762
    tls_clients: Literal["required", "none"] = "required"  # none: encrypted, but nobody proves who it is
    processes: Annotated[int, Field(ge=1, le=16)] = 2  # receivers on one port
    associations_max: Annotated[int, Field(ge=1, le=1000)] = 20
    associations_per_peer_max: Annotated[int, Field(ge=1, le=1000)] = 10
    object_bytes_max: Annotated[int, Field(ge=1 << 20)] = 2 << 30
    idle_seconds: Seconds = 60.0  # an association that says nothing for so long is aborted
    reserve_bytes: Annotated[int, Field(ge=0)] = (
        256 << 20
    )  # below this much free disk stores are answered A700
    archive: str = ""  # name of the peer that is asked how many slices a series has; "" asks nobody
    # PEM, ours: what peers see of us, and with it we listen on tls_port too; the key is not readable by others
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    tls_ca: Path | None = None  # PEM: who signed the peers' certificates, or these themselves
    worklist: str = (
        ""  # name of the peer whose Modality Worklist is asked for orders that nobody told us; "": none
    )
    rejection_notes_from: tuple[
        str, ...
    ] = ()  # AE titles (of STOW: a token's name; FOLDER; a pull's peer) whose notes count; []: of all who may send
    commitment_port: Port = (
        0  # where peers may bring reports of storage commitment by a call of their own; 0: nowhere
    )
    insecure_plain: bool = False  # true: a non-loopback address without TLS is meant (shown on /health)

    @model_validator(mode="after")
    def _tls_whole(self) -> DicomSettings:
        if bool(self.tls_certificate) != bool(self.tls_key):
            raise ValueError("tls_certificate and tls_key go together")
        if self.tls_certificate and self.tls_clients == "required" and not self.tls_ca:
            raise ValueError('tls_ca is missing; or say tls_clients = "none" if peers shall prove nothing')
        return self


class WebSettings(_Table):
    """[web]"""

    host: str = "127.0.0.1"
    port: Port = 8080
    listeners_max: Annotated[int, Field(ge=1)] = 200  # open event streams; threads = this + 50
    session_minutes: Annotated[int, Field(ge=1)] = 15  # of doing nothing
    session_hours: Annotated[int, Field(ge=1)] = 12  # however busy: then one signs in again
    secure_cookies: bool = False  # true behind TLS
    proxies: Annotated[int, Field(ge=0)] = 0  # trusted X-Forwarded-For hops


class OidcSettings(_Table):
    """[oidc]: sign-in by the hospital's identity provider; local passwords then serve break-glass alone."""

    issuer: str = ""  # as the provider calls itself, https://...; "" switches it off
    client_id: str = "triage"
    client_secret_file: Path | None = None  # None: a public client (PKCE protects it)
    scope: str = "openid profile email groups"
    groups_claim: str = "groups"
    roles: dict[str, Literal["reader", "lead", "qa", "admin", "auditor"]] = {}  # group: role
    break_glass: tuple[
        str, ...
    ] = ()  # local users who may sign in with a password all the same; each use is told

    @model_validator(mode="after")
    def _complete(self) -> OidcSettings:
        if self.issuer:
            parts = urlsplit(self.issuer)
            if parts.scheme != "https" and parts.hostname not in LOOPBACK:
                raise ValueError("oidc.issuer is an https address")
            if not self.roles:
                raise ValueError("oidc.roles names at least one group and its role")
        return self

    def secret(self) -> str:
        """raises  Misconfigured when the file cannot be read"""
        if self.client_secret_file is None:
            return ""
        try:
            return self.client_secret_file.read_text().strip()
        except OSError as error:
            raise Misconfigured(
                f"oidc.client_secret_file {self.client_secret_file}: {error.strerror}"
            ) from error


class Hl7Settings(_Table):
    """[hl7]: orders, patients and reports in, by MLLP"""

    host: str = "127.0.0.1"
    port: Port = 2575
    cert_file: Path | None = None  # PEM; with it the listener speaks TLS alone
    key_file: Path | None = None  # PEM, where it is not in cert_file
    client_ca_file: Path | None = (
        None  # PEM; with it only clients with a certificate of this authority are heard
    )
    insecure_plain: bool = False  # true: a non-loopback address without TLS is meant


class FhircastSettings(_Table):
    """[fhircast]: a hub that hears which study a reader opened and left."""

    url: str = ""  # hub.url, https; "" switches it off
    topic: Annotated[str, Field(max_length=200)] = "{reader}"  # hub.topic; {reader} is the user's name
    token_file: Path | None = None  # sent as Bearer
    secret_file: Path | None = None  # key of X-Hub-Signature, HMAC-SHA256 over the body
    timeout_seconds: Seconds = 5.0
    allow_private: bool = False  # the hub may have a private address, and speak http


class RouteSettings(_Table):
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


class OutletSettings(_Table):
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


class RungSettings(_Table):
    """[[ladder]]: after so many minutes without acknowledgement these routes are told."""

    after_minutes: Annotated[float, Field(ge=0)]
    routes: tuple[str, ...] = ()
    on_call: Literal[0, 1, 2] = 0  # 1, 2: also on the page of the first or second on call by the calendar


class FolderSettings(_Table):
    """[folder]: files that somebody puts into a folder."""

    path: Path | None = None  # None: no folder is watched; files go to its done/ or refused/
    rest_seconds: Seconds = 2.0  # a file whose size rests for so long is whole


class PullSettings(_Table):
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


class PerformSettings(_Table):
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


DEFAULT_LADDER = (  # ux 9
    RungSettings(after_minutes=0),
    RungSettings(after_minutes=3),
    RungSettings(after_minutes=5, on_call=1),
    RungSettings(after_minutes=10, on_call=2),
    RungSettings(after_minutes=15),
)


class Settings(BaseSettings):
    """The whole of triage.toml."""

    model_config = SettingsConfigDict(
        env_prefix="TRIAGE_", env_nested_delimiter="__", frozen=True, extra="forbid"
    )

    home: Path = Path("triage-home")
    site: str = "SITE"
    issuer_of_patient_id: Annotated[str, Field(max_length=64)] = (
        ""  # assigning authority of patient ids that come without one; set it before the first study
    )
    zone: str = ""  # IANA name of the site's time zone; "": this computer's
    system: Literal["live", "test"] = "test"  # shown in the top bar of every page
    mode: Literal["triage_only", "overlay"] = "triage_only"
    workers: Annotated[int, Field(ge=1, le=256)] = 1
    quiet_seconds: Seconds = 10.0
    constancy_seconds: Seconds = 900.0
    retention_days: Annotated[int, Field(ge=1)] = 60
    detectors: tuple[str, ...] = ("chest_xray", "lung_nodule")
    runtime: Literal["openvino", "torch", "cuda"] = (
        "openvino"  # what computes; cuda: torch in bfloat16 on a GPU
    )
    database: DatabaseSettings = DatabaseSettings()
    broker: BrokerSettings = BrokerSettings()
    dicom: DicomSettings = DicomSettings()
    web: WebSettings = WebSettings()
    oidc: OidcSettings = OidcSettings()
    hl7: Hl7Settings = Hl7Settings()
    fhircast: FhircastSettings = FhircastSettings()
    folder: FolderSettings = FolderSettings()
    pull: tuple[PullSettings, ...] = ()
    perform: tuple[PerformSettings, ...] = ()
    routes: tuple[RouteSettings, ...] = ()
    ladder: tuple[RungSettings, ...] = DEFAULT_LADDER
    outlets: tuple[OutletSettings, ...] = ()
    overview: bool = False  # also make a picture with words (Secondary Capture), for archives without reports

    @field_validator("zone")
    @classmethod
    def _known_zone(cls, zone: str) -> str:
        if zone and zone not in available_timezones():
            raise ValueError(f"zone: {zone!r} is no IANA time zone such as Europe/Berlin")
        return zone

    @field_validator("ladder")
    @classmethod
    def _rising(cls, ladder: tuple[RungSettings, ...]) -> tuple[RungSettings, ...]:
        times = [r.after_minutes for r in ladder]
        if not ladder or times[0] != 0 or times != sorted(times):
            raise ValueError("ladder: the first rung is at 0 minutes and times rise")
        return ladder

    @model_validator(mode="after")
    def _routes_known(self) -> Settings:
        sources = {p.name for p in self.pull}
        for one in self.perform:
            if one.pull and one.pull not in sources:
                raise ValueError(f"perform {one.name}: no pull is called {one.pull!r}")
        if len({p.name for p in self.perform}) != len(self.perform):
            raise ValueError("perform: two servers share a name")
        names = [r.name for r in self.routes]
        if len(set(names)) != len(names):
            raise ValueError("routes: two routes share a name")
        if len({o.peer for o in self.outlets}) != len(self.outlets):
            raise ValueError("outlets: two outlets name the same peer")
        for rung in self.ladder:
            for name in rung.routes:
                if name not in names:
                    raise ValueError(f"ladder: no route is called {name!r}")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - pydantic passes it
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        del dotenv_settings, file_secret_settings
        return (env_settings, init_settings)  # the file arrives as init values; the environment is stronger

    @property
    def embedded_database(self) -> Path | None:
        """The file of SQLite; None on a server."""
        return None if self.database.url.get_secret_value() else self.home.resolve() / "triage.db"

    @property
    def database_url(self) -> str:
        file = self.embedded_database
        return f"sqlite:///{file}" if file else self.database.url.get_secret_value()

    @property
    def reports_cite_segmentations(self) -> bool:
        """No report may name a segmentation that its peer does not get; there is one report for all peers."""
        return all("seg" in o.objects for o in self.outlets if "sr" in o.objects)

    @property
    def time_zone(self) -> ZoneInfo:
        return ZoneInfo(self.zone or get_localzone_name())

    @property
    def spool(self) -> Path:
        return self.home / "spool"

    @property
    def outputs(self) -> Path:
        return self.home / "outputs"

    def make_home(self) -> None:
        """raises  Misconfigured when there is no folder `home` and none can be made, or it cannot be written"""
        try:
            self.home.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Misconfigured(
                f"home {self.home} cannot be made ({error.strerror}): set home or TRIAGE_HOME to a folder of this user"
            ) from error
        if not os.access(self.home, os.W_OK | os.X_OK):
            raise Misconfigured(
                f"home {self.home} cannot be written: chown it, or set another home or TRIAGE_HOME"
            )


def load(file: Path | None = None) -> Settings:
    """Settings from `file` and the environment; an option of a command replaces values of the result.

    raises  Misconfigured naming each setting that is wrong
    """
    values: dict[str, Any] = {}
    if file is not None:
        try:
            values = tomllib.loads(file.read_text(encoding="utf-8"))
        except OSError as error:
            raise Misconfigured(f"settings file {file} cannot be read: {error.strerror}") from error
        except tomllib.TOMLDecodeError as error:
            raise Misconfigured(f"settings file {file} is not valid TOML: {error}") from error
    try:
        return Settings(**values)
    except ValidationError as error:
        lines = "; ".join(
            f"{'.'.join(str(part) for part in e['loc']) or 'settings'}: {e['msg']}" for e in error.errors()
        )
        raise Misconfigured(f"{file or 'environment'}: {lines}") from error

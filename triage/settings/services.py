"""The tables of what we offer: database, broker and the ports others call."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, model_validator

from triage.domain.errors import Misconfigured
from triage.settings.kinds import LOOPBACK, Port, Seconds, Table


class DatabaseSettings(Table):
    """[database]"""

    url: SecretStr = SecretStr("")  # empty: SQLite in TRIAGE_HOME/triage.db


class BrokerSettings(Table):
    """[broker]"""

    url: SecretStr = SecretStr("")  # empty: a private redis in TRIAGE_HOME


class DicomSettings(Table):
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


class WebSettings(Table):
    """[web]"""

    host: str = "127.0.0.1"
    port: Port = 8080
    listeners_max: Annotated[int, Field(ge=1)] = 200  # open event streams; threads = this + 50
    session_minutes: Annotated[int, Field(ge=1)] = 15  # of doing nothing
    session_hours: Annotated[int, Field(ge=1)] = 12  # however busy: then one signs in again
    secure_cookies: bool = False  # true behind TLS
    proxies: Annotated[int, Field(ge=0)] = 0  # trusted X-Forwarded-For hops


class OidcSettings(Table):
    """[oidc]: sign-in by the hospital's identity provider; local passwords then serve break-glass alone."""

    issuer: str = ""  # as the provider calls itself, https://...; "" switches it off
    client_id: str = "triage"
    client_secret_file: Path | None = None  # None: a public client (PKCE protects it)
    scope: str = "openid profile email groups"
    groups_claim: str = "groups"
    roles: dict[str, Literal["reader", "lead", "qa", "admin", "auditor"]] = Field(
        default_factory=dict
    )  # group: role
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


class Hl7Settings(Table):
    """[hl7]: orders, patients and reports in, by MLLP"""

    host: str = "127.0.0.1"
    port: Port = 2575
    cert_file: Path | None = None  # PEM; with it the listener speaks TLS alone
    key_file: Path | None = None  # PEM, where it is not in cert_file
    client_ca_file: Path | None = (
        None  # PEM; with it only clients with a certificate of this authority are heard
    )
    insecure_plain: bool = False  # true: a non-loopback address without TLS is meant

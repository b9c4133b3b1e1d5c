"""Typed settings: one table of the TOML file each, defaults in place, units in names.

Order of strength: defaults, file (TOML), `TRIAGE_...` environment variables (nested by `__`), options.
A part gets its table, not the whole. Secrets come from files or the environment, never from the TOML.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, available_timezones

from pydantic import (
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

Port = Annotated[int, Field(ge=0, le=65535)]  # 0: any free port, printed at start
Seconds = Annotated[float, Field(gt=0)]
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
    associations_max: Annotated[int, Field(ge=1, le=1000)] = 20
    associations_per_peer_max: Annotated[int, Field(ge=1, le=1000)] = 10
    object_bytes_max: Annotated[int, Field(ge=1 << 20)] = 2 << 30
    idle_seconds: Seconds = 60.0  # an association that says nothing for so long is aborted
    reserve_bytes: Annotated[int, Field(ge=0)] = (
        256 << 20
    )  # below this much free disk stores are answered A700
    archive: str = ""  # name of the peer that is asked how many slices a series has; "" asks nobody
    insecure_plain: bool = False  # true: a non-loopback address without TLS is meant (shown on /health)


class WebSettings(_Table):
    """[web]"""

    host: str = "127.0.0.1"
    port: Port = 8080
    listeners_max: Annotated[int, Field(ge=1)] = 200  # open event streams; threads = this + 50
    session_minutes: Annotated[int, Field(ge=1)] = 15
    secure_cookies: bool = False  # true behind TLS
    proxies: Annotated[int, Field(ge=0)] = 0  # trusted X-Forwarded-For hops


class Hl7Settings(_Table):
    """[hl7]"""

    host: str = "127.0.0.1"
    port: Port = 2575


class RouteSettings(_Table):
    """[[routes]]: one way out for alerts."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9_-]{1,40}$")]
    kind: Literal["mllp", "webhook"]
    host: str = ""
    port: Port = 0
    url: str = ""
    secret_file: Path | None = None  # webhook: key of the signature
    timeout_seconds: Seconds = 30.0
    processing_id: Literal["P", "T", "D"] = "P"
    allow_private: bool = False  # webhook: the peer may have a loopback or private address
    operator: bool = False  # webhook: also told when triage itself fails (constancy missed, delivery parked)

    @model_validator(mode="after")
    def _complete(self) -> RouteSettings:
        if self.kind == "mllp" and not (self.host and self.port):
            raise ValueError(f"route {self.name}: an mllp route needs host and port")
        if self.kind == "webhook" and not (self.url and self.secret_file):
            raise ValueError(f"route {self.name}: a webhook route needs url and secret_file")
        if self.operator and self.kind != "webhook":
            raise ValueError(f"route {self.name}: only a webhook can tell an operator")
        return self


class RungSettings(_Table):
    """[[ladder]]: after so many minutes without acknowledgement these routes are told."""

    after_minutes: Annotated[float, Field(ge=0)]
    routes: tuple[str, ...] = ()


DEFAULT_LADDER = tuple(RungSettings(after_minutes=m) for m in (0, 3, 5, 10, 15))  # ux 9


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
    database: DatabaseSettings = DatabaseSettings()
    broker: BrokerSettings = BrokerSettings()
    dicom: DicomSettings = DicomSettings()
    web: WebSettings = WebSettings()
    hl7: Hl7Settings = Hl7Settings()
    routes: tuple[RouteSettings, ...] = ()
    ladder: tuple[RungSettings, ...] = DEFAULT_LADDER

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
        names = [r.name for r in self.routes]
        if len(set(names)) != len(names):
            raise ValueError("routes: two routes share a name")
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
    def database_url(self) -> str:
        return self.database.url.get_secret_value() or f"sqlite:///{self.home.resolve() / 'triage.db'}"

    @property
    def time_zone(self) -> ZoneInfo:
        return ZoneInfo(self.zone or get_localzone_name())

    @property
    def spool(self) -> Path:
        return self.home / "spool"

    @property
    def outputs(self) -> Path:
        return self.home / "outputs"


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

"""Typed settings: one table of the TOML file each, defaults in place, units in names.

Order of strength: defaults, file (TOML), `TRIAGE_...` environment variables (nested by `__`), options.
A part gets its table, not the whole. Secrets come from files or the environment, never from the TOML.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, available_timezones

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict
from tzlocal import get_localzone_name

from triage.domain.errors import Misconfigured
from triage.settings.kinds import LOOPBACK, Seconds
from triage.settings.others import (
    FhircastSettings,
    FolderSettings,
    OutletSettings,
    PerformSettings,
    PullSettings,
    RouteSettings,
    RungSettings,
)
from triage.settings.services import (
    BrokerSettings,
    DatabaseSettings,
    DicomSettings,
    Hl7Settings,
    OidcSettings,
    WebSettings,
)

__all__ = [  # the tables stand by their side, and are known here
    "LOOPBACK",
    "BrokerSettings",
    "DatabaseSettings",
    "DicomSettings",
    "FhircastSettings",
    "FolderSettings",
    "Hl7Settings",
    "OidcSettings",
    "OutletSettings",
    "PerformSettings",
    "PullSettings",
    "RouteSettings",
    "RungSettings",
    "Settings",
    "WebSettings",
    "load",
]

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

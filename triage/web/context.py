"""What every view is handed: the settings, the clock, who asks, and one unit of work. No globals, no clock calls."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal
from zoneinfo import ZoneInfo

from flask import current_app
from pydantic import BaseModel
from sqlalchemy import Connection

from triage.settings import Settings
from triage.store.database import Database
from triage.web.shared import Shared
from triage.workflow.fhircast import Hub
from triage.workflow.inlet import Inlet
from triage.workflow.oidc import Provider
from triage.workflow.preview import Previewer

if TYPE_CHECKING:
    from triage.web.events import Feed
    from triage.web.rates import Rates

CHANNELS = 20  # event channels of work items; each holds a thread
UPLOADS = 8  # objects come in over the web in so many requests at once; more are asked to come later
Clock = Callable[[], datetime]
PUBLIC: tuple[str, ...] = ("",)  # no sign-in
SIGNED_IN: tuple[str, ...] = ()  # any role, any token


@dataclass(frozen=True)
class Principal:
    """Who asks: a user in a session, or a token."""

    name: str
    role: str  # "" for a token
    scopes: frozenset[str]
    display_name: str = ""
    csrf_token: str = ""
    session_digest: str = ""  # "" for a token
    preferences: Mapping[str, Any] = field(default_factory=dict)

    @property
    def language(self) -> str:
        return str(self.preferences.get("language", ""))

    @property
    def is_person(self) -> bool:
        return self.role != ""

    @property
    def may_see_inside(self) -> bool:
        """Places and measurements in triage-only mode: quality assurance alone (standards 0.4)."""
        return self.role == "qa" or (not self.is_person and "qa:read" in self.scopes)

    def may(self, *scopes: str) -> bool:
        return not scopes or bool(self.scopes.intersection(scopes))


NOBODY = Principal("", "", frozenset())


@dataclass(frozen=True)
class Web:
    """One per process."""

    settings: Settings
    database: Database
    clock: Clock
    feed: Feed
    rates: Rates
    previewer: Previewer
    inlet: Inlet
    provider: Provider | None  # the hospital's identity provider
    hub: Hub | None = None  # hears which study a reader opened
    viewed: dict[tuple[str, str], datetime] = field(default_factory=dict)  # who looked at which study lately
    uploads: threading.BoundedSemaphore = field(default_factory=lambda: threading.BoundedSemaphore(UPLOADS))
    channels: threading.BoundedSemaphore = field(default_factory=lambda: threading.BoundedSemaphore(CHANNELS))
    shared: Shared = field(default_factory=Shared)
    kept: dict[str, tuple[datetime, Any]] = field(
        default_factory=dict
    )  # figures that need not be counted each time

    @cached_property
    def zone(self) -> ZoneInfo:
        """The site's: times on pages are told in it, with its name where it could be doubted (ux 14)."""
        return self.settings.time_zone


@dataclass(frozen=True)
class Call:
    """One request as a view sees it; `tx` may write when the route is an act."""

    web: Web
    tx: Connection
    now: datetime
    who: Principal
    query: Any = None
    body: Any = None
    version: int | None = None  # If-Match


@dataclass(frozen=True, kw_only=True)
class Route:
    """One path and method: who may, what goes in, what comes out. The URL map and OpenAPI are made of these."""

    path: str
    view: Callable[..., Any]
    method: Literal["GET", "POST", "DELETE", "PUT"] = "GET"
    scopes: tuple[str, ...]  # any of them; PUBLIC; SIGNED_IN
    query: type[BaseModel] | None = None
    body: type[BaseModel] | None = None
    answer: type[BaseModel] | None = None
    html: bool = False  # a page: no sign-in leads to the sign-in page, errors are pages
    needs_tx: bool = True
    websocket: bool = False  # the request may ask for an upgrade; the URL map tells the two apart

    @property
    def endpoint(self) -> str:
        return f"{self.method} {self.path}".replace(".", "_")  # Flask reads a dot as a blueprint

    @property
    def acts(self) -> bool:
        return self.method != "GET"


def web() -> Web:
    found: Web = current_app.extensions["triage"]
    return found


def stamp(at: datetime | None) -> str | None:
    """RFC 3339, UTC, milliseconds."""
    return (
        None if at is None else at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    )

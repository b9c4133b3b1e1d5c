"""Peers, audit events, health."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from triage.web.models.base import Request


class PeerTestQuery(Request):
    store: bool = True  # false: no phantom is stored there


class PeerStep(BaseModel):
    name: str
    state: Literal["ok", "failed", "not tried"]
    detail: str
    seconds: float | None


class PeerTestAnswer(BaseModel):
    peer: str
    ok: bool
    steps: list[PeerStep]
    next: str


class PeerRow(BaseModel):
    name: str
    ae_title: str
    host: str
    port: int
    tls: bool
    objects: list[str]
    by: str
    commitment: bool


class PeersAnswer(BaseModel):
    peers: list[PeerRow]


class AuditQuery(Request):
    after: Annotated[int, Field(ge=0, lt=2**53)] = 0
    limit: Annotated[int, Field(ge=1, le=500)] = 500
    object_kind: Annotated[str, Field(max_length=40)] = ""
    object_id: Annotated[str, Field(max_length=80)] = ""


class AuditRow(BaseModel):
    number: int
    at: str
    actor: str
    act: str
    object_kind: str
    object_id: str
    detail: dict[str, Any]
    previous_hash: str
    hash: str


class AuditAnswer(BaseModel):
    events: list[AuditRow]
    next: int | None


class Check(BaseModel):
    name: str
    ok: bool
    detail: str


class Health(BaseModel):
    status: Literal["ok", "degraded"]
    checks: list[Check]


class Ready(BaseModel):
    status: Literal["ready"]

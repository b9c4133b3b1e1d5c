"""Messages that came in and went out."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from triage.web.models.base import Request, Time


class MessagesQuery(Request):
    direction: Literal["in", "out"] = "out"
    state: Annotated[str, Field(max_length=100, description="one or more, separated by commas")] = ""
    peer: Annotated[str, Field(max_length=160, description="a route (out) or a sender (in)")] = ""
    before: Annotated[int, Field(ge=1, lt=2**53)] | None = None
    limit: Annotated[int, Field(ge=1, le=500)] = 100


class MessageSearchBody(Request):
    accession_number: Annotated[str, Field(min_length=1, max_length=64)]


class ParkBody(Request):
    reason: Annotated[str, Field(min_length=1, max_length=200)]


class MessageAnswer(BaseModel):
    id: int
    direction: Literal["in", "out"]
    channel: str
    peer: str
    kind: str
    control_id: str
    state: str
    answer: str
    reason: str
    accession_number: str
    study_uid: str
    at: Time
    ended_at: Time | None
    attempts: int
    next_attempt_at: Time | None
    alert_id: int | None
    drill: bool


class RawMessage(MessageAnswer):
    raw: str
    attempts_made: list[dict[str, Any]]


class Messages(BaseModel):
    messages: list[MessageAnswer]
    next: int | None
    as_of: Time

"""What requests and answers have in common."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

ClassWord = Literal["critical", "high", "elevated", "routine"]


ItemState = Literal["arriving", "to_read", "claimed", "read", "withdrawn"]


RunStateWord = Literal["requested", "running", "completed", "not_analysed", "failed", "superseded"]


AlertStateWord = Literal["open", "acknowledged", "closed", "withdrawn", "exhausted"]


Time = Annotated[str, Field(description="RFC 3339, UTC")]


Words = Annotated[str, Field(max_length=400)]


Part = Annotated[str, Field(max_length=80)]


class Request(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Nothing(Request):
    """An empty body."""


class AgainAnswer(BaseModel):
    count: int

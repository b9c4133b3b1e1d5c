"""What a way out is: bytes in, an answer back. Whether to try again is part of the answer."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class Outcome(StrEnum):
    DELIVERED = "delivered"  # the peer positively answered this very message
    RETRY = "retry"  # no answer, a broken connection, AR, 5xx, 429: the same bytes again later
    REFUSED = "refused"  # AE, CE, 4xx: the content is at fault, a person must look


@dataclass(frozen=True)
class Answer:
    """detail is for operators: codes and reasons, never patient data or the peer's free text."""

    outcome: Outcome
    detail: str = ""


class Channel(Protocol):
    def send(self, payload: bytes, control_id: str) -> Answer:
        """Send once, wait for the answer that names `control_id`. Never raises for what a peer does."""
        ...

    def close(self) -> None: ...

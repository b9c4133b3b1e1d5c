"""Batches: several messages between FHS/BHS and BTS/FTS, answered by a batch of acknowledgements.

source: HL7 v2.5.1 2.10.3
"""

from __future__ import annotations

import re
from datetime import datetime

from triage.domain.errors import Refused

MESSAGES_MAX = 1000  # of one frame; each costs a transaction


def split(raw: bytes) -> list[bytes] | None:
    """The messages of a batch; None when `raw` is one message alone.

    raises  Refused for more than 1000 messages, or none
    """
    lines = [line for line in re.split(b"[\r\n]+", raw.strip(b"\r\n\t \x00")) if line]
    begins = [i for i, line in enumerate(lines) if line.startswith(b"MSH")]
    if not lines or (lines[0][:3] not in (b"FHS", b"BHS") and len(begins) < 2):
        return None
    if not begins or len(begins) > MESSAGES_MAX:
        raise Refused(f"a batch holds 1 to {MESSAGES_MAX} messages")
    ends = [*begins[1:], len(lines)]
    return [
        b"\r".join(line for line in lines[begin:end] if line[:3] not in (b"BTS", b"FTS", b"BHS", b"FHS"))
        + b"\r"
        for begin, end in zip(begins, ends, strict=True)
    ]


def join(answers: list[bytes], now: datetime) -> bytes:
    """Acknowledgements as one batch."""
    header = f"BHS|^~\\&|TRIAGE||||{now:%Y%m%d%H%M%S%z}"  # BHS-3 and BHS-7
    return b"".join([header.encode() + b"\r", *answers, f"BTS|{len(answers)}\r".encode()])

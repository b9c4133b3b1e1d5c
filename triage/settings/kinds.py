"""What a setting may be, and what all tables share."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


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


class Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

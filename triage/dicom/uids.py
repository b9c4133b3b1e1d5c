"""What a unique identifier may look like (PS3.5 9.1): digits and dots, nothing that means something in a path or a query.

Leading zeros of a component are let through: the field has them.
"""

from __future__ import annotations

import re

_UID = re.compile(r"[0-9]+(\.[0-9]+)*\Z")


def is_uid(text: str) -> bool:
    return len(text) <= 64 and _UID.match(text) is not None

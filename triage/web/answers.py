"""JSON with an ETag over what it says, the time of saying left out: 304 when nothing changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from flask import Response, current_app, request


def of_mapping(said: Mapping[str, Any]) -> Response:
    timeless = {k: v for k, v in said.items() if k != "as_of"}
    return of_text(current_app.json.dumps(timeless, separators=(",", ":")), said.get("as_of"))


def of_text(said: str, as_of: str | None) -> Response:
    """said: a JSON object without its time"""
    digest = hashlib.sha256(said.encode()).hexdigest()[:32]
    if as_of is not None:
        said = f'{said[:-1]}{"," if len(said) > 2 else ""}"as_of":{json.dumps(as_of)}}}'
    response = Response(said, mimetype="application/json")
    response.set_etag(digest, weak=True)
    response.make_conditional(request)
    return response

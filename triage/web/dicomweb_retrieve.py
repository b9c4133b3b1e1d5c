"""WADO-RS over the spool (PS3.18 10.4): objects, metadata, frames, rendered pictures, bulk data.

As stored where the client takes that, else in Explicit VR Little Endian. Pictures are not for diagnosis.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from flask import Response, request

from triage.dicom import multipart, retrieve
from triage.dicom.elements import EXPLICIT_VR_LITTLE_ENDIAN
from triage.domain.errors import Refused
from triage.domain.study import InstanceHeader
from triage.domain.suitability import NotSuitableError
from triage.store import audit, holdings
from triage.store.holdings import Match
from triage.store.instances import header_from_json
from triage.store.spool import Spool
from triage.web.context import Call, Route
from triage.web.problems import problem

INSTANCES_MAX = 20_000
TOLD_EVERY = timedelta(minutes=10)  # one audit event for the many requests of one look at a study
_DICOM, _OCTETS = "application/dicom", "application/octet-stream"
Held = tuple[Path, InstanceHeader]


def get_objects(call: Call, **path: str) -> Response:
    """Retrieve Transaction: the objects of a study, a series, or one."""
    held = _held(call, path)
    if not held:
        return _nothing()
    syntaxes = [
        syntax
        for kind, syntax in _accepted()
        if kind in (_DICOM, "*/*", "application/*", "multipart/related")
    ]
    if not syntaxes:
        return problem(
            406, "bad-request", 'Accept multipart/related; type="application/dicom"; transfer-syntax=*'
        )
    anyhow = "*" in syntaxes
    given = [
        (p, h, anyhow or h.transfer_syntax_uid in {EXPLICIT_VR_LITTLE_ENDIAN, *syntaxes}) for p, h in held
    ]
    if not any(s in ("", "*", EXPLICIT_VR_LITTLE_ENDIAN) for s in syntaxes):
        given = [one for one in given if one[2]]
        if not given:
            return problem(406, "bad-request", "nothing here is stored in such a transfer syntax")
    _told(call, path, len(given))
    decoder = call.web.previewer

    def bodies() -> Iterator[tuple[str, Iterator[bytes]]]:
        for file, header, as_stored in given:
            syntax = header.transfer_syntax_uid if as_stored else EXPLICIT_VR_LITTLE_ENDIAN
            try:
                chunks = (
                    _chunks(file)
                    if as_stored
                    else iter([decoder.with_decoder(retrieve.explicit, file, header)])
                )
            except Refused:  # it cannot be given in that syntax: as it is rather than not at all
                syntax, chunks = header.transfer_syntax_uid, _chunks(file)
            yield f"{_DICOM}; transfer-syntax={syntax}", chunks

    return _multipart(bodies(), _DICOM, 200)


def get_metadata(call: Call, **path: str) -> Response:
    """Everything but pixels and long values, as DICOM JSON."""
    held = _held(call, path)
    if not held:
        return _nothing()
    _told(call, path, len(held))
    base = request.url_root.rstrip("/") + "/dicom-web"

    def body() -> Iterator[bytes]:
        yield b"["
        for number, (file, h) in enumerate(held):
            at = f"{base}/studies/{h.study_instance_uid}/series/{h.series_instance_uid}/instances/{h.sop_instance_uid}"
            yield (b"," if number else b"") + json.dumps(
                retrieve.metadata(file, h, at), ensure_ascii=False
            ).encode()
        yield b"]"

    return Response(body(), content_type="application/dicom+json")


def get_frames(call: Call, frames: str, **path: str) -> Response:
    """Frames by number from 1: as stored where their media type is taken, else uncompressed."""
    held = _held(call, path)
    if not held:
        return _nothing()
    file, header = held[0]
    try:
        numbers = [int(n) - 1 for n in frames.split(",")]
    except ValueError:
        return problem(400, "bad-request", "frames are numbers from 1, separated by commas")
    if not numbers or not all(0 <= n < header.number_of_frames for n in numbers) or not header.has_pixel_data:
        return problem(404, "not-found", f"this instance has {header.number_of_frames} frames")
    return _frames(call, file, header, numbers, path)


def get_bulk_data(call: Call, tag: str, **path: str) -> Response:
    """What metadata only name: pixel data uncompressed, frame after frame, or one long value."""
    held = _held(call, path)
    if not held:
        return _nothing()
    file, header = held[0]
    try:
        number = int(tag, 16)
        if number == 0x7FE00010 and header.has_pixel_data:
            return _frames(call, file, header, range(header.number_of_frames), path)
        raw = retrieve.value(file, header, number)
    except (ValueError, Refused):
        return problem(404, "not-found", "there is no bulk data under this tag")
    return _multipart(iter([(_OCTETS, iter([raw]))]), _OCTETS, 200)


def get_rendered(call: Call, frame: str = "1", **path: str) -> Response:
    """A picture of one frame, JPEG or PNG, through `window=centre,width` in modality units (HU for CT)."""
    held = _held(call, path)
    if not held:
        return _nothing()
    header = held[0][1]
    kinds = [k for k, _ in _accepted()]
    png = "image/png" in kinds and "image/jpeg" not in kinds
    if not png and not {"image/jpeg", "*/*", "image/*"}.intersection(kinds):
        return problem(406, "bad-request", "Accept image/jpeg or image/png")
    try:
        window = _window(request.args.get("window", ""))
        number = int(frame) - 1
        if not 0 <= number < header.number_of_frames:
            raise Refused("there is no such frame")
        body = call.web.previewer.rendered(held[0][0], header, number, window, png=png)
    except (ValueError, Refused) as error:
        return problem(400, "bad-request", str(error) if isinstance(error, Refused) else "not a number")
    _told(call, path, 1)
    response = Response(body, mimetype="image/png" if png else "image/jpeg")
    response.headers["Warning"] = '299 triage "not for diagnosis"'
    return response


def _frames(
    call: Call, file: Path, header: InstanceHeader, numbers: Sequence[int], path: dict[str, str]
) -> Response:
    stored_as = retrieve.MEDIA_TYPES.get(header.transfer_syntax_uid, "")
    plain = False
    for kind, syntax in _accepted():
        if stored_as and kind == stored_as and syntax in ("", "*", header.transfer_syntax_uid):
            plain = False
            break
        if kind in (_OCTETS, "*/*", "multipart/related", "application/*") and syntax in (
            "",
            "*",
            EXPLICIT_VR_LITTLE_ENDIAN,
        ):
            plain = True
            break
    else:
        return problem(406, "bad-request", f"Accept {_OCTETS}" + (f" or {stored_as}" if stored_as else ""))
    try:
        if plain:
            found = call.web.previewer.with_decoder(retrieve.plain_frames, file, header, numbers)
        else:
            found = retrieve.stored_frames(file, header, numbers)
    except NotSuitableError as error:
        return problem(406, "bad-request", error.answer.sentence)
    _told(call, path, 1)
    kind = _OCTETS if plain else f"{stored_as}; transfer-syntax={header.transfer_syntax_uid}"
    return _multipart(((kind, iter([one])) for one in found), _OCTETS if plain else stored_as, 200)


def _held(call: Call, path: dict[str, str]) -> list[Held]:
    matches = [Match(_KEYS[name], "uid", (uid,)) for name, uid in path.items()]
    rows = holdings.search(call.tx, "instance", matches, INSTANCES_MAX, 0)
    spool = Spool(call.web.settings.spool)
    return [(spool.path(r["digest"]), header_from_json(r["header"])) for r in rows]


def _told(call: Call, path: dict[str, str], instances: int) -> None:
    """Who took whose images, once for one look."""
    uid, viewed = path["study"], call.web.viewed
    key = (f"wado:{call.who.name}", uid)
    last = viewed.get(key)
    if last is not None and call.now - last < TOLD_EVERY:
        return
    viewed[key] = call.now
    with call.web.database.write() as tx:
        detail = {"instances": instances}
        audit.append(tx, call.now, call.who.name, "study.retrieved", "study", uid, detail)


def _accepted() -> list[tuple[str, str]]:
    """(media type, transfer syntax) that the client takes, in its order; the inner type of multipart/related."""
    text = request.args.get("accept", "") or request.headers.get("Accept", "") or "*/*"
    found = []
    for part in _split(text)[:40]:
        kind, said = multipart.parameters(part)
        if kind == "multipart/related" and said.get("type"):
            kind = said["type"].lower()
        if said.get("q", "1").strip("0.") != "":  # q=0: anything but this
            found.append((kind, said.get("transfer-syntax", "")))
    return found


def _split(text: str) -> list[str]:
    parts, quoted, start = [], False, 0
    for at, letter in enumerate(text[:4_000]):
        if letter == '"':
            quoted = not quoted
        elif letter == "," and not quoted:
            parts.append(text[start:at])
            start = at + 1
    return [*parts, text[start:4_000]]


def _window(text: str) -> tuple[float, float] | None:
    if not text:
        return None
    center, _, rest = text.partition(",")
    width, _, function = rest.partition(",")
    if function.lower() not in ("", "linear", "linear-exact"):
        raise Refused("window functions: linear, linear-exact")
    if float(width) <= 0:
        raise Refused("a window has a width above 0")
    return float(center), float(width)


def _chunks(file: Path) -> Iterator[bytes]:
    with file.open("rb") as stream:
        while chunk := stream.read(1 << 18):
            yield chunk


def _multipart(parts: Iterator[tuple[str, Iterator[bytes]]], kind: str, status: int) -> Response:
    boundary = secrets.token_hex(16)

    def body() -> Iterator[bytes]:
        for said, chunks in parts:
            yield f"--{boundary}\r\nContent-Type: {said}\r\n\r\n".encode()
            yield from chunks
            yield b"\r\n"
        yield f"--{boundary}--\r\n".encode()

    return Response(body(), status, content_type=f'multipart/related; type="{kind}"; boundary={boundary}')


def _nothing() -> Response:
    return problem(404, "not-found", "nothing is held under this address")


_KEYS = {"study": "StudyInstanceUID", "series": "SeriesInstanceUID", "instance": "SOPInstanceUID"}
_STUDY = "/dicom-web/studies/<uid:study>"
_SERIES = _STUDY + "/series/<uid:series>"
_INSTANCE = _SERIES + "/instances/<uid:instance>"
_PATHS: tuple[tuple[str, Any], ...] = (
    *((at, get_objects) for at in (_STUDY, _SERIES, _INSTANCE)),
    *((at + "/metadata", get_metadata) for at in (_STUDY, _SERIES, _INSTANCE)),
    (_INSTANCE + "/frames/<string:frames>", get_frames),
    (_INSTANCE + "/frames/<string:frame>/rendered", get_rendered),
    (_INSTANCE + "/rendered", get_rendered),
    (_INSTANCE + "/bulkdata/<string:tag>", get_bulk_data),
)
ROUTES = tuple(Route(path=path, view=view, scopes=("dicom:read",)) for path, view in _PATHS)

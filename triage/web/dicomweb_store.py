"""STOW-RS: instances over the web, through the same checks as C-STORE (PS3.18 10.5, standards 10.1).

Bodies are streamed part by part into the spool; no part is held in memory but a chunk. Each instance has its own
outcome, and "stored" means what C-STORE's success means: flushed and indexed.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from flask import Response, request

from triage.dicom import from_json, multipart, part10, stow
from triage.dicom.header import read_header
from triage.dicom.stow import Outcome
from triage.domain.errors import Refused, TriageError, Unavailable
from triage.log import get_logger
from triage.store.registration import Arrived
from triage.web.context import Call, Route, Web
from triage.web.problems import problem

_INSTANCE = "application/dicom"
_METADATA = "application/dicom+json"
BULK_PARTS_MAX = 2_000
NO_LIMIT = 1 << 60
log = get_logger()


def store(call: Call, study: str = "") -> Response:
    """Store Transaction: 200 all stored, 202 some, 409 none, with the reason for each instance."""
    kind, said = multipart.parameters(request.content_type or "")
    related = said.get("type", "").lower()
    answers = request.accept_mimetypes.best_match(["application/dicom+json", "application/dicom+xml"])
    if request.accept_mimetypes and answers is None:
        return problem(406, "bad-request", "Accept application/dicom+json or application/dicom+xml")
    if kind != _INSTANCE and not (kind == "multipart/related" and related in (_INSTANCE, _METADATA)):
        return problem(
            415, "bad-request", 'send multipart/related; type="application/dicom" or "application/dicom+json"'
        )
    request.max_content_length = NO_LIMIT  # what comes is limited object by object
    if not call.web.uploads.acquire(blocking=False):
        busy = problem(503, "unavailable", "too many stores at once; send again in a few seconds")
        busy.headers["Retry-After"] = "5"
        return busy
    try:
        with _deadlines(call.web):
            return _answered(call, study, kind, related, str(answers or _METADATA))
    finally:
        call.web.uploads.release()


def _answered(call: Call, study: str, kind: str, related: str, answers: str) -> Response:
    store = _Store(call.web, call.who.name.removeprefix("token:"), study)
    complete = False
    try:
        if kind == _INSTANCE:
            store.instance(iter(lambda: request.stream.read(multipart.CHUNK), b""))
        elif related == _INSTANCE:
            store.instances(_parts())
        else:
            store.metadata(_parts())
        complete = True
    except Refused as error:
        if not store.outcomes:
            return problem(400, "bad-request", str(error))
        log.warning("stow.cut_short", detail=str(error))
    except OSError as error:  # the peer went silent or away; what was stored is stored
        log.warning("stow.cut_short", error=type(error).__name__)
        return problem(408, "bad-request", "the body did not come in time")
    finally:
        store.close(aborted=not complete)
    if not store.outcomes:
        return problem(400, "bad-request", "the request holds no instance")
    document = stow.answer(store.outcomes, request.url_root.rstrip("/") + "/dicom-web")
    body = stow.as_json(document) if answers == _METADATA else stow.as_xml(document)
    response = Response(body, stow.status_of(store.outcomes), content_type=answers)
    if response.status_code == 503:
        response.headers["Retry-After"] = "30"
    return response


def _parts() -> multipart.Parts:
    return multipart.Parts(request.stream.read, multipart.boundary_of(request.content_type or ""))


@contextlib.contextmanager
def _deadlines(web: Web) -> Iterator[None]:
    """A sender that says nothing for the idle time loses its place."""
    socket = request.environ.get("gunicorn.socket")
    if socket is None:
        yield
        return
    before = socket.gettimeout()
    socket.settimeout(web.settings.dicom.idle_seconds)
    try:
        yield
    finally:
        socket.settimeout(before)


class _Store:
    """One request: its outcomes so far, and the files that are on their way."""

    def __init__(self, web: Web, sender: str, study: str) -> None:
        self._web, self._sender, self._study = web, sender, study
        self._transfer = uuid.uuid4().hex
        self.outcomes: list[Outcome] = []

    def close(self, *, aborted: bool) -> None:
        with contextlib.suppress(TriageError):  # the sweeper judges what is not judged here
            self._web.inlet.end(self._transfer, aborted=aborted)

    def instances(self, parts: multipart.Parts) -> None:
        for headers, chunks in parts:
            if multipart.parameters(headers.get("content-type", _INSTANCE))[0] != _INSTANCE:
                self.outcomes.append(Outcome("", "", failure=stow.CANNOT_UNDERSTAND))
                continue
            self.instance(chunks)

    def instance(self, chunks: Iterable[bytes]) -> None:
        with self._file() as raw:
            failure = self._spooled(raw, chunks)
            self._take(raw, part10.names_of(raw), failure)

    def metadata(self, parts: multipart.Parts) -> None:
        """JSON first, then the bulk data that it names; an instance is whole when the last part is here."""
        described: list[dict[str, object]] = []
        bulk: dict[str, Path] = {}
        with contextlib.ExitStack() as files:
            for headers, chunks in parts:
                kind = multipart.parameters(headers.get("content-type", ""))[0]
                raw = files.enter_context(self._file())
                limit = from_json.MAX_METADATA if kind == _METADATA else None
                failure = self._spooled(raw, chunks, limit)
                if failure is not None:
                    raise Refused("a part is too long, or there is no room for it")
                if kind == _METADATA:
                    described += from_json.instances(raw.read_bytes())
                elif kind == "application/octet-stream" and len(bulk) < BULK_PARTS_MAX:
                    bulk[headers.get("content-location", "")] = raw
                # Compressed frames are left out: the instance that names them fails and says so.
            for one in described:
                self._described(one, bulk)

    def _described(self, one: dict[str, object], bulk: dict[str, Path]) -> None:
        names = from_json.names_of(one)
        with self._file() as made:
            self._take(made, names, None, lambda: from_json.write(one, bulk, made))

    def _take(
        self,
        raw: Path,
        names: tuple[str, str],
        failure: Exception | None,
        make: Callable[[], None] = lambda: None,
    ) -> None:
        """Give one file to the one way in, and note what became of it."""
        sop_class, sop_instance = names
        try:
            if failure is not None:
                raise failure
            make()
            self._check_study(raw)
            taken = self._web.inlet.take(raw, sender=self._sender, transfer=self._transfer)
        except (Refused, Unavailable, OSError) as error:
            reason = stow.failure_of(error)
            log.warning("instance.refused", status=f"{reason:04X}", detail=str(error))
            self.outcomes.append(Outcome(sop_class, sop_instance, failure=reason))
            return
        h = taken.header
        failed = {Arrived.CONFLICT: stow.DUPLICATE_INSTANCE, Arrived.OTHER_PATIENT: stow.PROCESSING_FAILURE}
        self.outcomes.append(
            Outcome(
                h.sop_class_uid, h.sop_instance_uid, h.study_instance_uid, h.series_instance_uid,
                failure=failed.get(taken.arrived, 0),
            )
        )  # fmt: skip

    def _check_study(self, raw: Path) -> None:
        """PS3.18 10.5.1.1: instances of another study than the target's fail."""
        if self._study and read_header(raw).study_instance_uid != self._study:
            raise Refused("the instance is of another study than the one in the address")

    @contextlib.contextmanager
    def _file(self) -> Iterator[Path]:
        path = self._web.inlet.temporary()
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    def _spooled(self, raw: Path, chunks: Iterable[bytes], limit: int | None = None) -> Exception | None:
        """Write a part; None, or why it could not be kept (then the rest of it is passed over)."""
        most = limit or self._web.settings.dicom.object_bytes_max
        failure: Exception | None = None
        size = 0
        try:
            self._web.inlet.require_space()
        except Unavailable as error:
            failure = error
        with raw.open("xb") as out:
            for chunk in chunks:
                size += len(chunk)
                if failure is None and size > most:
                    failure = OSError(27, f"a part is longer than {most} bytes")
                if failure is None:
                    try:
                        out.write(chunk)
                    except OSError as error:
                        failure = error
        return failure


def _route(path: str) -> Route:
    return Route(path=path, view=store, method="POST", scopes=("dicom:write",), needs_tx=False)


ROUTES = (_route("/dicom-web/studies"), _route("/dicom-web/studies/<uid:study>"))

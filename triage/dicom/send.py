"""C-STORE and C-ECHO as the sender: `triage send`, the demo's modality, results on their way to the PACS.

Each file goes in the transfer syntax that it has; nothing is decoded or changed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext, build_context

from triage.dicom import services
from triage.dicom.associate import Remote, associate
from triage.dicom.header import read_header
from triage.domain.errors import Refused, Unavailable
from triage.domain.study import InstanceHeader

CONTEXTS = 127  # beside Verification, of one association (PS3.8 9.3.2.2: odd ids 1 to 255)


@dataclass(frozen=True)
class SendResult:
    """status: the peer's C-STORE status, None when it never answered for this file; detail says why."""

    path: Path
    status: int | None
    detail: str = ""
    accepted: bool = True  # False: this peer takes no such object, however often it is sent
    may_be_there: bool = False  # it was offered, and the answer was lost

    @property
    def ok(self) -> bool:
        """Success or a warning that counts as stored (standards 2.2)."""
        return self.status is not None and (self.status == 0 or self.status & 0xF000 == 0xB000)


def echo(
    host: str, port: int, *, calling: str = "TRIAGE", called: str = "ANY-SCP", timeout_seconds: float = 30
) -> None:
    """C-ECHO. raises Unavailable, saying what failed, when the peer does not answer 0000."""
    echo_to(Remote(host=host, port=port, called=called, calling=calling, timeout_seconds=timeout_seconds))


def echo_to(remote: Remote) -> None:
    """C-ECHO. raises Unavailable, saying what failed, when the peer does not answer 0000."""
    association = associate(remote, [build_context(services.VERIFICATION)])
    try:
        status = association.send_c_echo().get("Status")
    except (RuntimeError, ValueError) as e:
        raise Unavailable(f"{remote.where} does not offer Verification: {e}") from e
    finally:
        association.release()
    if status != 0:
        raise Unavailable(f"{remote.where} answered C-ECHO with {status!r}")


def send(
    paths: Sequence[Path],
    *,
    host: str,
    port: int,
    calling: str = "TRIAGE",
    called: str = "ANY-SCP",
    timeout_seconds: float = 60,
    progress: Callable[[SendResult], None] = lambda _: None,
) -> list[SendResult]:
    """As `send_to`, plainly."""
    remote = Remote(host=host, port=port, called=called, calling=calling, timeout_seconds=timeout_seconds)
    return send_to(remote, paths, progress)


def send_to(
    remote: Remote, paths: Sequence[Path], progress: Callable[[SendResult], None] = lambda _: None
) -> list[SendResult]:
    """Send files by C-STORE over one association (more when they need over 128 presentation contexts).

    progress  called after each file
    returns   one result per path, in their order; files that are no DICOM objects never leave
    raises    Unavailable when the peer cannot be reached or rejects the association
    """
    results: dict[Path, SendResult] = {}

    def settle(result: SendResult) -> None:
        results[result.path] = result
        progress(result)

    groups: dict[tuple[str, str], list[Path]] = {}
    for path in dict.fromkeys(paths):
        try:
            header: InstanceHeader = read_header(path)
        except (Refused, Unavailable) as e:
            settle(SendResult(path, None, str(e), accepted=isinstance(e, Unavailable)))
            continue
        groups.setdefault((header.sop_class_uid, header.transfer_syntax_uid), []).append(path)
    contexts = list(groups)
    for start in range(0, len(contexts), CONTEXTS):
        offered = contexts[start : start + CONTEXTS]
        wanted = {path for context in offered for path in groups[context]}
        association = associate(remote, _contexts(offered))
        try:
            for path in paths:
                if path in wanted and path not in results:
                    settle(_store(association, path))
        finally:
            if association.is_established:
                association.release()
    return [results[path] for path in paths]


def _contexts(offered: list[tuple[str, str]]) -> list[PresentationContext]:
    """Verification as well: an association where nothing else is accepted still says so for each file."""
    return [build_context(services.VERIFICATION), *(build_context(*context) for context in offered)]


def _store(association: Association, path: Path) -> SendResult:
    if not association.is_established:
        return SendResult(path, None, "the association is gone")
    try:
        answer = association.send_c_store(path)
    except ValueError:  # no presentation context for it
        words = "the peer does not take objects of this class in this transfer syntax"
        return SendResult(path, None, words, accepted=False)
    except (RuntimeError, AttributeError) as e:
        return SendResult(path, None, str(e))
    if "Status" not in answer:
        words = "no answer: the association was lost or timed out"
        return SendResult(path, None, words, may_be_there=True)
    return SendResult(path, int(answer.Status), str(answer.get("ErrorComment", "")))

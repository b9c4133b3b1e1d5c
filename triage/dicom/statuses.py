"""DIMSE statuses of the normalized services, and the one way from an error of ours to an answer (PS3.7 C, standards 2.1)."""

from __future__ import annotations

from collections.abc import Callable

from pydicom.dataset import Dataset

from triage.domain.errors import Refused, Unavailable
from triage.log import get_logger

SUCCESS = 0x0000
INVALID_ATTRIBUTE_VALUE = 0x0106
PROCESSING_FAILURE = 0x0110
DUPLICATE_INSTANCE = 0x0111
NO_SUCH_INSTANCE = 0x0112
MISSING_ATTRIBUTE = 0x0120
MISSING_VALUE = 0x0121
NO_SUCH_ACTION = 0x0123
NOT_AUTHORISED = 0x0124
RESOURCE_LIMITATION = 0x0213

log = get_logger()


class Failed(Refused):
    """A request that is answered with this status. The text goes to the peer (Error Comment): no patient data."""

    def __init__(self, status: int, comment: str, error_id: int | None = None) -> None:
        self.status, self.error_id = status, error_id
        super().__init__(comment)


def answer(act: Callable[[], Dataset | int | None]) -> tuple[Dataset, Dataset | None]:
    """What pynetdicom sends: 0000 with what `act` gives, the warning that it gives, or the status of what it raises."""
    try:
        done = act()
        return (_status(done), None) if isinstance(done, int) else (_status(SUCCESS), done)
    except Failed as error:
        return _status(error.status, str(error), error.error_id), None
    except Unavailable as error:  # not the peer's fault: it may come again
        log.warning("service.unavailable", error=str(error))
        return _status(RESOURCE_LIMITATION, "not possible now, send again later"), None
    except Refused as error:
        return _status(INVALID_ATTRIBUTE_VALUE, str(error)), None
    except Exception:  # the door: one message that we stumble over ends no association
        log.error("service.failed", exc_info=True, fix="send this line to the developers")
        return _status(PROCESSING_FAILURE, "internal error"), None


def _status(code: int, comment: str = "", error_id: int | None = None) -> Dataset:
    status = Dataset()
    status.Status = code
    if comment:
        status.ErrorComment = comment[:64]
    if error_id is not None:
        status.ErrorID = error_id
    return status

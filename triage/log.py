"""Events as lines: a dotted name in the past tense and fields. Text on a terminal, JSON on servers.

Fields are ids, never a patient's name, birth date, id or accession: what is not on the list is dropped, so that a
careless call cannot leak (T29).
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import MutableMapping
from types import TracebackType
from typing import Any

import structlog

from triage.domain.errors import TriageError

# Every field that may stand in a log line. Add here, with thought.
ALLOWED_FIELDS = frozenset(
    "event level timestamp process pid port address path file url part name state reason code detail error "
    "kind count total seconds since until attempt attempts limit release detector version runtime "
    "study_instance_uid series_instance_uid sop_instance_uid sop_class_uid transfer_syntax_uid digest run_id alert_id "
    "delivery_id route peer control_id request_id calling_ae_title called_ae_title association status "
    "method user role seed step rung findings instances bytes exit_code signal fix broker database home lease token_id "
    "exception exc_info stack".split()
)


def _drop_unlisted(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return {k: v for k, v in event.items() if k in ALLOWED_FIELDS}


def stack_without_words(exc_info: tuple[type[BaseException], BaseException, TracebackType | None]) -> str:
    """Where an error came from and of what kind; its words only when they are ours.

    Others put values into theirs: PostgreSQL the key of a row, a KeyError what was looked for, an OSError a file's name.
    """
    said: list[str] = []
    error: BaseException | None = exc_info[1]
    while error is not None and len(said) < 8:
        words = f": {error}" if isinstance(error, TriageError) else ""
        stack = "".join(traceback.format_tb(error.__traceback__))
        said.append(f"{stack}{type(error).__name__}{words}")
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "\nwhile handling\n".join(said)


def configure(log_format: str = "text", level: str = "INFO") -> None:
    """Send events to stderr; results own stdout."""
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _drop_unlisted,
            structlog.processors.ExceptionRenderer(stack_without_words),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def get_logger() -> Any:
    return structlog.get_logger()

"""The one tree of errors. Whether to retry is a fact of the class, decided where it is raised.

A message says what we were doing, to which object (an id, never a patient's name), what was found and
expected, and what to do now.
"""


class TriageError(Exception):
    """Base of every error that we raise on purpose."""


class Refused(TriageError):
    """The input is at fault; its sender can mend it. Exit code 4, HTTP 422."""


class Unavailable(TriageError):
    """A peer, broker, database or disk does not answer; try again later. Exit code 3, HTTP 503."""


class ReadOnly(Unavailable):
    """The database answers and takes no writes: what is there can be read, nothing can be changed."""


class Conflict(TriageError):
    """Somebody was faster. HTTP 409."""


class Misconfigured(TriageError):
    """An administrator can mend it. Exit code 1."""


class WrongTransition(TriageError):
    """A state machine was asked for a step that its table does not have: a bug of ours."""

"""What a message was told, in the reader's language. Its row keeps the English words of that moment, values filled in."""

from __future__ import annotations

import re

from triage.web.language import N_, _

# Words around values; those without any are looked up as they stand (`tests.web.catalogues.reasons` finds both kinds).
PATTERNS = (
    N_("a batch holds 1 to %(n)s messages"), N_("the message has no %(name)s segment"),
    N_("the message has more than %(n)s elements"), N_("HTTP %(n)s: redirects are not followed"),
    N_("certificate not trusted: %(why)s"), N_("no answer within %(n)s s"), N_("no answer: %(why)s"),
    N_("the mail server refuses our sign-in (%(n)s)"), N_("every recipient refused (%(codes)s)"),
    N_("TLS failed: %(why)s"), N_("cannot connect: %(why)s"), N_("no acknowledgement within %(n)s s"),
    N_("connection lost: %(why)s"), N_("%(event)s needs a person: correct the patient at the modality or the archive"),
)  # fmt: skip
# What the parts of the system say of themselves (workflow/health).
HEALTH = (
    N_("beating"), N_("every part runs"), N_("nobody runs %(parts)s; start with triage up"),
    N_("%(part)s has been silent since %(at)s UTC"), N_("%(part)s keeps dying and being started again"),
    N_("no run waits"), N_("oldest waiting run since %(at)s UTC"), N_("no delivery waits"),
    N_("oldest undelivered alert message since %(at)s UTC"), N_("none waits"), N_("nothing is late"),
    N_("studies older than %(n)s days are still here"), N_("first check due within %(time)s"),
    N_("no check since %(at)s UTC"), N_("last check passed, begun %(at)s UTC"), N_("%(n)s GiB free for the spool"),
)  # fmt: skip
# Notes that are no error.
NOTES = (
    N_("result status O or I: nothing is reported yet"), N_("no study of this report is here yet"),
    N_("this very report is known"), N_("a priority that no table knows counts as routine"),
)  # fmt: skip


def _as_regex(pattern: str) -> re.Pattern[str]:
    words = re.split(r"%\((\w+)\)s", pattern)  # words and names in turn
    return re.compile("".join(f"(?P<{w}>.+)" if n % 2 else re.escape(w) for n, w in enumerate(words)))


_BY_REGEX = {_as_regex(p): p for p in (*PATTERNS, *HEALTH)}


def told(text: str) -> str:
    """`text` in the reader's language; a peer's own words stay as they came."""
    said = _(text)
    if said != text:
        return said
    for regex, pattern in _BY_REGEX.items():
        found = regex.fullmatch(text)
        if found:
            return _(pattern, **found.groupdict())
    kind, colon, rest = text.partition(": ")  # a FHIR route says for which resource
    return f"{kind}: {told(rest)}" if colon and kind.isalpha() else text

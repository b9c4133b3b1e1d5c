"""What a message was told, why a study was not analysed, what a Run noted: in the reader's language.

A row keeps the English words of its moment, values filled in.
"""

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
    N_("nothing fails"), N_("has not answered yet: %(how)s"), N_("has not answered since %(at)s UTC: %(how)s"),
    N_("%(n)s series were given up, last for: %(why)s"), N_("%(n)s series are tried again, last for: %(why)s"),
)  # fmt: skip
# What else they say, and why an archive gave no series (dicom/archive, dicom/archive_web).
HEALTH_MORE = (
    N_("the first constancy check did not end in time"), N_("look at its url and token"),
    N_("%(n)s objects wait for their peers since %(at)s UTC"), N_("%(n)s were refused or given up"),
    N_("the database takes no writes since %(at)s UTC: mount, disk or server is read-only"),
    N_("%(n)s acknowledged objects could not be indexed; they are tried again when a receiver starts"),
    N_("%(parts)s not told of steps since %(at)s UTC: triage peer list shows the address"),
    N_("the DICOM certificate ended on %(at)s: peers refuse it"),
    N_("the DICOM certificate ends on %(at)s, in %(n)s days"),
)  # fmt: skip
ARCHIVES = (
    N_("%(peer)s: status %(code)s, %(n)s sent, %(failed)s failed"), N_("see its log"),
    N_("it found nothing, though it had named the series"), N_("it does not offer this service: try another method"),
    N_("it does not let %(us)s do this: its rights are set at %(peer)s"),
    N_("it has no memory to count the images: see its log"),
    N_("it could not send: does it reach our DICOM port, and is %(peer)s a peer here?"),
    N_("it does not know where %(us)s is: enter our host and DICOM port at %(peer)s, or use cget"),
    N_("some images did not come through: see its log and ours"),
    N_("%(peer)s does not take our call: triage echo shows why"), N_("%(peer)s was not done within %(n)s s"),
    N_("%(peer)s ended without an answer"), N_("%(peer)s stopped answering in the middle of a retrieval"),
    N_("%(peer)s did not give a series whole: %(kind)s"), N_("%(peer)s gave an empty series"),
    N_("%(peer)s answered %(n)s"),
)  # fmt: skip
# Notes that are no error.
NOTES = (
    N_("result status O or I: nothing is reported yet"), N_("no study of this report is here yet"),
    N_("this very report is known"), N_("a priority that no table knows counts as routine"),
)  # fmt: skip
# Why an input is not analysed, in numbers (domain, detectors, dicom), and what a Run notes of what it read.
DETAILS = (
    N_("%(n)s years, from %(least)s"), N_("%(n)s mm, limit %(most)s"), N_("%(n)s mm apart, limit %(most)s"),
    N_("%(n)s degrees, limit %(most)s"), N_("slices stand %(n)s degrees off axial"), N_("%(n)s slices, at least %(least)s"),
    N_("%(n)s of %(all)s slices missing"), N_("%(n)s images at %(places)s places"), N_("%(n)s slices, %(why)s"),
    N_("%(n)s slices without position, orientation or spacing"), N_("places %(n)s mm off a grid of %(step)s mm"),
    N_("%(n)s and %(m)s slices of different %(what)s"), N_("%(n)s slices of %(rows)s x %(columns)s"),
    N_("%(rows)s x %(columns)s pixels, at least %(least)s"), N_("%(rows)s x %(columns)s pixels, limit %(most)s"),
    N_("%(rows)s x %(columns)s, limit %(most)s"), N_("%(rows)s x %(columns)s pixels"),
    N_("pixels of %(rows)s x %(columns)s mm"), N_("ratio of sides above %(n)s"), N_("image type %(name)s"),
    N_("rescale type %(name)s"), N_("transfer syntax %(name)s"), N_("%(n)s frames in one film"),
    N_("more than %(n)s frames"), N_("%(n)s frames of %(size)s bytes"),
    N_("%(n)s ml of lung in the images, at least %(least)s needed"),
    N_("%(n)s slices of another %(what)s left out"), N_("%(n)s localizers left out"), N_("%(n)s duplicate slices dropped"),
    N_("%(n)s acquisitions of the same places, the latest taken"),
    N_("%(n)s slices of acquisitions of a part of it left out"), N_("places up to %(n)s mm off an even grid"),
    N_("gantry tilt %(n)s degrees corrected"),
    N_("%(n)s candidates under %(size)s mm are not listed"), N_("%(code)s: part of the lungs only, cut at the %(end)s"),
    N_("rotated by %(n)s degrees to stand upright"),
)  # fmt: skip
# What does not add up in the pixels of a file (dicom/frames, codecs, grayscale, geometry).
PIXELS = (
    N_("bits allocated %(n)s, stored %(stored)s, high bit %(high)s"),
    N_("code stream of %(n)s bits under a header of %(stored)s"),
    N_("code stream of %(n)s components in a grey image"),
    N_("code stream of %(rows)s x %(columns)s under a header of %(height)s x %(width)s"),
    N_("more than %(n)s fragments"), N_("photometric interpretation %(name)s"), N_("samples decoded as %(name)s"),
    N_("the %(name)s decoder refused the frame (%(code)s)"), N_("%(n)s RLE segments for %(bits)s bits allocated"),
    N_("%(n)s bytes of pixel data where the header declares %(all)s"), N_("%(n)s fragments do not make %(all)s frames"),
    N_("%(n)s samples decoded, %(rows)s x %(columns)s declared"),
)  # fmt: skip
# How the decoding process itself ended (dicom/_decoder).
DECODER = (
    N_("the decoder died (%(code)s)"), N_("decoding took over %(n)s s"), N_("decoding needs too much memory"),
)  # fmt: skip
# Which series is read, and what of it is not (domain/eligibility, domain/odd_images).
CHOICES = (
    N_("series %(n)s is read: %(better)s"), N_("another series is read: %(better)s"),
    N_("%(n)s images left out: %(why)s"), N_("%(one)s and %(other)s"),
)  # fmt: skip
# Words that stand in these, and details that come from a table.
WORDS = (
    N_("thinner slices"), N_("original axial images"), N_("the whole chest"), N_("inspiration"), N_("no projection"),
    N_("a kernel that the detector prefers"), N_("more slices"), N_("the lower number"), N_("base"), N_("apex"),
    N_("orientation"), N_("kernel"), N_("matrix"), N_("pixel spacing"), N_("frame of reference"),
    N_("no place and no rescale"), N_("by the picture"), N_("not a radiograph"), N_("several pictures in one"),
)  # fmt: skip
BECAUSE = {
    "film": N_("a film is one image"), "count met": N_("all images are here"),
    "every listed instance is here": N_("all images are here"), "hard limit": N_("longest wait for images is over"),
    "quiet, fewer than counted": N_("no more came, images are missing"),
    "quiet, fewer than listed": N_("no more came, images are missing"),
    "quiet after abort": N_("sending broke off, no more came"),
    "quiet, gap in positions": N_("no more came, slices are missing"),
    "no gap, association released": N_("sender has finished, no slice is missing"),
    "quiet": N_("no more came"), "drill": N_("drill"),
}  # fmt: skip


def _as_regex(pattern: str) -> re.Pattern[str]:
    words = re.split(r"%\((\w+)\)s", pattern)  # words and names in turn; %(n)s is a number
    kinds = {"n": r"-?[\d.]+"}
    return re.compile(
        "".join(f"(?P<{w}>{kinds.get(w, '.+')})" if n % 2 else re.escape(w) for n, w in enumerate(words))
    )


_BY_REGEX = {
    _as_regex(p): p
    for p in (*PATTERNS, *HEALTH, *HEALTH_MORE, *DETAILS, *PIXELS, *DECODER, *CHOICES[:-1], *ARCHIVES)
}


def told(text: str) -> str:
    """`text` in the reader's language; a peer's own words stay as they came."""
    said = _(text)
    if said != text or not text:
        return said
    parts = text.split("; ")  # several in one, unless it is one that has a semicolon of its own
    if len(parts) > 1 and (each := [told(p) for p in parts]) != parts:
        return "; ".join(each)
    for regex, pattern in _BY_REGEX.items():
        found = regex.fullmatch(text)
        if found:
            return _(pattern, **{name: _value(name, value) for name, value in found.groupdict().items()})
    kind, colon, rest = text.partition(": ")  # a FHIR route says for which resource
    return f"{kind}: {told(rest)}" if colon and kind.isalpha() else text


def _value(name: str, text: str) -> str:
    """A value that is a word of ours, or some of them, or a reason; anything else stays as it is."""
    if text in BECAUSE:
        return because(text)
    if name in ("why", "how") and (said := told(text)) != text:
        return said
    one, _and, other = text.partition(" and ")
    if one in WORDS and other in WORDS:
        return _(CHOICES[-1], one=_(one), other=_(other))
    return ", ".join(told(w) if w in WORDS or w.startswith("image type ") else w for w in text.split(", "))


def because(text: str) -> str:
    """`count met`, `quiet, gap in positions`: why a series was taken as complete."""
    return _(BECAUSE[text]) if text in BECAUSE else text or "–"

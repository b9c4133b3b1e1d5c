"""Which storage classes and transfer syntaxes we accept, in one table that negotiation, sender and documents share."""

from __future__ import annotations

VERIFICATION = "1.2.840.10008.1.1"

# A fixed implementation identity (PS3.7 D.3.3.2) under the UUID root, so that equal objects make equal files.
IMPLEMENTATION_CLASS_UID = "2.25.243069116471284839177395926112236317711"
IMPLEMENTATION_VERSION_NAME = "TRIAGE"

_STORAGE = "1.2.840.10008.5.1.4.1.1"
# standards 2.8, "accept: yes"; what is there by peer policy or unknown is refused in negotiation.
STORAGE_CLASSES = tuple(
    _STORAGE + suffix
    for suffix in (
        *(".1", ".1.1", ".1.1.1", ".2", ".2.1", ".2.2", ".4", ".4.1", ".7", ".7.1", ".7.2", ".7.3", ".7.4"),
        *(".1.2", ".1.2.1", ".12.1", ".12.2", ".128", ".130", ".11.1", ".11.2", ".11.3", ".30", ".66.1"),
        *(".66.4", ".66.5", ".66.7", ".67", ".88.11", ".88.22", ".88.33", ".88.34", ".88.35", ".88.59"),
        *(".88.50", ".88.65", ".88.69", ".88.67", ".104.1", ".104.2"),
    )
)

_SYNTAX = "1.2.840.10008.1.2"
# Order is preference: of several offered in one context we take the first uncompressed or lossless one
# (standards 5.1). What we cannot decode is not here: a refused sender falls back, a stored riddle helps nobody.
TRANSFER_SYNTAXES = tuple(
    _SYNTAX + suffix
    for suffix in (
        *(
            ".1",
            "",
            ".4.70",
            ".4.57",
            ".4.80",
            ".4.201",
            ".4.202",
            ".4.90",
            ".5",
            ".2",
            ".1.99",
            ".1.98",
            ".8.1",
        ),
        *(".4.110", ".4.50", ".4.51", ".4.81", ".4.91", ".4.203", ".4.111", ".4.112"),
    )
)

# What our own upper layer answers; other services are pynetdicom's (`handover`).
SERVED = {VERIFICATION: TRANSFER_SYNTAXES, **dict.fromkeys(STORAGE_CLASSES, TRANSFER_SYNTAXES)}

"""Who may come in: users with Argon2id passwords, sessions, access tokens with scopes.

Wrong passwords make the next try wait longer, per account; nobody is ever locked out, since a department that
cannot sign in reads without triage (assurance T11). Called by `web` and by `triage user` and `triage token`.
"""

from __future__ import annotations

import functools
import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from types import MappingProxyType

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import Connection

from triage.domain.errors import Conflict, Refused
from triage.store import audit, constancy, users

SCOPES = (
    "worklist:read", "worklist:act", "alerts:act", "qa:read", "qa:act", "audit:read", "metrics:read", "dicom:read",
    "dicom:write", "fhir:read", "admin",
)  # fmt: skip
# What each role may do (assurance T13); a token has the scopes that it was given, no more.
ROLE_SCOPES: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "reader": frozenset({"worklist:read", "worklist:act", "alerts:act"}),
        "lead": frozenset({"worklist:read", "worklist:act", "alerts:act", "qa:read", "qa:act"}),
        "qa": frozenset({"worklist:read", "qa:read", "qa:act", "audit:read"}),
        "admin": frozenset({"worklist:read", "qa:read", "audit:read", "metrics:read", "admin"}),
        "auditor": frozenset({"audit:read"}),
    }
)
_COMMON = Path(__file__).with_name("common_passwords.txt")
# Words that an attacker tries first here: alone, joined or with a few characters added they protect nothing.
CONTEXT_WORDS = ("triage", "radiology", "hospital", "password", "pacs", "admin", "welcome")
_BEYOND_CONTEXT = (
    6  # characters that must be left of a password without those words and without the user's name
)
PASSWORD_LENGTH = 10  # NIST SP 800-63B asks for 8 at least beside other factors; a site's OIDC brings those
FREE_TRIES = 3
LONGEST_DELAY = timedelta(seconds=60)

OUTSIDE = "outside"  # instead of a hash: no password fits, the identity provider decides

_hasher = PasswordHasher()  # Argon2id, RFC 9106 low-memory profile
_NOBODY = _hasher.hash("nobody has this password")  # so that an unknown name takes as long as a known one


@dataclass(frozen=True)
class SignedIn:
    """A new session; `secret` goes into the cookie and is stored nowhere."""

    secret: str
    csrf_token: str
    name: str
    role: str


class TooSoon(Refused):
    """The account waits after wrong passwords."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(f"too many wrong passwords; try again in {seconds:.0f} s")


def create_user(
    tx: Connection, name: str, role: str, password: str, now: datetime, *, by: str, display_name: str = ""
) -> int:
    """Id of the new user.

    raises  Refused for an unknown role or a password that is easily guessed; Conflict when the name is taken
    """
    if role not in ROLE_SCOPES:
        raise Refused(f"role {role!r} is unknown; one of {', '.join(ROLE_SCOPES)}")
    if not name or len(name) > 80 or not name.isprintable() or ":" in name:
        raise Refused("a user name has 1 to 80 printable characters and no colon")
    user_id = users.add_user(
        tx, name, role, hash_password(checked(password, name)), now, display_name=display_name
    )
    if user_id is None:
        raise Conflict(f"a user called {name} exists")
    audit.append(tx, now, by, "user.added", "user", name, {"role": role})
    return user_id


def change_password(tx: Connection, name: str, password: str, now: datetime, *, by: str) -> None:
    """A new password ends every session of the user."""
    found = users.find_user(tx, name)
    if found is None:
        raise Refused(f"no user is called {name}")
    users.change_user(
        tx, name, password_hash=hash_password(checked(password, name)), failures=0, not_before=None
    )
    users.close_sessions_of(tx, found["id"])
    audit.append(tx, now, by, "user.password_changed", "user", name)


def end_sessions(tx: Connection, name: str, one: str, kept: str, now: datetime) -> None:
    """A person ends one session of their own (its digest), or all of them but the one they sit at."""
    found = users.find_user(tx, name)
    if found is None:
        raise Refused(f"no user is called {name}")
    ended = users.close_others(tx, found["id"], kept, one)
    if ended:
        audit.append(tx, now, name, "session.ended", "user", name, {"sessions": ended})


def disable_user(tx: Connection, name: str, now: datetime, *, by: str) -> None:
    found = users.find_user(tx, name)
    if found is None:
        raise Refused(f"no user is called {name}")
    users.change_user(tx, name, disabled=True)
    users.close_sessions_of(tx, found["id"])
    audit.append(tx, now, by, "user.disabled", "user", name)


def enable_user(tx: Connection, name: str, now: datetime, *, by: str) -> None:
    if not users.change_user(tx, name, disabled=False, failures=0, not_before=None):
        raise Refused(f"no user is called {name}")
    audit.append(tx, now, by, "user.enabled", "user", name)


def change_role(tx: Connection, name: str, role: str, now: datetime, *, by: str) -> None:
    """Another role; sessions end, so that nobody goes on with the rights of before.

    raises  Refused for an unknown role or user, and for one's own: nobody raises or locks out themselves
    """
    if role not in ROLE_SCOPES:
        raise Refused(f"role {role!r} is unknown; one of {', '.join(ROLE_SCOPES)}")
    found = users.find_user(tx, name)
    if found is None:
        raise Refused(f"no user is called {name}")
    if name == by:
        raise Refused("another administrator changes your own role")
    users.change_user(tx, name, role=role)
    users.close_sessions_of(tx, found["id"])
    audit.append(tx, now, by, "user.role_changed", "user", name, {"from": found["role"], "to": role})


def checked(password: str, name: str) -> str:
    """The password as it came. raises Refused: too short, much used, or little more than words of this place"""
    if len(password) < PASSWORD_LENGTH:
        raise Refused(f"a password has at least {PASSWORD_LENGTH} characters")
    lowered = password.casefold()
    if hashlib.sha256(lowered.encode()).hexdigest()[:16] in _common_passwords() or len(set(lowered)) < 4:
        raise Refused("this password is among the most used ones; several words in a row are a good one")
    for word in sorted((*CONTEXT_WORDS, name.casefold()), key=len, reverse=True):
        lowered = lowered.replace(word, "")
    if len(lowered) < _BEYOND_CONTEXT:
        raise Refused("this password is little more than the user's name or a word of this place")
    return password


@functools.cache
def _common_passwords() -> frozenset[str]:
    return frozenset(line for line in _COMMON.read_text().splitlines() if not line.startswith("#"))


def hash_password(password: str) -> str:
    return _hasher.hash(password)


def password_fits(tx: Connection, name: str, password: str, now: datetime) -> bool:
    """Is this the password of `name`? The slow part (some 50 ms); only reads.

    raises  TooSoon while the account waits after wrong passwords
    """
    found = users.find_user(tx, name)
    if found is not None and found["not_before"] is not None and found["not_before"] > now:
        raise TooSoon((found["not_before"] - now).total_seconds())
    try:
        _hasher.verify(found["password_hash"] if found else _NOBODY, password)
    except (VerificationError, InvalidHashError):
        return False
    return found is not None and not found["disabled"]


def sign_in_from_outside(tx: Connection, name: str, display_name: str, role: str, now: datetime) -> SignedIn:
    """A fresh session of a person whom the identity provider named; its word on the role counts at each sign-in.

    raises  Refused for a person who was disabled here, and for the name of a local user (whose password still rules)
    """
    found = users.find_user(tx, name)
    if found is None:
        users.add_user(tx, name, role, OUTSIDE, now, display_name=display_name)
        audit.append(tx, now, "triage", "user.added", "user", name, {"role": role, "by": "identity provider"})
    elif found["password_hash"] != OUTSIDE:
        raise Refused("a local user has this name; an administrator must remove or rename it")
    elif (found["role"], found["display_name"]) != (role, display_name):
        users.change_user(tx, name, role=role, display_name=display_name)
        users.close_sessions_of(tx, found["id"])
        audit.append(
            tx, now, "triage", "user.role_changed", "user", name, {"from": found["role"], "to": role}
        )
    return sign_in(tx, name, now)


def sign_in(tx: Connection, name: str, now: datetime) -> SignedIn:
    """A fresh session after `password_fits`; the old cookie's is not taken over (T12)."""
    found = users.find_user(tx, name)
    if found is None or found["disabled"]:
        raise Refused("name or password is wrong")
    users.change_user(tx, name, failures=0, not_before=None)
    signed = SignedIn(secrets.token_urlsafe(32), secrets.token_urlsafe(24), name, found["role"])
    users.open_session(tx, found["id"], signed.secret, signed.csrf_token, now)
    audit.append(tx, now, name, "session.opened", "user", name)
    return signed


def tell_break_glass(tx: Connection, name: str, operators: Sequence[str], now: datetime) -> None:
    """A password was used although the hospital has an identity provider: in the trail, and told to operators."""
    audit.append(tx, now, name, "session.break_glass", "user", name)
    text = f"emergency access: {name} signed in with a password at {now:%Y-%m-%d %H:%M} UTC; look into the audit trail"
    for route in operators:
        constancy.add_notice(tx, "session.break_glass", text, route, secrets.token_hex(10), now)


def note_failure(tx: Connection, name: str, now: datetime) -> None:
    """A wrong password: from the fourth on the account waits 1, 2, 4 ... 60 seconds before the next try."""
    found = users.find_user(tx, name)
    if found is None:
        return  # an unknown name is not stored: it may be a password typed into the wrong field
    failures = found["failures"] + 1
    beyond = failures - FREE_TRIES
    delay = min(timedelta(seconds=2.0 ** min(beyond - 1, 10)), LONGEST_DELAY) if beyond > 0 else None
    users.change_user(tx, name, failures=failures, not_before=now + delay if delay else None)
    audit.append(tx, now, name, "session.refused", "user", name, {"failures": failures})


def issue_token(tx: Connection, name: str, scopes: Sequence[str], now: datetime, *, by: str) -> str:
    """A new access token; shown once, stored as a digest.

    raises  Refused for an unknown scope; Conflict when the name was used before
    """
    unknown = sorted(set(scopes) - set(SCOPES))
    if unknown or not scopes:
        raise Refused(f"unknown scope {', '.join(unknown) or '(none given)'}; one of {', '.join(SCOPES)}")
    if not name or len(name) > 70 or not name.isprintable():
        raise Refused("a token name has 1 to 70 printable characters")
    secret = f"triage_{secrets.token_urlsafe(32)}"  # the prefix lets secret scanners find a leak
    if not users.add_token(tx, name, secret, sorted(set(scopes)), now):
        raise Conflict(f"a token called {name} exists; revoked names are not used again")
    audit.append(tx, now, by, "token.issued", "token", name, {"scopes": sorted(set(scopes))})
    return secret


def revoke_token(tx: Connection, name: str, now: datetime, *, by: str) -> None:
    if not users.revoke_token(tx, name, now):
        raise Refused(f"no live token is called {name}")
    audit.append(tx, now, by, "token.revoked", "token", name)

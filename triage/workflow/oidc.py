"""Sign-in by the hospital's own identity provider: OpenID Connect, authorization code with PKCE, state and nonce checked.

Two calls: `begin` says where the browser goes and what it must bring back; `finish` checks everything that came and says
who it is and with which role. Nothing is stored in between: what the browser brings back proves itself (standards 9.3).

    source  OpenID Connect Core 1.0 sections 3.1.2 and 3.1.3.7; RFC 7636 (PKCE); RFC 9207 (issuer in the answer)
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

import httpx
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from triage.domain.errors import Refused, Unavailable
from triage.settings import LOOPBACK, OidcSettings

KEPT_SECONDS = (
    3600.0  # metadata and keys; an unknown key is fetched at once, but not more often than FRESH_SECONDS
)
FRESH_SECONDS = 60.0
ANSWER_BYTES_MAX = 1 << 20
ALGORITHMS = ["RS256", "PS256", "ES256"]  # never "none", never a secret shared with the client
LEEWAY_SECONDS = 60
ROLE_ORDER = ("admin", "lead", "qa", "reader", "auditor")  # of several groups the first of these counts


@dataclass(frozen=True)
class Flow:
    """What the browser keeps in its cookie between the two calls."""

    state: str
    nonce: str
    verifier: str
    next: str

    def as_text(self) -> str:
        return base64.urlsafe_b64encode(json.dumps(asdict(self)).encode()).decode()

    @classmethod
    def from_text(cls, text: str) -> Flow:
        """raises  Refused for anything that we did not write"""
        try:
            return cls(**{k: str(v) for k, v in json.loads(base64.urlsafe_b64decode(text.encode())).items()})
        except (ValueError, TypeError, AttributeError) as error:
            raise Refused("this sign-in was not begun here, or too long ago; begin again") from error


@dataclass(frozen=True)
class Person:
    """Who the provider says it is. name: how the trail will call them."""

    name: str
    display_name: str
    role: str


class Provider:
    """One identity provider; metadata and keys are fetched when needed and kept for an hour."""

    def __init__(self, settings: OidcSettings, transport: httpx.BaseTransport | None = None) -> None:
        self._settings = settings
        self._http = httpx.Client(timeout=10.0, follow_redirects=False, trust_env=False, transport=transport)
        self._lock = threading.Lock()
        self._metadata: tuple[float, dict[str, Any]] | None = None
        self._keys: tuple[float, KeySet] | None = None

    def begin(self, redirect_uri: str, target: str) -> tuple[str, Flow]:
        """(address for the browser, what it must keep). raises Unavailable when the provider cannot be asked"""
        flow = Flow(secrets.token_urlsafe(24), secrets.token_urlsafe(24), secrets.token_urlsafe(48), target)
        challenge = (
            base64.urlsafe_b64encode(hashlib.sha256(flow.verifier.encode()).digest()).decode().rstrip("=")
        )
        query = {
            "response_type": "code", "client_id": self._settings.client_id, "redirect_uri": redirect_uri,
            "scope": self._settings.scope, "state": flow.state, "nonce": flow.nonce, "code_challenge": challenge,
            "code_challenge_method": "S256",
        }  # fmt: skip
        address = self._about("authorization_endpoint")
        return f"{address}{'&' if '?' in address else '?'}{urlencode(query)}", flow

    def finish(self, flow: Flow, answer: Mapping[str, str], redirect_uri: str) -> Person:
        """Who came back.

        raises  Refused when the answer is not the one to this flow, says no, or names nobody with a role here;
                Unavailable when the provider cannot be asked
        """
        if not hmac.compare_digest(answer.get("state", ""), flow.state):
            raise Refused("this sign-in was not begun here, or too long ago; begin again")
        if "error" in answer or "code" not in answer:
            raise Refused("the identity provider did not let you in")
        if answer.get("iss", self._settings.issuer) != self._settings.issuer:
            raise Refused("the answer is from another identity provider")
        tokens = self._post(
            self._about("token_endpoint"),
            {"grant_type": "authorization_code", "code": answer["code"], "redirect_uri": redirect_uri,
             "code_verifier": flow.verifier},
        )  # fmt: skip
        claims = self._claims(str(tokens.get("id_token", "")), flow.nonce)
        if self._settings.groups_claim not in claims and "access_token" in tokens:
            told = self._get(self._about("userinfo_endpoint"), str(tokens["access_token"]))
            if told.get("sub") == claims["sub"]:  # OpenID Connect Core 5.3.4
                claims = {**told, **claims}
        return self._person(claims)

    def _claims(self, id_token: str, nonce: str) -> dict[str, Any]:
        try:
            try:
                token = jwt.decode(id_token, self._key_set(), algorithms=ALGORITHMS)
            except (JoseError, ValueError):
                # A provider that rotated its keys: ask once more for them.
                token = jwt.decode(id_token, self._key_set(fresh=True), algorithms=ALGORITHMS)
            jwt.JWTClaimsRegistry(
                now=int(time.time()), leeway=LEEWAY_SECONDS,
                iss={"essential": True, "value": self._settings.issuer},
                aud={"essential": True, "value": self._settings.client_id},
                exp={"essential": True}, sub={"essential": True}, nonce={"essential": True, "value": nonce},
            ).validate(token.claims)  # fmt: skip
        except (JoseError, ValueError) as error:
            raise Refused("the identity provider's answer does not hold; begin again") from error
        return dict(token.claims)

    def _person(self, claims: Mapping[str, Any]) -> Person:
        told = claims.get(self._settings.groups_claim, [])
        groups = {told} if isinstance(told, str) else {str(g) for g in told}
        roles = {role for group, role in self._settings.roles.items() if group in groups}
        role = next((r for r in ROLE_ORDER if r in roles), None)
        if role is None:
            raise Refused("none of your groups has a role here; ask your administrator")
        name = str(claims.get("preferred_username") or claims.get("email") or claims["sub"])[:70]
        if not name.isprintable() or ":" in name:
            raise Refused("your name at the identity provider cannot be used here")
        return Person(name, str(claims.get("name", ""))[:200], role)

    # --- the provider ------------------------------------------------------------------------------------

    def _about(self, what: str) -> str:
        """An address of the provider's own metadata, on TLS (or loopback)."""
        with self._lock:
            if self._metadata is None or time.monotonic() - self._metadata[0] > KEPT_SECONDS:
                found = self._get(f"{self._settings.issuer.rstrip('/')}/.well-known/openid-configuration")
                if found.get("issuer") != self._settings.issuer:
                    raise Unavailable("oidc.issuer and what the provider calls itself differ")
                self._metadata = (time.monotonic(), found)
            address = str(self._metadata[1].get(what, ""))
        parts = urlsplit(address)
        if parts.scheme != "https" and parts.hostname not in LOOPBACK:
            raise Unavailable(f"the provider's {what} is not https")
        return address

    def _key_set(self, *, fresh: bool = False) -> KeySet:
        address = self._about("jwks_uri")
        with self._lock:
            age = time.monotonic() - self._keys[0] if self._keys else KEPT_SECONDS + 1
            if self._keys is None or age > (FRESH_SECONDS if fresh else KEPT_SECONDS):
                held: Any = self._get(address)
                self._keys = (time.monotonic(), KeySet.import_key_set(held))
            return self._keys[1]

    def _get(self, address: str, token: str = "") -> dict[str, Any]:
        return self._asked(
            httpx.Request("GET", address, headers={"Authorization": f"Bearer {token}"} if token else {})
        )

    def _post(self, address: str, form: dict[str, str]) -> dict[str, Any]:
        secret = self._settings.secret()
        if secret:
            auth = base64.b64encode(f"{self._settings.client_id}:{secret}".encode()).decode()
            return self._asked(
                httpx.Request("POST", address, data=form, headers={"Authorization": f"Basic {auth}"})
            )
        return self._asked(
            httpx.Request("POST", address, data={**form, "client_id": self._settings.client_id})
        )

    def _asked(self, request: httpx.Request) -> dict[str, Any]:
        try:
            response = self._http.send(request)
        except httpx.HTTPError as error:
            raise Unavailable(f"the identity provider cannot be reached ({type(error).__name__})") from error
        if response.status_code == 401:
            raise Unavailable(
                "the identity provider does not accept oidc.client_id with its client_secret_file"
            )
        if response.status_code in (400, 403):
            raise Refused("the identity provider did not let you in; begin again")
        if response.status_code != 200 or len(response.content) > ANSWER_BYTES_MAX:
            raise Unavailable(f"the identity provider answered {response.status_code}")
        try:
            found = response.json()
        except ValueError as error:
            raise Unavailable("the identity provider's answer is no JSON") from error
        if not isinstance(found, dict):
            raise Unavailable("the identity provider's answer is no JSON object")
        return found

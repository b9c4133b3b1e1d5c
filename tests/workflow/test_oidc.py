"""What an identity provider may get wrong, or an attacker forge: each answer is checked before anybody is let in."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import OctKey, RSAKey

from triage.domain.errors import Misconfigured, Refused, Unavailable
from triage.settings import OidcSettings
from triage.workflow.oidc import Flow, Provider

ISSUER = "https://id.example"
BACK = "https://triage.example/sign-in/oidc/callback"
KEY, OTHER = RSAKey.generate_key(2048), RSAKey.generate_key(2048)
FLOW = Flow("state", "nonce", "verifier", "/")


def settings(**values: Any) -> OidcSettings:
    return OidcSettings(issuer=ISSUER, roles={"readers": "reader", "bosses": "admin"}, **values)


class Id:
    """A provider whose answers a test bends."""

    def __init__(self, **claims: Any) -> None:
        now = int(time.time())
        self.claims = {"iss": ISSUER, "aud": "triage", "exp": now + 60, "sub": "s1", "nonce": "nonce",
                       "preferred_username": "anna", "groups": ["readers"], **claims}  # fmt: skip
        self.key: Any = KEY
        self.algorithm = "RS256"
        self.published = KEY
        self.metadata = {"issuer": ISSUER, "authorization_endpoint": f"{ISSUER}/a?x=1", "token_endpoint": f"{ISSUER}/t",
                         "jwks_uri": f"{ISSUER}/k", "userinfo_endpoint": f"{ISSUER}/u"}  # fmt: skip
        self.userinfo: dict[str, Any] = {}
        self.status = 200
        self.raw: bytes | None = None
        self.asked: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        if self.raw is not None:
            return httpx.Response(self.status, content=self.raw)
        path = request.url.path
        if path.endswith("openid-configuration"):
            return httpx.Response(200, json=self.metadata)
        if path == "/k":
            return httpx.Response(200, json={"keys": [self.published.as_dict(private=False, kid="1")]})
        if path == "/u":
            return httpx.Response(200, json=self.userinfo)
        claims = {k: v for k, v in self.claims.items() if v is not None}
        token = jwt.encode({"alg": self.algorithm, "kid": "1"}, claims, self.key, algorithms=[self.algorithm])
        return httpx.Response(self.status, json={"id_token": token, "access_token": "at"})

    def provider(self, **values: Any) -> Provider:
        return Provider(settings(**values), httpx.MockTransport(self))


def finish(id_: Id, **answer: str) -> Any:
    return id_.provider().finish(FLOW, {"state": "state", "code": "c", **answer}, BACK)


def test_a_right_answer_names_the_person_and_the_strongest_role() -> None:
    person = finish(Id(groups=["readers", "bosses"], name="Anna B"))
    assert (person.name, person.display_name, person.role) == ("anna", "Anna B", "admin")
    assert finish(Id(groups="readers", preferred_username=None, email="a@b.c")).name == "a@b.c"
    assert finish(Id(preferred_username=None)).name == "s1"


def test_the_browser_is_sent_with_a_challenge_and_the_secret_stays_here(tmp_path: Any) -> None:
    (tmp_path / "secret").write_text("hush\n")
    id_ = Id()
    provider = id_.provider(client_secret_file=tmp_path / "secret")
    address, flow = provider.begin(BACK, "/qa")
    assert (
        address.startswith(f"{ISSUER}/a?x=1&response_type=code") and "code_challenge_method=S256" in address
    )
    assert flow.verifier not in address and flow.next == "/qa"
    assert Flow.from_text(flow.as_text()) == flow
    id_.claims["nonce"] = flow.nonce
    provider.finish(flow, {"state": flow.state, "code": "c"}, BACK)
    token_call = next(r for r in id_.asked if r.url.path == "/t")
    assert token_call.headers["Authorization"].startswith("Basic ") and b"hush" not in token_call.content
    with pytest.raises(Misconfigured, match="client_secret_file"):
        settings(client_secret_file=tmp_path / "gone").secret()


@pytest.mark.parametrize(
    "claims",
    [{"iss": "https://evil.example"}, {"aud": "other"}, {"exp": 1}, {"nonce": "another"}, {"nonce": None},
     {"sub": None}, {"exp": None}],
)  # fmt: skip
def test_a_token_that_is_not_for_us_now_is_refused(claims: dict[str, Any]) -> None:
    with pytest.raises(Refused, match="does not hold"):
        finish(Id(**claims))


def test_a_forged_signature_and_a_weak_algorithm_are_refused() -> None:
    forged = Id()
    forged.key = OTHER
    with pytest.raises(Refused, match="does not hold"):
        finish(forged)
    weak = Id()
    weak.key, weak.algorithm = OctKey.import_key("0123456789abcdef0123456789abcdef"), "HS256"
    with pytest.raises(Refused, match="does not hold"):
        finish(weak)


def test_keys_that_rotated_are_fetched_again_but_not_without_end() -> None:
    id_ = Id()
    provider = id_.provider()
    provider.finish(FLOW, {"state": "state", "code": "c"}, BACK)
    id_.key = id_.published = OTHER
    provider._keys = (time.monotonic() - 120, provider._keys[1])  # type: ignore[index]
    assert provider.finish(FLOW, {"state": "state", "code": "c"}, BACK).name == "anna"
    before = sum(r.url.path == "/k" for r in id_.asked)
    id_.key = KEY
    with pytest.raises(Refused):
        provider.finish(FLOW, {"state": "state", "code": "c"}, BACK)
    assert sum(r.url.path == "/k" for r in id_.asked) == before, "fetched a minute ago"


def test_groups_that_stand_in_userinfo_count_when_they_are_this_persons() -> None:
    id_ = Id(groups=None)
    id_.userinfo = {"sub": "s1", "groups": ["readers"]}
    assert finish(id_).role == "reader"
    id_.userinfo["sub"] = "somebody else"
    with pytest.raises(Refused, match="groups"):
        finish(id_)


def test_a_name_that_would_spoil_the_trail_is_refused() -> None:
    for name in ("a:b", "a\nb"):
        with pytest.raises(Refused, match="name"):
            finish(Id(preferred_username=name))


@pytest.mark.parametrize(
    "bend", ["issuer", "plain", "status", "no json", "no object", "away", "denied", "client"]
)
def test_a_provider_that_misbehaves_is_unavailable_or_a_no(bend: str) -> None:
    id_ = Id()
    expected: type[Exception] = Unavailable
    if bend == "issuer":
        id_.metadata["issuer"] = "https://evil.example"
    elif bend == "plain":
        id_.metadata["token_endpoint"] = "http://id.example/t"
    elif bend == "status":
        id_.status = 500
    elif bend == "no json":
        id_.raw = b"<html>"
    elif bend == "no object":
        id_.raw = b"[]"
    elif bend == "denied":
        id_.status, expected = 400, Refused
    elif bend == "client":
        id_.status = 401
    provider = id_.provider()
    if bend == "away":

        def away(request: httpx.Request) -> httpx.Response:
            raise httpx.ConnectError("no route")

        provider = Provider(settings(), httpx.MockTransport(away))
    with pytest.raises(expected):
        provider.finish(FLOW, {"state": "state", "code": "c"}, BACK)


def test_an_answer_to_another_question_is_refused() -> None:
    for answer in ({"state": "other"}, {"error": "access_denied"}, {"iss": "https://evil.example"}):
        with pytest.raises(Refused):
            finish(Id(), **answer)
    with pytest.raises(Refused):
        Id().provider().finish(FLOW, {"state": "state"}, BACK)
    for text in ("", "rubbish", "bm8=", "W10="):
        with pytest.raises(Refused):
            Flow.from_text(text)

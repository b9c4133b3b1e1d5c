"""Who may: the whole URL map with every role, with every scope, and with no sign-in (T13). Deny by default."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.web.conftest import Clock, SignedIn
from tests.web.seed import PASSWORD, ROLES, Sown, pneumothorax
from triage.settings import Settings
from triage.web import dicomweb_query, dicomweb_retrieve
from triage.web.app import ROUTES, create_app
from triage.web.context import PUBLIC, Route
from triage.web.rates import API, SIGN_IN_ADDRESS
from triage.workflow import accounts
from triage.workflow.fhir import KINDS

READERS = {"reader", "lead", "qa", "admin"}
EVERYBODY = {"reader", "lead", "qa", "admin", "auditor"}
ACTORS = {"reader", "lead"}
ANYONE = EVERYBODY | {""}
SYSTEMS: set[str] = set()  # no person: a system comes with a token of its own

# The table, written by hand: a new path must be put here before this test passes.
MAY = {
    "GET /": EVERYBODY,
    "GET /health": ANYONE,
    "GET /ready": ANYONE,
    "GET /metrics": {"admin"},
    "GET /sign-in": ANYONE,
    "POST /sign-in": ANYONE,
    "GET /sign-in/oidc": ANYONE,
    "GET /sign-in/oidc/callback": ANYONE,
    "POST /sign-out": EVERYBODY,
    "GET /covered": ANYONE,
    "GET /account": EVERYBODY,
    "POST /account": EVERYBODY,
    "GET /help/keys": EVERYBODY,
    "POST /help/keys": EVERYBODY,
    "POST /preferences/appearance": EVERYBODY,
    "PUT /api/v1/preferences": EVERYBODY,
    "GET /words/<string(length=2):name>": EVERYBODY,
    "GET /api/v1/views": READERS,
    "PUT /api/v1/views": READERS,
    "DELETE /api/v1/views/<string(maxlength=60):name>": READERS,
    "POST /api/v1/worklist/acts": ACTORS,
    "POST /api/v1/studies/<uid:uid>/ask": ACTORS,
    "GET /api/openapi.json": ANYONE,
    "GET /api/docs": ANYONE,
    "GET /api/v1/worklist": READERS,
    "POST /api/v1/worklist/next": ACTORS,
    "POST /api/v1/worklist/searches": READERS,
    "GET /api/v1/studies/<uid:uid>": READERS,
    "GET /api/v1/studies/<uid:uid>/preview": READERS,
    "POST /api/v1/studies/<uid:uid>/claim": ACTORS,
    "POST /api/v1/studies/<uid:uid>/release": ACTORS,
    "POST /api/v1/studies/<uid:uid>/keep": ACTORS,
    "POST /api/v1/studies/<uid:uid>/feedback": ACTORS,
    "DELETE /api/v1/studies/<uid:uid>/feedback": ACTORS,
    "POST /api/v1/studies/<uid:uid>/override": ACTORS,
    "POST /api/v1/studies/<uid:uid>/report": ACTORS,
    "POST /api/v1/studies/<uid:uid>/overlay": READERS,
    "GET /api/v1/alerts": READERS,
    "POST /api/v1/alerts/<id:alert_id>/acknowledge": ACTORS,
    "POST /api/v1/alerts/<id:alert_id>/handover": ACTORS,
    "POST /api/v1/alerts/<id:alert_id>/later": ACTORS,
    "GET /api/v1/messages": {"admin"},
    "POST /api/v1/messages/search": {"admin"},
    **{
        f"POST /api/v1/messages/{way}/<id:message_id>/{act}": {"admin"}
        for way in ("in", "out")
        for act in ("raw", "replay", "park")
    },
    "GET /api/v1/oncall": READERS,
    "POST /api/v1/oncall": {"admin"},
    "DELETE /api/v1/oncall/<id:number>": {"admin"},
    "GET /fhir/metadata": ANYONE,
    **{
        f"GET /fhir/{kind}{path}": {"qa", "admin", "auditor"}
        if kind == "AuditEvent"
        else set()  # tokens alone
        for kind in KINDS
        for path in ("", "/<id:number>")
    },
    "GET /api/v1/events": READERS,
    "GET /api/v1/audit": {"qa", "admin", "auditor"},
    "GET /api/v1/reports/qa": {"lead", "qa", "admin"},
    "GET /api/v1/peers": {"admin"},
    "POST /api/v1/peers/<string(maxlength=40):name>/test": {"admin"},
    "POST /api/v1/outputs/<uid:uid>/again": {"admin"},
    "POST /dicom-web/studies": set(),  # no role stores or fetches: a system does, with a token
    "GET /dicom-web/instances": set(),
    "GET /dicom-web/series": set(),
    "GET /dicom-web/studies": set(),
    "GET /dicom-web/studies/<uid:study>": set(),
    "GET /dicom-web/studies/<uid:study>/instances": set(),
    "GET /dicom-web/studies/<uid:study>/metadata": set(),
    "GET /dicom-web/studies/<uid:study>/series": set(),
    "GET /dicom-web/studies/<uid:study>/series/<uid:series>": set(),
    "GET /dicom-web/studies/<uid:study>/series/<uid:series>/instances": set(),
    "GET /dicom-web/studies/<uid:study>/series/<uid:series>/instances/<uid:instance>": set(),
    "GET /dicom-web/studies/<uid:study>/series/<uid:series>/instances/<uid:instance>/bulkdata/<string:tag>": set(),
    "GET /dicom-web/studies/<uid:study>/series/<uid:series>/instances/<uid:instance>/frames/<string:frame>/rendered": set(),
    "GET /dicom-web/studies/<uid:study>/series/<uid:series>/instances/<uid:instance>/frames/<string:frames>": set(),
    "GET /dicom-web/studies/<uid:study>/series/<uid:series>/instances/<uid:instance>/metadata": set(),
    "GET /dicom-web/studies/<uid:study>/series/<uid:series>/instances/<uid:instance>/rendered": set(),
    "GET /dicom-web/studies/<uid:study>/series/<uid:series>/metadata": set(),
    "POST /dicom-web/studies/<uid:study>": set(),
    **{f"GET {r.path}": set() for r in (*dicomweb_query.ROUTES, *dicomweb_retrieve.ROUTES)},  # tokens alone
    "GET /dicom-web/workitems": READERS,
    "GET /dicom-web/workitems/<uid:uid>": READERS,
    "POST /dicom-web/workitems/<uid:uid>": ACTORS,
    "PUT /dicom-web/workitems/<uid:uid>/state": ACTORS,
    "POST /dicom-web/workitems/<uid:uid>/cancelrequest": ACTORS,
    "POST /dicom-web/workitems/<uid:uid>/subscribers/<ae>": READERS,
    "DELETE /dicom-web/workitems/<uid:uid>/subscribers/<ae>": READERS,
    "POST /dicom-web/workitems/<uid:uid>/subscribers/<ae>/suspend": READERS,
    "GET /dicom-web/subscribers/<ae>": READERS,
    "GET /api/v1/reports/qa/charts": {"lead", "qa", "admin"},
    "GET /api/v1/reports/qa/charts/<id:number>": {"lead", "qa", "admin"},
    "POST /api/v1/reports/qa/sign": {"lead", "qa"},
    "GET /api/v1/reports/qa/signed": {"lead", "qa", "admin"},
    "GET /api/v1/reports/qa/signed/<id:report_id>": {"lead", "qa", "admin"},
    "GET /qa/charts/<id:number>": {"lead", "qa", "admin"},
    "GET /qa/report": {"lead", "qa", "admin"},
    "POST /qa/report/sign": {"lead", "qa"},
    "GET /double-reads": ACTORS,
    "POST /double-reads/<uid:uid>": ACTORS,
    "GET /worklist": READERS,
    "GET /worklist/<uid:uid>": READERS,
    "GET /worklist/<uid:uid>/panel": READERS,
    "GET /worklist/rows": READERS,
    "POST /worklist/export": READERS,
    "GET /alerts": READERS,
    "GET /m": READERS,
    "GET /m/<string(length=32):word>": READERS,
    "POST /alerts/<id:alert_id>/<any(acknowledge,handover):act>": ACTORS,
    "GET /qa": {"lead", "qa", "admin"},
    "GET /audit": {"qa", "admin", "auditor"},
    "GET /audit/verify": {"qa", "admin", "auditor"},
    "GET /qa/replay": {"lead", "qa", "admin"},
    "GET /admin/health": {"admin"},
    "POST /admin/health": {"admin"},
    "GET /admin/policies": {"admin"},
    "POST /admin/policies": {"admin"},
    "GET /admin/releases": {"admin"},
    "POST /admin/releases": {"admin"},
    "GET /admin/users": {"admin"},
    "POST /admin/users": {"admin"},
    "GET /admin/peers": {"admin"},
    "POST /admin/peers": {"admin"},
    "GET /admin/escalation": {"admin"},
    "POST /admin/escalation": {"admin"},
    "GET /api/v1/admin/escalation": {"admin"},
    "POST /api/v1/admin/escalation/drill": {"admin"},
    "POST /api/v1/admin/escalation/drill/<id:number>/end": {"admin"},
    "POST /api/v1/admin/routes/<string(maxlength=40):name>/test": {"admin"},
    "GET /admin/messages": {"admin"},
    "POST /admin/messages": {"admin"},
    "GET /admin/messages/<any(in,out):way>/<id:message_id>": {"admin"},
    "POST /admin/messages/<any(in,out):way>/<id:message_id>": {"admin"},
    "GET /admin/rules": {"admin"},
    "GET /admin/routes": {"admin"},
    "GET /api/v1/admin/policies": {"admin"},
    "POST /api/v1/admin/policies": {"admin"},
    "POST /api/v1/admin/policies/dry-run": {"admin"},
    "POST /api/v1/admin/policies/<id:number>/restore": {"admin"},
    "POST /api/v1/admin/rules/try": {"admin"},
    "GET /api/v1/admin/releases": {"admin"},
    "POST /api/v1/admin/releases/<id:number>/propose": {"admin"},
    "POST /api/v1/admin/releases/<id:number>/move": {"admin"},
    "POST /api/v1/admin/releases/<id:number>/roll-back": {"admin"},
    "POST /api/v1/admin/proposals/<id:number>/confirm": {"admin"},
    "POST /api/v1/admin/proposals/<id:number>/withdraw": {"admin"},
}
_FHIR = ("Patient", "ServiceRequest", "ImagingStudy", "Observation", "DiagnosticReport", "Device", "Task")
MAY |= {f"GET /fhir/{kind}{rest}": SYSTEMS for kind in _FHIR for rest in ("", "/<id:number>")}
MAY |= {f"POST /fhir/{kind}/_search": SYSTEMS for kind in _FHIR} | {
    "POST /fhir/AuditEvent/_search": {"qa", "admin", "auditor"}
}
MAY |= {f"GET /fhir/AuditEvent{rest}": {"qa", "admin", "auditor"} for rest in ("", "/<id:number>")}
MAY |= {f"POST /api/v1/messages/{way}/<id:message_id>/{act}": {"admin"}
        for way in ("in", "out") for act in ("raw", "replay", "park")}  # fmt: skip
_STUDY = "/dicom-web/studies/<uid:study>"
_SERIES = f"{_STUDY}/series/<uid:series>"
_INSTANCE = f"{_SERIES}/instances/<uid:instance>"
MAY |= {
    f"GET {path}": SYSTEMS
    for path in (
        "/dicom-web/studies", "/dicom-web/series", "/dicom-web/instances", f"{_STUDY}/series", f"{_STUDY}/instances",
        f"{_SERIES}/instances", _STUDY, _SERIES, _INSTANCE, f"{_STUDY}/metadata", f"{_SERIES}/metadata",
        f"{_INSTANCE}/metadata", f"{_INSTANCE}/frames/<string:frames>", f"{_INSTANCE}/frames/<string:frame>/rendered",
        f"{_INSTANCE}/rendered", f"{_INSTANCE}/bulkdata/<string:tag>",
    )
}  # fmt: skip
DENIED = {401, 403}


def name(route: Route) -> str:
    return f"{route.method} {route.path}"


def url(route: Route, uid: str) -> str:
    """The path with something in each place: what is named there need not exist."""
    path = re.sub(r"<uid:\w+>", uid, route.path)
    path = re.sub(r"<id:\w+>", "1", path)
    path = re.sub(r"<any\((\w+)[^)]*\):\w+>", r"\1", path)
    path = re.sub(r"<string\(length=(\d+)\):\w+>", lambda m: "de" * (int(m[1]) // 2), path)
    return re.sub(r"<(?:string(?:\([^)]*\))?:)?\w+>", "de", path)


def let_in(client: FlaskClient, route: Route, uid: str) -> bool:
    """Did the door open? What the view then says (404, 409, 422 ...) is another matter."""
    response = client.open(url(route, uid), method=route.method, buffered=False)
    response.close()
    led_away = response.status_code == 302 and "/sign-in" in response.headers["Location"]
    if route.path.startswith(("/sign-in", "/sign-out")):  # these lead there for their own reasons
        return response.status_code != 403
    return response.status_code not in DENIED and not led_away


def test_the_table_names_every_path_and_no_other(app: Flask) -> None:
    assert {name(r) for r in ROUTES} == set(MAY)
    declared = {r.endpoint for r in ROUTES} | {"static"}
    assert {rule.endpoint for rule in app.url_map.iter_rules()} == declared


@pytest.mark.parametrize("role", [*ROLES, ""])
def test_every_path_with_this_role(role: str, app: Flask, signed_in: SignedIn, sown: Sown) -> None:
    uid = sown.add(findings=(pneumothorax(),))
    client = signed_in(role) if role else app.test_client()
    wrong = []
    for route in sorted(ROUTES, key=lambda r: r.path == "/sign-out"):  # sign-out last: it ends the session
        expected = role in MAY[name(route)]
        if route.path == "/sign-out" and not role:
            continue
        if let_in(client, route, uid) != expected:
            wrong.append((name(route), "should" if expected else "should not"))
    assert wrong == []


@pytest.mark.parametrize("scope", accounts.SCOPES)
def test_a_token_opens_what_its_scope_names_and_no_more(
    scope: str, app: Flask, bearer: Callable[..., FlaskClient], sown: Sown
) -> None:
    uid = sown.add(findings=(pneumothorax(),))
    client = bearer(scope)
    for route in ROUTES:
        if route.path.startswith(("/sign-in", "/sign-out")):
            continue
        expected = route.scopes in (PUBLIC, ()) or scope in route.scopes
        assert let_in(client, route, uid) == expected, name(route)


def test_without_a_csrf_token_no_session_acts(signed_in: SignedIn, sown: Sown) -> None:
    uid = sown.add()
    client = signed_in("reader")
    del client.environ_base["HTTP_X_CSRF_TOKEN"]
    for route in ROUTES:
        if route.acts and route.scopes != PUBLIC:
            assert client.open(url(route, uid), method=route.method).status_code == 403, name(route)


def test_another_sites_request_is_refused(signed_in: SignedIn, sown: Sown) -> None:
    client = signed_in("reader")
    for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site", "Origin": "null"}):
        assert client.post("/api/v1/worklist/next", headers=headers).status_code == 403


def test_an_idle_session_ends_and_a_page_that_polls_does_not_keep_it(
    signed_in: SignedIn, clock: Clock
) -> None:
    client = signed_in("reader")
    for _ in range(4):
        clock.forward(minutes=4)
        assert client.get("/api/v1/worklist").status_code == 200
    for _ in range(3):
        clock.forward(minutes=4)
        assert client.get("/api/v1/worklist", headers={"X-Triage-Background": "1"}).status_code == 200
    clock.forward(minutes=4)
    assert client.get("/api/v1/worklist", headers={"X-Triage-Background": "1"}).status_code == 401


def sign_in(client: FlaskClient, user: str, password: str, then: str = "") -> int:
    return client.post("/sign-in", data={"name": user, "password": password, "next": then}).status_code


def test_a_session_ends_after_its_longest_life_however_busy(signed_in: SignedIn, clock: Clock) -> None:
    client = signed_in("reader")
    for _ in range(12 * 6):
        assert client.get("/api/v1/worklist").status_code == 200
        clock.forward(minutes=10)
    clock.forward(seconds=1)
    assert client.get("/api/v1/worklist").status_code == 401


def test_sign_in_opens_a_fresh_session_and_goes_only_to_our_own_pages(app: Flask, sown: Sown) -> None:
    client = app.test_client()
    client.set_cookie("triage_session", "fixed-by-an-attacker")
    response = client.post(
        "/sign-in", data={"name": "reader", "password": PASSWORD, "next": "//evil.example/x"}
    )
    assert response.status_code == 302
    assert response.headers["Location"] == "/"
    cookie = response.headers["Set-Cookie"]
    assert "fixed-by-an-attacker" not in cookie
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert client.get("/api/v1/worklist").status_code == 200
    assert PASSWORD not in response.get_data(as_text=True)


def test_wrong_passwords_wait_longer_and_longer_but_nobody_is_locked_out(app: Flask, clock: Clock) -> None:
    client = app.test_client()
    assert [sign_in(client, "ann", "wrong password") for _ in range(5)] == [401, 401, 401, 401, 429]
    clock.forward(seconds=2)
    app.extensions["triage"].rates._buckets.clear()  # the brake per account and minute is tested below
    assert sign_in(client, "ann", PASSWORD) == 302
    assert sign_in(app.test_client(), "ben", PASSWORD) == 302


def test_a_fresh_installation_says_how_to_make_the_first_user(app: Flask, sown: Sown) -> None:
    assert "user add" not in app.test_client().get("/sign-in").get_data(as_text=True)
    with sown.database.write() as tx:
        tx.exec_driver_sql('DELETE FROM "user"')
    assert "triage user add NAME --role admin" in app.test_client().get("/sign-in").get_data(as_text=True)


def test_an_unknown_name_and_a_wrong_password_sound_the_same(app: Flask) -> None:
    client = app.test_client()
    pages = [
        client.post("/sign-in", data={"name": n, "password": "not this one"}).data for n in ("ann", "nobody")
    ]
    assert pages[0] == pages[1]


def test_one_address_may_not_try_without_end(app: Flask) -> None:
    for _ in range(SIGN_IN_ADDRESS.burst):
        app.extensions["triage"].rates.wait_seconds(SIGN_IN_ADDRESS, "127.0.0.1")
    assert sign_in(app.test_client(), "ann", PASSWORD) == 429


def test_signing_out_ends_the_session_everywhere(signed_in: SignedIn) -> None:
    client = signed_in("reader")
    assert client.post("/sign-out").status_code == 302
    assert client.get("/api/v1/worklist").status_code == 401


def test_a_disabled_user_is_out_at_once(signed_in: SignedIn, sown: Sown, clock: Clock) -> None:
    client = signed_in("ann")
    with sown.database.write() as tx:
        accounts.disable_user(tx, "ann", clock(), by="test")
    assert client.get("/api/v1/worklist").status_code == 401


def test_a_token_that_asks_without_end_is_braked(settings: Settings, sown: Sown, clock: Clock) -> None:
    with sown.database.write() as tx:
        secret = accounts.issue_token(tx, "eager", ["qa:read"], clock(), by="test")
    settings.home.mkdir(exist_ok=True)
    seconds = [0.0]
    app = create_app(settings, sown.database, clock, monotonic=lambda: seconds[0])
    client = app.test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {secret}"

    def passes() -> int:
        """How many of the next requests are let in before the first that is not."""
        for count in range(API.burst + 1):
            response = client.get("/api/v1/alerts")
            if response.status_code == 429:
                assert int(response.headers["Retry-After"]) >= 1
                return count
            assert response.status_code == 403  # this token reads QA alone; it is counted all the same
        raise AssertionError("nobody is braked")

    assert passes() == API.burst
    seconds[0] += 0.5
    assert passes() == API.per_second // 2
    app.extensions["triage"].previewer.close()


def test_secrets_are_stored_as_digests_alone(app: Flask, sown: Sown, clock: Clock) -> None:
    with sown.database.write() as tx:
        token = accounts.issue_token(tx, "t", ["admin"], clock(), by="test")
        signed = accounts.sign_in(tx, "ann", clock())
        dump = repr(
            [
                tx.exec_driver_sql(f'SELECT * FROM "{t}"').fetchall()
                for t in ("user", "session", "token", "audit_event")
            ]
        )
    assert token not in dump
    assert signed.secret not in dump
    assert PASSWORD not in dump

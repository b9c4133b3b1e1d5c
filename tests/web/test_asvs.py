"""What OWASP ASVS 5.0 level 2 asks of the web side and no other test shows. The whole list: docs/reference/asvs.md."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import pytest
import structlog
from flask import Flask
from flask.testing import FlaskClient

from tests.web.conftest import Clock, SignedIn
from tests.web.seed import PASSWORD, Sown
from tests.web.test_rights import url
from triage import log
from triage.settings import Settings, WebSettings
from triage.web.app import ROUTES, create_app

ROOT = Path(__file__).resolve().parents[2]
LIST = ROOT / "docs" / "reference" / "asvs.md"


@pytest.fixture
def behind_tls(settings: Settings, sown: Sown, clock: Clock) -> Iterator[FlaskClient]:
    settings.home.mkdir(exist_ok=True)
    web = WebSettings(secure_cookies=True)
    app = create_app(settings.model_copy(update={"web": web}), sown.database, clock)
    yield app.test_client()
    app.extensions["triage"].previewer.close()


def test_the_session_cookie_is_host_only_secure_and_out_of_reach_of_scripts(behind_tls: FlaskClient) -> None:
    """3.3.1 to 3.3.4"""
    response = behind_tls.post("/sign-in", data={"name": "reader", "password": PASSWORD})
    (cookie,) = response.headers.getlist("Set-Cookie")
    name, *attributes = cookie.split("; ")
    assert name.startswith("__Host-triage=") and len(cookie) < 4096
    assert {"Secure", "HttpOnly", "Path=/", "SameSite=Lax"} == set(attributes)


def test_behind_tls_the_browser_is_told_to_stay_there(behind_tls: FlaskClient) -> None:
    """3.4.1"""
    said = behind_tls.get("/health").headers["Strict-Transport-Security"]
    assert int(re.search(r"max-age=(\d+)", said)[1]) >= 31_536_000 and "includeSubDomains" in said  # type: ignore[index]


def test_every_path_has_every_header_and_says_its_character_set(
    app: Flask, signed_in: SignedIn, sown: Sown
) -> None:
    """3.4.3 to 3.4.6, 4.1.1; no other site may read an answer (3.4.2)"""
    uid, client = sown.add(), signed_in("admin")
    for route in ROUTES:
        if route.method != "GET" or route.path == "/api/v1/events":
            continue
        response = client.get(url(route, uid), headers={"Origin": "https://evil.example"})
        headers = response.headers
        assert "default-src 'none'" in headers["Content-Security-Policy"], route.path
        assert "base-uri 'none'" in headers["Content-Security-Policy"], route.path
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"], route.path
        assert headers["X-Content-Type-Options"] == "nosniff" and headers["Referrer-Policy"] == "no-referrer"
        assert not any(h.startswith("Access-Control-") for h, _ in headers), route.path
        if response.data and headers["Content-Type"].startswith("text/"):
            assert "charset=utf-8" in headers["Content-Type"].lower(), route.path


def test_what_a_proxy_would_say_is_believed_from_a_proxy_alone(
    settings: Settings, sown: Sown, clock: Clock
) -> None:
    """4.1.3: a made-up address for each try does not get around the limit of one address"""
    settings.home.mkdir(exist_ok=True)
    app = create_app(settings, sown.database, clock, monotonic=lambda: 0.0)
    client = app.test_client()
    statuses = [
        client.post(
            "/sign-in", data={"name": f"n{i}", "password": "x"}, headers={"X-Forwarded-For": f"10.0.0.{i}"}
        ).status_code
        for i in range(22)
    ]
    assert statuses[-1] == 429
    said = client.get("/worklist", headers={"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https"})
    assert "evil.example" not in said.headers["Location"]
    app.extensions["triage"].previewer.close()


@pytest.mark.parametrize("method", ["TRACE", "PATCH", "CONNECT", "PROPFIND"])
def test_a_method_that_nobody_declared_does_nothing(signed_in: SignedIn, method: str) -> None:
    """4.1.4"""
    assert signed_in("admin").open("/api/v1/worklist", method=method).status_code in (404, 405)


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2fapp.py", "/static//etc/passwd",
        "/api/v1/studies/..%2f..%2fetc/preview", "/api/v1/studies/1.2/../../../etc",
    ],
)  # fmt: skip
def test_no_path_leads_out_of_its_folder(signed_in: SignedIn, path: str) -> None:
    """5.3.2"""
    response = signed_in("reader").get(path)
    assert response.status_code in (301, 308, 404) and b"create_app" not in response.data


def test_a_form_of_too_many_parts_is_refused_before_it_is_read(app: Flask) -> None:
    """2.4.1, 5.2.1"""
    many = {f"part{i}": "x" for i in range(200)}
    assert (
        app.test_client().post("/sign-in", data=many, content_type="multipart/form-data").status_code == 413
    )


def test_an_error_of_ours_says_its_number_and_nothing_of_the_inside(
    app: Flask, signed_in: SignedIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """16.5.1, 16.5.4"""

    def breaks(*_: Any, **__: Any) -> None:
        raise RuntimeError("secret: SELECT * FROM patient WHERE name = 'Doe'")

    monkeypatch.setattr("triage.store.listing.rows", breaks)
    response = signed_in("reader").get("/api/v1/worklist")
    assert response.status_code == 500
    assert response.get_json()["reference"] == response.headers["X-Reference"]
    for inside in (b"secret", b"SELECT", b"Traceback", b"RuntimeError", b".py"):
        assert inside not in response.data


def test_a_refused_right_is_logged_with_who_and_where(
    signed_in: SignedIn, sown: Sown, monkeypatch: pytest.MonkeyPatch
) -> None:
    """16.3.2, 16.2.1, 16.2.2"""
    said = io.StringIO()
    with redirect_stderr(said):
        try:
            structlog.reset_defaults()
            log.configure("json")
            monkeypatch.setattr("triage.web.problems.log", log.get_logger())
            signed_in("auditor").post(f"/api/v1/studies/{sown.add()}/claim")
        finally:
            structlog.reset_defaults()
    line = next(text for text in said.getvalue().splitlines() if "request.denied" in text)
    assert '"user": "auditor"' in line and '"status": 403' in line and "<uid:uid>/claim" in line
    assert re.search(r'"timestamp": "\d{4}-\d\d-\d\dT[0-9:.]+Z"', line)


@pytest.mark.parametrize("form", ["text", "json"])
def test_what_a_peer_writes_makes_no_log_line_of_its_own(form: str) -> None:
    """16.4.1"""
    said = io.StringIO()
    with redirect_stderr(said):
        try:
            structlog.reset_defaults()
            log.configure(form)
            log.get_logger().info("association.opened", calling_ae_title="X\n2026 [error] forged\x1b[2J\r")
        finally:
            structlog.reset_defaults()
    assert len(said.getvalue().splitlines()) == 1 and "\x1b[2J" not in said.getvalue()


def test_a_page_of_ours_masks_the_password_and_lets_a_manager_fill_it(app: Flask) -> None:
    """6.2.6, 6.2.7"""
    page = app.test_client().get("/sign-in").get_data(as_text=True)
    field = re.search(r"<input[^>]*name=\"?password[^>]*>", page)
    assert field is not None and 'type="password"' in field[0]
    assert "onpaste" not in page and 'autocomplete="off"' not in field[0]


# --- the list itself -----------------------------------------------------------------------------------------


def rows() -> list[list[str]]:
    lines = LIST.read_text().splitlines()
    return [
        [c.strip() for c in line.strip("|").split("|")]
        for line in lines
        if re.match(r"\| \d+\.\d+\.\d+", line)
    ]


def test_each_line_of_the_list_names_a_test_that_exists_or_a_reason() -> None:
    seen: set[str] = set()
    for number, _, _, shown in rows():
        assert number not in seen, f"{number} stands twice"
        seen.add(number)
        named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", shown)
        assert named or shown.startswith(("not here:", "open:")), f"{number}: neither a test nor a reason"
        for path, test in named:
            source = (ROOT / path).read_text()
            assert not test or f"def {test}(" in source, f"{number}: {path} has no {test}"


def test_the_list_covers_the_chapters_that_apply() -> None:
    chapters = {int(number.partition(".")[0]) for number, *_ in rows()}
    assert chapters == {*range(1, 9), *range(11, 17)}

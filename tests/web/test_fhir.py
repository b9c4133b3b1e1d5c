"""The FHIR view, judged by two validators that each miss what the other finds (libraries 13)."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fhir.resources.R4B import get_fhir_model_class
from flask.testing import FlaskClient

from tests.hl7.messages import an_orm
from tests.hl7.notices import a_notice
from tests.web.seed import Sown, flag, pneumothorax
from triage.domain.alerting import MessageKind
from triage.domain.finding import Mode
from triage.hl7.fhir.notice import build_bundle
from triage.workflow.fhir import KINDS
from triage.workflow.inbox import Inbox
from triage.workflow.site import Site

NODE = Path(__file__).resolve().parents[1] / "node"


@pytest.fixture
def client(bearer: Callable[..., FlaskClient]) -> FlaskClient:
    return bearer("fhir:read", "audit:read")


@pytest.fixture
def stocked(sown: Sown) -> list[str]:
    uids = [
        sown.add(findings=(pneumothorax(), flag("effusion"))),
        sown.add(findings=()),
        sown.add(findings=(pneumothorax(),)),
    ]
    list(Inbox(sown.database, Site(), lambda: sown.now).answers(an_orm(accession="A77")))
    return uids


def get(client: FlaskClient, path: str, status: int = 200) -> dict[str, Any]:
    answer = client.get(f"/fhir/{path}")
    assert answer.status_code == status, answer.get_data(as_text=True)
    assert answer.mimetype == "application/fhir+json"
    return dict(json.loads(answer.get_data()))


def every(client: FlaskClient) -> list[dict[str, Any]]:
    """The statement, a page of each kind, each resource by itself, and an error."""
    pages = [get(client, kind) for kind in KINDS]
    alone = [
        get(client, f"{e['resource']['resourceType']}/{e['resource']['id']}")
        for p in pages
        for e in p["entry"]
    ]
    return [get(client, "metadata"), *pages, *alone, get(client, "Patient/999", 404)]


def notices() -> list[dict[str, Any]]:
    """What the fhir channel sends."""
    made = []
    for kind in MessageKind:
        for result in ("Observation", "DiagnosticReport"):
            notice = a_notice(
                kind=kind, alert_id=7, drill=kind is MessageKind.CORRECTION, finding_side="left"
            )
            made.append(json.loads(build_bundle(notice, mode=Mode.OVERLAY, result=result)))  # type: ignore[arg-type]
    return [*made, *(e["resource"] for b in made for e in b["entry"])]


def test_every_resource_is_valid_by_the_python_models(client: FlaskClient, stocked: list[str]) -> None:
    shown = every(client)
    assert {r["resourceType"] for r in shown} >= {*KINDS, "Bundle", "CapabilityStatement", "OperationOutcome"}
    for resource in [*shown, *notices()]:
        get_fhir_model_class(resource["resourceType"]).model_validate(resource)


def test_every_resource_is_valid_by_the_npm_package_fhir(
    client: FlaskClient, stocked: list[str], tmp_path: Path
) -> None:
    if shutil.which("node") is None or not (NODE / "node_modules" / "fhir").is_dir():
        pytest.skip("node or npm's fhir is not installed (tests/install-programs.sh): one validator less")
    path = tmp_path / "all.json"
    path.write_text(json.dumps([*every(client), *notices()]))
    done = subprocess.run(
        ["node", str(NODE / "validate.js"), str(path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_result_is_preliminary_of_a_device_and_names_its_study(
    client: FlaskClient, stocked: list[str]
) -> None:
    report = get(client, "DiagnosticReport")["entry"][0]["resource"]
    assert report["status"] == "preliminary" and "Not yet read" in report["conclusion"]
    finding = get(client, report["result"][0]["reference"])
    device = get(client, finding["device"]["reference"])
    study = get(client, finding["derivedFrom"][0]["reference"])
    assert device["deviceName"][0]["name"] == "chest_xray"
    assert study["identifier"][0]["value"] == f"urn:oid:{stocked[0]}"
    assert "bodySite" not in finding


def test_a_study_without_a_flag_is_no_statement_that_nothing_is_there(
    client: FlaskClient, stocked: list[str]
) -> None:
    report = get(client, "DiagnosticReport/2")
    assert "result" not in report and "no statement" in report["conclusion"]


def test_it_is_searched_by_patient_identifier_and_date(client: FlaskClient, stocked: list[str]) -> None:
    def ids(path: str) -> list[str]:
        return [e["resource"]["id"] for e in get(client, path).get("entry", [])]

    subject = get(client, "ImagingStudy/2")["subject"]["reference"]
    patient = get(client, subject)
    number = patient["identifier"][0]["value"]
    assert ids(f"ImagingStudy?patient={subject}") == ids(f"ImagingStudy?patient.identifier={number}") == ["2"]
    assert ids(f"Patient?identifier={number}") == [patient["id"]]
    assert ids(f"ImagingStudy?identifier=urn:dicom:uid|urn:oid:{stocked[2]}") == ["3"]
    assert ids("ServiceRequest?identifier=A77") == ids("ServiceRequest?identifier=PL1") == ["1"]
    assert ids("Observation?date=ge1990-01-01&date=lt1991-01") == []
    assert len(ids("Observation?date=ge2000&date=lt2100-01-01")) == 3


def test_pages_join_without_gap_or_repetition(client: FlaskClient, stocked: list[str]) -> None:
    seen: list[str] = []
    path = "Observation?_count=2"
    for _ in range(5):
        page = get(client, path)
        seen += [e["resource"]["id"] for e in page.get("entry", [])]
        following = [link["url"] for link in page["link"] if link["relation"] == "next"]
        if not following:
            break
        path = following[0].partition("/fhir/")[2]
    assert seen == sorted(set(seen), key=int) and len(seen) == 3


@pytest.mark.parametrize(
    "path",
    [
        "Observation?patient=x",
        "Observation?date=yesterday",
        "Observation?name=DOE",
        "Device?patient=1",
        "Observation?_count=-1",
    ],
)
def test_a_search_that_is_not_understood_is_an_outcome(client: FlaskClient, path: str) -> None:
    assert get(client, path, 422)["resourceType"] == "OperationOutcome"


def test_without_a_token_there_is_nothing_but_the_statement(app: Any) -> None:
    anonymous = app.test_client()
    assert get(anonymous, "metadata")["fhirVersion"] == "4.0.1"
    assert get(anonymous, "Observation", 401)["issue"][0]["code"] == "login"


def post(client: FlaskClient, path: str, form: dict[str, Any]) -> dict[str, Any]:
    answer = client.post(f"/fhir/{path}", data=form)
    assert answer.status_code == 200, answer.get_data(as_text=True)
    assert answer.mimetype == "application/fhir+json"
    return dict(json.loads(answer.get_data()))


def test_a_search_by_form_puts_no_identifier_into_an_address(client: FlaskClient, stocked: list[str]) -> None:
    found = post(client, "ImagingStudy/_search", {"identifier": f"urn:dicom:uid|urn:oid:{stocked[0]}"})
    assert len(found["entry"]) == 1
    assert stocked[0] not in json.dumps(found["link"])
    by_patient = post(client, "ImagingStudy/_search", {"patient.identifier": "4000002"})
    assert len(by_patient["entry"]) == 1
    assert client.post("/fhir/Patient/_search", data={"name": "Muster"}).status_code == 422


def test_further_pages_of_a_form_search_go_by_a_key_and_only_for_who_asked(
    client: FlaskClient, bearer: Callable[..., FlaskClient], stocked: list[str]
) -> None:
    first = post(client, "ImagingStudy/_search", {"date": "ge2000-01-01", "_count": "2"})
    (link,) = [entry["url"] for entry in first["link"] if entry["relation"] == "next"]
    assert "_search=" in link and "2000" not in link
    path = link.partition("/fhir/")[2]
    rest = get(client, path)
    ids = [e["resource"]["id"] for e in first["entry"] + rest["entry"]]
    assert len(ids) == len(set(ids)) == 3
    other = bearer("fhir:read", name="another")
    assert other.get(f"/fhir/{path}").status_code == 422

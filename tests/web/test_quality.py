"""The QA pages and their API: charts with their tables and studies, signatures, and blind second reads."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from flask.testing import FlaskClient

from tests.web.conftest import Clock, SignedIn
from tests.web.seed import Sown, pneumothorax
from triage.workflow.quality import draw_double_reads


def test_the_dashboard_shows_all_seventeen_with_tables_and_ways_on(signed_in: SignedIn, sown: Sown) -> None:
    sown.add(findings=(pneumothorax(),))
    page = signed_in("qa").get("/qa").get_data(as_text=True)
    for number in range(1, 18):
        assert f'id="chart-{number}"' in page
    assert "/qa/charts/2?" in page and "format=csv" in page


def test_a_chart_names_the_studies_behind_it(signed_in: SignedIn, sown: Sown) -> None:
    uid = sown.add(findings=(pneumothorax(),))
    page = signed_in("qa").get("/qa/charts/2").get_data(as_text=True)
    assert f"/worklist/{uid}" in page
    assert signed_in("qa").get("/qa/charts/18").status_code == 422


def test_the_api_gives_charts_as_json_and_csv_without_any_study(
    bearer: Callable[..., FlaskClient], sown: Sown
) -> None:
    uid = sown.add(findings=(pneumothorax(),))
    client = bearer("qa:read")
    everything = client.get("/api/v1/reports/qa/charts")
    assert [c["number"] for c in everything.json["charts"]] == list(range(1, 18))
    assert uid not in everything.get_data(as_text=True)
    table = client.get("/api/v1/reports/qa/charts/12?format=csv")
    assert table.headers["Content-Type"] == "text/csv; charset=utf-8"  # once: it was named twice
    assert table.get_data(as_text=True).startswith("detector,part,runs")
    assert client.get("/api/v1/reports/qa/charts/17?finding=gremlin").status_code == 422
    assert client.get("/api/v1/reports/qa/charts?from=2026-02-31").status_code == 422


def test_a_report_is_signed_by_a_person_and_kept(
    signed_in: SignedIn, bearer: Callable[..., FlaskClient], sown: Sown, clock: Clock
) -> None:
    sown.add(findings=(pneumothorax(),))
    first = clock().date()
    clock.forward(days=2)
    began = first - timedelta(days=1)  # shortly after midnight the study is of yesterday
    body = {"from": f"{began}", "to": f"{first + timedelta(days=1)}", "statement": "reviewed"}
    assert bearer("qa:act").post("/api/v1/reports/qa/sign", json=body).status_code == 422
    qa = signed_in("qa")
    made = qa.post("/api/v1/reports/qa/sign", json=body)
    assert made.status_code == 200
    (row,) = qa.get("/api/v1/reports/qa/signed").json["reports"]
    kept = qa.get(f"/api/v1/reports/qa/signed/{row['id']}").json
    assert kept["digest"] == made.json["digest"] and kept["report"]["coverage"]["studies"] == 1
    assert qa.get("/api/v1/reports/qa/signed/99").status_code == 404
    page = qa.get(f"/qa/report?from={body['from']}&to={body['to']}").get_data(as_text=True)
    assert "Sign the report" in page and kept["digest"][:12] in page
    form = {**body, "to": f"{first + timedelta(days=2)}"}
    assert qa.post("/qa/report/sign", data=form).status_code == 302
    assert "still runs" in qa.get("/qa/report").get_data(as_text=True)


def test_a_second_read_is_blind_and_given_by_a_form(signed_in: SignedIn, sown: Sown, clock: Clock) -> None:
    uid = sown.add()
    reader = signed_in("ann")
    reader.post(f"/api/v1/studies/{uid}/claim", json={})
    reader.post(f"/api/v1/studies/{uid}/report", json={"state": "final"})
    with sown.database.write() as tx:
        drawn = draw_double_reads(
            tx, clock() - timedelta(days=9), clock() + timedelta(days=1), clock(), share=1.0
        )
    other = signed_in("ben")
    page = other.get("/double-reads").get_data(as_text=True)
    if not drawn:  # the seed's study was not analysed: nothing to read twice
        assert uid not in page
        return
    assert uid in page and "probability" not in page and "flag raised" not in page.lower()
    assert other.post(f"/double-reads/{uid}", data={"finding": ["effusion"]}).status_code == 302
    assert uid not in other.get("/double-reads").get_data(as_text=True)

"""What the side panel says of a study's findings and images."""

from __future__ import annotations

from sqlalchemy import update

from triage.domain.finding import Band, Finding, Growth, Measurements
from triage.store import schema

from .conftest import SignedIn, ok
from .seed import Sown, flag, pneumothorax

GROWN = Finding(
    "nodule", 0.7, 0.8, Band.HIGH, True, 0.5,
    measurements=Measurements((10.0, -20.0, -141.0), 8.2, 6.0, 210.5, -120.3, "solid"),
    growth=Growth("1.2.3", 180, 5.9, 108.0, 1.2, 94.9),
)  # fmt: skip


def test_the_panel_tells_growth_where_places_may_be_told_and_nowhere_else(
    sown: Sown, signed_in: SignedIn
) -> None:
    uid = sown.add(modality="CT", view="", findings=(GROWN,))

    quality, reader = (
        signed_in(name).get(f"/worklist/{uid}/panel").get_data(as_text=True) for name in ("qa", "reader")
    )

    assert "of 7.1 mm: +1.2 mm since the CT 180 days earlier." in quality
    assert "Volume +95 %." in quality and "For information." in quality
    assert "180 days" not in reader


def test_the_panel_names_what_was_stored_but_is_never_flagged(sown: Sown, signed_in: SignedIn) -> None:
    """Else `no flag raised` beside the list of what was not looked for reads as if all the rest were checked."""
    stored = Finding("effusion", 0.9, 0.9, Band.HIGH, False)
    checked = Finding("pneumothorax", 0.1, 0.1, Band.LOW, False, 0.5)
    uid = sown.add(findings=(stored, checked))

    said = signed_in("reader").get(f"/worklist/{uid}/panel").get_data(as_text=True)

    assert "Never flagged by this release: pleural effusion." in said


def test_a_finding_is_judged_once_however_many_there_are(sown: Sown, signed_in: SignedIn) -> None:
    two, more = sown.add(findings=(GROWN, GROWN)), sown.add(findings=(GROWN, GROWN, pneumothorax()))
    client = signed_in("reader")
    pages = [client.get(f"/worklist/{uid}/panel").get_data(as_text=True) for uid in (two, more)]
    assert [page.count('data-act="agree" data-finding="nodule"') for page in pages] == [0, 1]
    assert pages[1].count('data-act="agree" data-finding="pneumothorax"') == 1


def test_what_was_odd_about_the_images_is_said_beside_what_was_found(signed_in: SignedIn, sown: Sown) -> None:
    uid = sown.add(findings=(flag("nodule"),))
    with sown.database.write() as tx:
        tx.execute(update(schema.run).values(notes=["compressed with loss"]))
    reader = signed_in("reader")
    assert "Noted: compressed with loss." in reader.get(f"/worklist/{uid}/panel").get_data(as_text=True)
    assert ok(reader.get(f"/api/v1/studies/{uid}"))["runs"][0]["notes"] == ["compressed with loss"]


def test_each_reader_has_the_terms_in_their_own_language_whoever_came_first(
    signed_in: SignedIn, sown: Sown
) -> None:
    """Jinja folds a filter of a constant when it compiles the template: once, in one language, for all."""
    path, reader = f"/worklist/{sown.add(location='ICU')}/panel", signed_in("reader")

    english, german = (
        reader.get(path, headers={"Accept-Language": tongue}).get_data(as_text=True)
        for tongue in ("en", "de")
    )

    assert "<td>ICU</td><td>no effect</td>" in english
    assert "<td>ICU</td><td>ohne Wirkung</td>" in german

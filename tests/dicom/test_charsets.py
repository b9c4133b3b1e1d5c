"""Every term of Specific Character Set reaches the list in its own characters (PS3.3 C.12.1.1.2, PS3.5 H to K)."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from tests.dicom.builders import film, save
from triage.dicom.header import read_header

NAMES = {
    "ISO_IR 100": "Buc^Jérôme",
    "ISO_IR 101": "Wałęsa^Zdzisława",
    "ISO_IR 109": "Ĝardeno^Ĉarlo",
    "ISO_IR 110": "Ķempe^Ādams",
    "ISO_IR 144": "Люксембург^Роза",
    "ISO_IR 127": "قباني^لنزار",
    "ISO_IR 126": "Διονυσιος^Παυλος",
    "ISO_IR 138": "שרון^דבורה",
    "ISO_IR 148": "Çavuşoğlu^Işıl",
    "ISO_IR 13": "ﾔﾏﾀﾞ^ﾀﾛｳ",
    "ISO_IR 166": "นามสกุล^ชื่อ",
    "ISO_IR 192": "Wang^XiaoDong=王^小東",
    "GB18030": "Wang^XiaoDong=王^小东",
    "GBK": "Wang^XiaoDong=王^小东",
    "ISO 2022 IR 6\\ISO 2022 IR 87": "Yamada^Tarou=山田^太郎=やまだ^たろう",
    "ISO 2022 IR 13\\ISO 2022 IR 87": "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう",
    "ISO 2022 IR 6\\ISO 2022 IR 159": "Kakezaki^Tarou=丂丄^丅",
    "ISO 2022 IR 6\\ISO 2022 IR 149": "Hong^Gildong=洪^吉洞=홍^길동",
    "ISO 2022 IR 6\\ISO 2022 IR 58": "Zhang^XiaoDong=张^小东",
    "ISO 2022 IR 100\\ISO 2022 IR 144": "Jérôme=Роза^Люксембург",
    "ISO 2022 IR 100\\ISO 2022 IR 126": "Jérôme=Διονυσιος",
}


@pytest.mark.parametrize("terms", NAMES)
def test_a_name_in_each_character_set(terms: str, tmp_path: Path) -> None:
    path = save(film(SpecificCharacterSet=terms.split("\\"), PatientName=NAMES[terms]), tmp_path / "a.dcm")
    assert read_header(path).patient_name == NAMES[terms]


@pytest.mark.parametrize("own", [True, False])
def test_an_item_has_its_own_set_or_that_of_what_is_around_it(own: bool, tmp_path: Path) -> None:
    item = Dataset()
    if own:
        item.SpecificCharacterSet = "ISO_IR 192"
    item.CodeValue, item.CodingSchemeDesignator = "X", "99"
    item.CodeMeaning = "犬 🐕" if own else "chien âgé"
    ds = film(
        SpecificCharacterSet="ISO_IR 100",
        PatientName="Buc^Jérôme",
        PatientSpeciesCodeSequence=Sequence([item]),
    )
    found = read_header(save(ds, tmp_path / "a.dcm"))
    assert found.patient_name == "Buc^Jérôme"
    assert found.species == item.CodeMeaning


def test_a_byte_that_the_set_does_not_have_is_marked_and_stops_nothing(tmp_path: Path) -> None:
    path = save(film(SpecificCharacterSet="ISO_IR 192", PatientName="Doe^Jane"), tmp_path / "a.dcm")
    path.write_bytes(path.read_bytes().replace(b"Doe^Jane", b"D\xff\xfe^Jane"))
    assert read_header(path).patient_name == "D��^Jane"

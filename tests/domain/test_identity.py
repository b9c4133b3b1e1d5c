"""Who survives is a function of what was said, not of the order in which it was heard."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.factories import NOON
from triage.domain.errors import Refused
from triage.domain.identity import Demographics, Merge, PatientKey, may_merge, newer_fields, survivors


def merge(prior: int, surviving: int, minute: int = 0) -> Merge:
    at = NOON + timedelta(minutes=minute)
    return Merge(prior=prior, surviving=surviving, said_at=at, key=f"{prior}>{surviving}@{minute}")


def test_a_chain_ends_at_its_last() -> None:
    assert survivors([merge(1, 2), merge(2, 3, 1)]) == {1: 3, 2: 3}


def test_who_is_merged_into_by_a_newer_word_lives_again() -> None:
    assert survivors([merge(1, 2, 0), merge(2, 1, 1)]) == {2: 1}
    assert survivors([merge(1, 2, 0), merge(2, 3, 1), merge(3, 1, 2)]) == {2: 1, 3: 1}


def test_a_patient_merged_into_itself_stays() -> None:
    assert survivors([merge(1, 1)]) == {}


@given(
    st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(0, 9)), max_size=12).flatmap(
        lambda said: st.tuples(st.just(said), st.permutations(said))
    )
)
def test_any_order_and_twice_is_the_same_and_nobody_survives_who_is_merged(
    orders: tuple[list[tuple[int, int, int]], list[tuple[int, int, int]]],
) -> None:
    first, second = ([merge(*said) for said in order] for order in orders)

    found = survivors(first)

    assert found == survivors(second) == survivors(first + second)
    assert not found.keys() & set(found.values())


@given(st.permutations([(0, "Doe^Jane"), (1, "Doe^Janet"), (2, "Roe^Janet")]))
def test_the_newest_word_on_a_field_stays(words: list[tuple[int, str]]) -> None:
    held: dict[str, str] = {}
    stamps = {}
    for minute, name in words:
        at = NOON + timedelta(minutes=minute)
        news = newer_fields({"patient_name": name}, at, stamps)
        held |= news
        stamps |= dict.fromkeys(news, at)
    assert held == {"patient_name": "Roe^Janet"}


def test_a_field_that_a_message_leaves_out_stays_and_an_empty_one_is_emptied() -> None:
    assert Demographics(patient_name="A", patient_sex="").said() == {"patient_name": "A", "patient_sex": ""}


def test_ids_of_two_authorities_are_not_merged() -> None:
    with pytest.raises(Refused):
        may_merge(
            PatientKey(patient_id="1", issuer_of_patient_id="A"),
            PatientKey(patient_id="2", issuer_of_patient_id="B"),
        )


def test_ids_of_one_authority_are() -> None:
    may_merge(
        PatientKey(patient_id="1", issuer_of_patient_id="A"),
        PatientKey(patient_id="2", issuer_of_patient_id="A"),
    )


def test_nobody_cannot_be_reconciled() -> None:
    with pytest.raises(Refused):
        PatientKey(patient_id=" ").at("SITE")
    assert PatientKey(patient_id="7").at("HOSP").issuer_of_patient_id == "HOSP"

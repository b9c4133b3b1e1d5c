"""The table is total where a peer can act, and says what PS3.8 9.2 says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triage.dicom.upper.states import AFTER, TABLE, Action, Event, Machine, State
from triage.domain.errors import WrongTransition

BY_A_PEER = [
    Event.EVT3,
    Event.EVT4,
    Event.EVT6,
    Event.EVT10,
    Event.EVT12,
    Event.EVT13,
    Event.EVT16,
    Event.EVT17,
    Event.EVT19,
]


def test_whatever_a_peer_does_has_a_row_in_every_state_that_has_a_connection() -> None:
    connected = [s for s in State if s is not State.STA1]
    assert [(e, s) for e in BY_A_PEER for s in connected if (e, s) not in TABLE] == []


def test_every_action_says_where_it_leads() -> None:
    assert set(AFTER) == set(Action)
    assert set(TABLE.values()) == set(Action)


def test_an_association_of_the_book_walks_through_the_table() -> None:
    machine = Machine()
    walk = [
        machine.on(e)
        for e in (
            Event.EVT5,
            Event.EVT6,
            Event.EVT7,
            Event.EVT10,
            Event.EVT9,
            Event.EVT12,
            Event.EVT14,
            Event.EVT17,
        )
    ]
    assert walk == [
        Action.AE5,
        Action.AE6,
        Action.AE7,
        Action.DT2,
        Action.DT1,
        Action.AR2,
        Action.AR4,
        Action.AR5,
    ]
    assert machine.state is State.STA1


def test_a_row_that_is_not_there_is_a_bug_of_ours() -> None:
    with pytest.raises(WrongTransition, match="EVT7"):
        Machine().on(Event.EVT7)


@given(st.lists(st.sampled_from(BY_A_PEER), max_size=20))
def test_no_order_of_a_peers_events_leaves_the_table(events: list[Event]) -> None:
    """Between them we do what `Association` does: accept, answer a release."""
    machine = Machine()
    machine.on(Event.EVT5)
    for event in events:
        if machine.state is State.STA1:
            break
        action = machine.on(event)
        if action is Action.AE6:
            machine.on(Event.EVT7)
        elif action is Action.AR2:
            machine.on(Event.EVT14)
    if machine.state is State.STA13:
        machine.on(Event.EVT18)

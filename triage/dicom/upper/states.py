"""The acceptor's half of the upper layer's state machine as a table, to be laid beside PS3.8 9.2, Table 9-10.

We never ask for an association and never for a release, so Sta4, Sta5, Sta7 and the collisions Sta9 to Sta12 cannot
be entered; their columns are left out, as are the events of those requests.
"""

from __future__ import annotations

from enum import StrEnum

from triage.domain.errors import WrongTransition


class State(StrEnum):
    STA1 = "idle"
    STA2 = "connection open, awaiting A-ASSOCIATE-RQ"
    STA3 = "awaiting our answer to the request"
    STA6 = "data transfer"
    STA8 = "awaiting our answer to the release"
    STA13 = "awaiting the end of the connection"


class Event(StrEnum):
    EVT3 = "A-ASSOCIATE-AC received"
    EVT4 = "A-ASSOCIATE-RJ received"
    EVT5 = "connection accepted"
    EVT6 = "A-ASSOCIATE-RQ received"
    EVT7 = "we accept"
    EVT8 = "we reject"
    EVT9 = "we send P-DATA-TF"
    EVT10 = "P-DATA-TF received"
    EVT12 = "A-RELEASE-RQ received"
    EVT13 = "A-RELEASE-RP received"
    EVT14 = "we answer the release"
    EVT15 = "we abort"
    EVT16 = "A-ABORT received"
    EVT17 = "connection closed"
    EVT18 = "ARTIM expired"
    EVT19 = "unrecognized or invalid PDU received"


class Action(StrEnum):
    AE5 = "start ARTIM"
    AE6 = "stop ARTIM, judge the request"
    AE7 = "send A-ASSOCIATE-AC"
    AE8 = "send A-ASSOCIATE-RJ, start ARTIM"
    DT1 = "send P-DATA-TF"
    DT2 = "hand on P-DATA"
    AR2 = "hand on the release"
    AR4 = "send A-RELEASE-RP, start ARTIM"
    AR5 = "stop ARTIM"
    AR7 = "send P-DATA-TF before the release"
    AA1 = "send A-ABORT, start ARTIM"
    AA2 = "stop ARTIM, close the connection"
    AA3 = "hand on the abort, close the connection"
    AA4 = "hand on the loss of the connection"
    AA5 = "stop ARTIM, forget"
    AA6 = "ignore the PDU"
    AA7 = "send A-ABORT again"
    AA8 = "send the provider's A-ABORT, start ARTIM"


AFTER = {
    Action.AE5: State.STA2,
    Action.AE6: State.STA3,
    Action.AE7: State.STA6,
    Action.AE8: State.STA13,
    Action.DT1: State.STA6,
    Action.DT2: State.STA6,
    Action.AR2: State.STA8,
    Action.AR4: State.STA13,
    Action.AR5: State.STA1,
    Action.AR7: State.STA8,
    Action.AA1: State.STA13,
    Action.AA2: State.STA1,
    Action.AA3: State.STA1,
    Action.AA4: State.STA1,
    Action.AA5: State.STA1,
    Action.AA6: State.STA13,
    Action.AA7: State.STA13,
    Action.AA8: State.STA13,
}

_COLUMNS = (State.STA1, State.STA2, State.STA3, State.STA6, State.STA8, State.STA13)
_ROWS = """
       Sta1  Sta2  Sta3  Sta6  Sta8  Sta13
EVT3   -     AA1   AA8   AA8   AA8   AA6
EVT4   -     AA1   AA8   AA8   AA8   AA6
EVT5   AE5   -     -     -     -     -
EVT6   -     AE6   AA8   AA8   AA8   AA7
EVT7   -     -     AE7   -     -     -
EVT8   -     -     AE8   -     -     -
EVT9   -     -     -     DT1   AR7   -
EVT10  -     AA1   AA8   DT2   AA8   AA6
EVT12  -     AA1   AA8   AR2   AA8   AA6
EVT13  -     AA1   AA8   AA8   AA8   AA6
EVT14  -     -     -     -     AR4   -
EVT15  -     -     AA1   AA1   AA1   -
EVT16  -     AA2   AA3   AA3   AA3   AA2
EVT17  -     AA5   AA4   AA4   AA4   AR5
EVT18  -     AA2   -     -     -     AA2
EVT19  -     AA1   AA8   AA8   AA8   AA7
"""

TABLE: dict[tuple[Event, State], Action] = {
    (Event[name], state): Action[action]
    for name, *actions in (line.split() for line in _ROWS.strip().splitlines()[1:])
    for state, action in zip(_COLUMNS, actions, strict=True)
    if action != "-"
}


class Machine:
    """The state of one connection. `on` says what to do about an event and moves on."""

    def __init__(self) -> None:
        self.state = State.STA1

    def on(self, event: Event) -> Action:
        """raises WrongTransition when the table has no such row: a bug of ours, never a peer's doing."""
        action = TABLE.get((event, self.state))
        if action is None:
            raise WrongTransition(f"{event.name} ({event}) cannot happen in {self.state.name} ({self.state})")
        self.state = AFTER[action]
        return action

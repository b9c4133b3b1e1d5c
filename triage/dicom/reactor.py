"""A gap in pynetdicom closed: its reactor could take the answer to what was just sent off the queue.

Whoever sends on an `Association` asks the reactor thread to pause and looks at a flag. The reactor raises that flag before
it looks at the request and lowers it afterwards: between the two a sender sees it paused while it goes on, and the answer
is thrown away as unexpected. Rare on an idle machine; on a busy one it ends a transfer by timeout
(pynetdicom 3.0.4, `Association._run_reactor`).
"""

from __future__ import annotations

import threading

from pynetdicom.association import Association

LOOK_SECONDS = 0.1


class Checkpoint(threading.Event):
    """Stands in for `Association._reactor_checkpoint`: `clear` returns when the reactor rests in `wait`, not before."""

    def __init__(self, association: Association) -> None:
        super().__init__()
        self._association = association
        self._rests = threading.Event()
        self._turn = threading.Lock()
        self.set()

    def clear(self) -> None:
        """Asked by whoever sends. The reactor itself, and one that has ended, need not be waited for."""
        with self._turn:
            super().clear()
        reactor = self._association
        if threading.current_thread() is reactor:
            return
        while not self._rests.wait(LOOK_SECONDS) and reactor.is_alive():
            pass
        if not (reactor.is_alive() and reactor.dul.is_alive()) or reactor.acse.is_aborted():
            # The connection went, and the send before or the reactor has taken the word of it off the queue: without
            # another one the caller would wait for an answer until its time is up.
            reactor.dimse.msg_queue.put((None, None))
        # The caller now spins until this flag is up, for ever where the reactor left it down: one that rests did
        # so in a test of commitment, with `release` in that loop for a quarter of an hour.
        reactor._is_paused = True

    def wait(self, timeout: float | None = None) -> bool:
        """Called by the reactor once a round."""
        while True:
            self._rests.set()
            super().wait(timeout)
            # A `clear` comes wholly before, and is seen here, or wholly after, and finds us up.
            with self._turn:
                if self.is_set() or timeout is not None:
                    self._rests.clear()
                    return self.is_set()


def close_gap(association: Association) -> None:
    """For an association that we opened and that is established, or that a peer opened and that is not started yet."""
    association._reactor_checkpoint = Checkpoint(association)

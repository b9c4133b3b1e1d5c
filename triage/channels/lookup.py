"""A name looked up once, by a deadline: the resolver of the system knows none of its own.

One slow answer of a name server must not hold a route longer than one attempt may take (standards 7.3).
"""

from __future__ import annotations

import socket
import threading
import time
from typing import Any


class Lookup:
    """The addresses of one host, asked for once they are needed; the first answer is kept (F29).

    A lookup that outlives its deadline goes on by itself, and the next attempt waits for it instead of asking again.
    """

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._thread: threading.Thread | None = None
        self._found: list[tuple[socket.AddressFamily, Any]] = []
        self._trouble: OSError | UnicodeError | None = None

    def addresses(self, deadline: float) -> list[tuple[socket.AddressFamily, Any]]:
        """(family, address) of every address, in the resolver's order.

        deadline  moment of `time.monotonic()`
        raises    TimeoutError; OSError of the lookup; UnicodeError for a name that is none
        """
        if not self._found:
            if self._thread is None:
                self._trouble = None
                self._thread = threading.Thread(target=self._ask, name="lookup", daemon=True)
                self._thread.start()
            self._thread.join(max(0.0, deadline - time.monotonic()))
            if self._thread.is_alive():
                raise TimeoutError("the name server does not answer")
            self._thread = None
            if self._trouble is not None:
                raise self._trouble
        return self._found

    def _ask(self) -> None:
        try:
            found = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            self._trouble = error
            return
        self._found = [(family, address) for family, _, _, _, address in found]

"""One POST to one configured peer: where it goes, how long it may take, and what its status means.

The peer is reached as configured and nowhere else: its name is resolved once and checked, the connection goes to
that very address, redirects are not followed, proxies of the environment are not used. Threats T17, T18.
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import time
from collections.abc import Mapping
from urllib.parse import SplitResult, urlsplit

from triage.channels.deadline import cut_at
from triage.channels.lookup import Lookup
from triage.channels.protocol import Answer, Outcome
from triage.domain.errors import Misconfigured

_RETRY_STATUSES = frozenset({408, 425, 429})
_METADATA = frozenset(  # where clouds hand out credentials to whoever asks
    ipaddress.ip_address(a) for a in ("169.254.169.254", "100.100.100.200", "fd00:ec2::254")
)
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class HttpPeer:
    """One host, by https; by http only with `allow_private`. Raises Misconfigured for anything else.

    timeout_seconds  for one whole attempt: name, connection, request, answer
    allow_private    the peer may have a loopback or private address; link-local and metadata never
    tls              a client context that verifies (for a hospital's own authority), else the system's
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_seconds: float = 30.0,
        allow_private: bool = False,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        parts = _parts(url, allow_private=allow_private)
        self._host, self._netloc = parts.hostname or "", parts.netloc
        secure = parts.scheme == "https"
        self._port = parts.port or (443 if secure else 80)
        self.path, self._query = parts.path, f"?{parts.query}" if parts.query else ""
        self._tls = (tls or ssl.create_default_context()) if secure else None
        self._timeout_seconds = timeout_seconds
        self._allow_private = allow_private
        self._lookup = Lookup(self._host, self._port)
        self._pinned: _Address | None = None

    def post(self, payload: bytes, headers: Mapping[str, str]) -> Answer:
        """POST once to the URL; the status line is the answer, the body is never read."""
        return self.request("POST", payload, headers)

    def request(self, method: str, payload: bytes, headers: Mapping[str, str], *, below: str = "") -> Answer:
        """The same with any method, to the URL or to `below` it."""
        deadline = time.monotonic() + self._timeout_seconds
        try:
            address = self._resolved(deadline)
            if address is None:
                return Answer(Outcome.REFUSED, "the address of the peer is not allowed (allow_private)")
            target = (self.path.rstrip("/") + below if below else self.path or "/") + self._query
            return self._send(address, method, target, payload, headers, deadline)
        except ssl.SSLCertVerificationError as error:
            return Answer(Outcome.RETRY, f"certificate not trusted: {error.verify_message}")
        except TimeoutError:
            return Answer(Outcome.RETRY, f"no answer within {self._timeout_seconds:g} s")
        except (OSError, http.client.HTTPException, UnicodeError) as error:
            return Answer(Outcome.RETRY, f"no answer: {type(error).__name__}")

    def _resolved(self, deadline: float) -> _Address | None:
        """The address of the peer, looked up once; None when it is not one we may call."""
        if self._pinned is None:
            found = self._lookup.addresses(deadline)
            addresses = [ipaddress.ip_address(str(address[0]).partition("%")[0]) for _, address in found]
            if not all(is_allowed(address, allow_private=self._allow_private) for address in addresses):
                return None
            self._pinned = addresses[0]
        return self._pinned

    def _send(
        self, address: _Address, method: str, target: str, payload: bytes, headers: Mapping[str, str], deadline: float
    ) -> Answer:  # fmt: skip
        connection = socket.create_connection((str(address), self._port), _left(deadline))
        if self._tls is not None:
            connection = self._tls.wrap_socket(
                connection, server_hostname=self._host, do_handshake_on_connect=False
            )
        try:
            with cut_at(deadline, connection):
                connection.settimeout(self._timeout_seconds)
                if isinstance(connection, ssl.SSLSocket):
                    connection.do_handshake()
                request = http.client.HTTPConnection(self._host, self._port)
                request.sock = connection
                common = {"Host": self._netloc, "User-Agent": "triage", "Connection": "close"}
                request.request(method, target, body=payload, headers={**common, **headers})
                return _judge(request.getresponse().status)
        except (OSError, http.client.HTTPException):
            if time.monotonic() >= deadline:  # cut by the alarm: say so instead of how it looked
                raise TimeoutError from None
            raise
        finally:
            connection.close()


def is_allowed(address: _Address, *, allow_private: bool) -> bool:
    """May a webhook go there? An IPv4 address wrapped in IPv6 is judged as itself."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_allowed(inner, allow_private=allow_private)
    elif address.is_reserved:  # 240.0.0.0/4 and broadcast
        return False
    if address in _METADATA or address.is_link_local or address.is_multicast or address.is_unspecified:
        return False
    return address.is_global or (allow_private and (address.is_private or address.is_loopback))


def _judge(status: int) -> Answer:
    if 200 <= status < 300:
        return Answer(Outcome.DELIVERED, f"HTTP {status}")
    if 300 <= status < 400:
        return Answer(Outcome.REFUSED, f"HTTP {status}: redirects are not followed")
    if 400 <= status < 500 and status not in _RETRY_STATUSES:
        return Answer(Outcome.REFUSED, f"HTTP {status}")
    return Answer(Outcome.RETRY, f"HTTP {status}")


def _parts(url: str, *, allow_private: bool) -> SplitResult:
    if any(ord(character) <= 0x20 or ord(character) >= 0x7F for character in url):
        raise Misconfigured("the address of a route has a character that does not belong into a URL")
    try:
        parts = urlsplit(url)
        complete = bool((parts.hostname or "").encode("idna")) and parts.port != 0
    except ValueError as error:
        raise Misconfigured("the address of a route cannot be read as a URL") from error
    if parts.scheme not in ("https", "http") or not complete or "@" in parts.netloc or parts.fragment:
        raise Misconfigured("the address of a route is https://host[:port]/path, without user or fragment")
    if parts.scheme == "http" and not allow_private:
        raise Misconfigured("a message goes by https; http is for a private network (allow_private)")
    return parts


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left

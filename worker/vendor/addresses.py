"""From a host's name to a connection: names are looked up apart, addresses are tried side by side.

The system's look-up knows no time-out: it runs in a thread of its own, of which there are only a few, and one
for any number of calls to the same host. A dead address holds a call up by a quarter of a second, not for its
deadline.
"""

from __future__ import annotations

import errno
import os
import selectors
import socket
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import lru_cache
from ipaddress import ip_address
from itertools import chain, zip_longest
from typing import cast

STAGGER_S = 0.25
LOOKUPS = 8  # at once: each takes a thread, for as long as the system likes

SocketAddress = tuple[str | int, ...]
Address = tuple[socket.AddressFamily, SocketAddress]
LookUp = Callable[[str, int], Sequence[Address]]


class Resolver:
    """Looks names up in a bounded number of threads; calls for one host share a look-up."""

    def __init__(self, ask: LookUp | None = None) -> None:
        self._ask = ask or ask_system
        self._running: dict[tuple[str, int], Future[Sequence[Address]]] = {}
        self._lock = threading.Lock()
        self._free = threading.BoundedSemaphore(LOOKUPS)

    def look_up(self, host: str, port: int, *, within_s: float) -> Sequence[Address]:
        """Return a host's addresses.

        Raises:
            TimeoutError: the system has not answered in time, or is busy with other names for as long.
            OSError: it has none; the words name the host.
        """
        if literal := _literal(host, port):
            return [literal]
        end = time.monotonic() + within_s
        answer = self._begin(host, port, within_s)
        return answer.result(timeout=max(0.0, end - time.monotonic()))

    def _begin(self, host: str, port: int, within_s: float) -> Future[Sequence[Address]]:
        with self._lock:
            if running := self._running.get((host, port)):
                return running
        if not self._free.acquire(timeout=within_s):
            raise TimeoutError
        with self._lock:
            if running := self._running.get((host, port)):
                self._free.release()
                return running
            answer = self._running[host, port] = Future()
        thread = threading.Thread(target=self._look_up, args=(host, port, answer), name="dns", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # no more threads are to be had
            self._end(
                host, port, answer, OSError(errno.EAGAIN, f"the name {host} can't be looked up: {error}")
            )
        return answer

    def _look_up(self, host: str, port: int, answer: Future[Sequence[Address]]) -> None:
        try:
            found: Sequence[Address] | Exception = self._ask(host, port)
        except Exception as error:  # noqa: BLE001 - it is raised again where it is waited for
            words = getattr(error, "strerror", None) or str(error)
            found = OSError(errno.EADDRNOTAVAIL, f"no address for the name {host}: {words}")
        self._end(host, port, answer, found)

    def _end(
        self,
        host: str,
        port: int,
        answer: Future[Sequence[Address]],
        found: Sequence[Address] | Exception,
    ) -> None:
        with self._lock:
            del self._running[host, port]
        self._free.release()
        if isinstance(found, Exception):
            answer.set_exception(found)
        else:
            answer.set_result(found)


def ask_system(host: str, port: int) -> Sequence[Address]:
    """Ask the system; its order stays, but that families take turns."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    first_family = found[0][0]
    addresses: list[Address] = list(dict.fromkeys((one[0], cast(SocketAddress, one[4])) for one in found))
    firsts = [one for one in addresses if one[0] == first_family]
    others = [one for one in addresses if one[0] != first_family]
    return [one for one in chain.from_iterable(zip_longest(firsts, others)) if one]


@lru_cache(maxsize=256)  # a worker's hosts are few, and each call asks
def _literal(host: str, port: int) -> Address | None:
    try:
        address = ip_address(host)
    except ValueError:
        return None
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    return family, (host, port)


def connect_first(
    addresses: Sequence[Address], *, remaining_s: Callable[[], float], stagger_s: float = STAGGER_S
) -> socket.socket:
    """Connect to the first address that takes it, beginning with another one every ``stagger_s``.

    Raises:
        OSError: none takes it; what the first one said.
    """
    if len(addresses) == 1:
        return _connect(*addresses[0], timeout_s=remaining_s())
    waiting, failures = list(addresses), list[OSError]()
    with selectors.DefaultSelector() as trying:
        try:
            while waiting or trying.get_map():
                if waiting:
                    _begin(waiting.pop(0), trying, failures)
                if connected := _first_of(trying, remaining_s, stagger_s if waiting else None, failures):
                    return connected
        finally:
            for key in list(trying.get_map().values()):
                its = key.fileobj
                trying.unregister(its)
                its.close()  # type: ignore[union-attr]
    raise failures[0]


def _connect(
    family: socket.AddressFamily, address: tuple[str | int, ...], *, timeout_s: float
) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.settimeout(timeout_s)
        made.connect(address)
    except BaseException:
        made.close()
        raise
    return made


def _begin(address: Address, trying: selectors.BaseSelector, failures: list[OSError]) -> None:
    try:
        made = socket.socket(address[0], socket.SOCK_STREAM)
    except OSError as error:  # a family that this machine doesn't have
        failures.append(error)
        return
    made.setblocking(False)
    code = made.connect_ex(address[1])
    if code in (0, errno.EINPROGRESS):
        trying.register(made, selectors.EVENT_WRITE)
    else:
        made.close()
        failures.append(OSError(code, f"{address[1][0]}: {os.strerror(code)}"))


def _first_of(
    trying: selectors.BaseSelector,
    remaining_s: Callable[[], float],
    stagger_s: float | None,
    failures: list[OSError],
) -> socket.socket | None:
    """Wait for one that is decided, for as long as the next address waits; return it if it is connected."""
    if not trying.get_map():
        return None
    left_s = remaining_s()
    for key, _ in trying.select(left_s if stagger_s is None else min(left_s, stagger_s)):
        its = key.fileobj
        assert isinstance(its, socket.socket)  # noqa: S101 - registered above
        trying.unregister(its)
        code = its.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code == 0:
            return its
        its.close()
        failures.append(OSError(code, os.strerror(code)))
    return None

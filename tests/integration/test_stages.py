"""Every way a call can fail: at each stage, by each way to the vendor, with its one right outcome.

Nothing of a request has left before its own first byte, whatever was said to a proxy or in a handshake; from
then on, until the answer is whole, nobody can know. Each case has a real socket at the other end.
"""

from __future__ import annotations

import os
import socket
import ssl
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rawserver import OK, Connected, RawServer, Serve, answering, certify, tunnelling
from support import OPEN_FENCE, badge, configured, wait_for

from worker.domain.job import Job
from worker.domain.org import Org
from worker.domain.outcome import NoReply, Reply
from worker.store.clock import steady_s
from worker.vendor.addresses import Resolver, connect_first
from worker.vendor.client import Fence, VendorClient

JOBS = [Job(f"job{n}", badge(n)) for n in range(3)]
HEADERS = {"Authorization": "Basic c2VjcmV0OnBhc3N3b3Jk"}
BIG = {"x": "x" * 20_000_000}  # more than the sockets hold between them
TIGHT_S = 0.8
SLACK_S = 4.0  # what the test's faults take beyond it without a deadline is more

DIRECT = ("plain", "tls")
PROXIED = ("plain by proxy", "tls by proxy", "tls by tls proxy")
WAYS = (*DIRECT, *PROXIED)
OVER_TLS = tuple(way for way in WAYS if way.startswith("tls"))


@dataclass
class Ways:
    """Ways to a vendor; ``certificate`` is the server's side of TLS, which clients trust."""

    monkeypatch: pytest.MonkeyPatch
    certificate: ssl.SSLContext
    folder: Path

    @contextmanager
    def to(
        self,
        way: str,
        vendor: Serve,
        *,
        proxy: Serve = lambda _: None,
        certificate: ssl.SSLContext | None = None,
    ) -> Iterator[tuple[Org, RawServer]]:
        """Serve a vendor and, if the way has one, a proxy before it; the environment names that."""
        with ExitStack() as stack:
            tls = (certificate or self.certificate) if way.startswith("tls") else None
            server = stack.enter_context(RawServer(vendor, tls=tls))
            port = int(server.address.rpartition(":")[2])
            scheme, host = "https" if tls else "http", "127.0.0.1"
            if way in PROXIED:
                host = "vendor.test"
                its_tls = self.certificate if "tls proxy" in way else None
                before = stack.enter_context(RawServer(tunnelling(port, first=proxy), tls=its_tls))
                self.use_proxy(f"{'https' if its_tls else 'http'}://{before.address}")
            yield self.org(f"{scheme}://{host}:{port}"), server

    def use_proxy(self, url: str) -> None:
        """Name a proxy for everything."""
        for name in ("HTTP_PROXY", "HTTPS_PROXY"):
            self.monkeypatch.setenv(name, url)

    def org(self, url: str, *, timeout_s: float = 5) -> Org:
        """Return an org at that URL, which settings would refuse without TLS."""
        return configured(http_timeout_s=timeout_s).model_copy(update={"api_base_url": url})


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Ways:
    """No proxy at first."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    certificate = certify(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
    return Ways(monkeypatch, certificate, tmp_path)


def put(org: Org, *, fence: Fence = OPEN_FENCE, resolver: Resolver | None = None) -> Reply | NoReply:
    """Send the batch by a new client, which reads the environment as it is now."""
    return VendorClient(resolver=resolver).put(org, JOBS, HEADERS, fence=fence)


def tight(org: Org) -> Org:
    """Return the org with a short time-out."""
    return org.model_copy(update={"http_timeout_s": TIGHT_S})


def not_sent(answer: Reply | NoReply, words: str, code: str = "ConnectError") -> None:
    """Nothing of the request left: the jobs are put back."""
    assert isinstance(answer, NoReply), answer
    assert (answer.sent, answer.code) == (False, code), answer
    assert words in answer.reason, answer


def in_doubt(answer: Reply | NoReply, words: str, *codes: str) -> None:
    """Some of it left, and no whole answer came."""
    assert isinstance(answer, NoReply), answer
    assert answer.sent, answer
    assert answer.code in codes, answer
    assert words in answer.reason, answer


@contextmanager
def within_its_time() -> Iterator[None]:
    """Hold a call to its deadline."""
    began = time.monotonic()
    yield
    assert TIGHT_S - 0.05 < time.monotonic() - began < TIGHT_S + SLACK_S


def leaving_late() -> Fence:
    """Let the request leave half a second from now, so that the vendor's word has arrived."""
    return Fence(steady_s() + 60, 0, steady_s() + 60, lambda _: True, send_at=steady_s() + 0.4)


# -- the answer


@pytest.mark.parametrize("way", WAYS)
def test_the_answer_comes_by_each_way(ways: Ways, way: str) -> None:
    """With and without a proxy, which may itself speak TLS; the request is the vendor's alone."""
    with ways.to(way, answering(OK)) as (org, server):
        assert put(org) == Reply(200, b"[]", {})
    assert len(server.requests) == 1
    assert b"authorization: Basic" in server.requests[0] or b"Authorization: Basic" in server.requests[0]


@pytest.mark.parametrize("way", WAYS)
def test_after_the_answer_nothing_counts(ways: Ways, way: str) -> None:
    """What comes behind it, or a reset, changes nothing of it."""
    with ways.to(way, answering(OK + b"HTTP/1.1 429 No\r\nContent-Length: 0\r\n\r\n")) as (org, _):
        assert put(org) == Reply(200, b"[]", {})


# -- the name


@pytest.mark.parametrize("way", ["direct", "proxy"])
def test_no_such_name(ways: Ways, way: str) -> None:
    """The vendor's, or the proxy's: nothing was sent, and the reason names it."""
    if way == "proxy":
        ways.use_proxy("http://nonexistent.invalid:8080")
    not_sent(put(ways.org("https://nonexistent.invalid")), "no address for the name nonexistent.invalid")


def test_a_look_up_that_hangs_is_bounded(ways: Ways) -> None:
    """The system's has no time-out: the call has one all the same, and calls share a few threads."""
    over = threading.Event()
    resolver = Resolver(ask=lambda *_: (over.wait(10) and []) or [])
    org = tight(ways.org("https://slow.invalid"))
    try:
        for _ in range(3):
            with within_its_time():
                not_sent(put(org, resolver=resolver), "looking up", "timeout")
        assert sum(thread.name == "dns" for thread in threading.enumerate()) == 1
    finally:
        over.set()
        wait_for(lambda: not any(thread.name == "dns" for thread in threading.enumerate()))


def test_a_look_up_that_cant_begin_holds_no_later_one_up(ways: Ways, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no thread was to be had for it; the next one has its thread."""
    resolver, org = Resolver(ask=lambda *_: [(socket.AF_INET, ("127.0.0.1", 9))]), ways.org("https://a.test")

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as full:
        full.setattr(threading.Thread, "start", refuse)
        for _ in range(10):
            not_sent(put(org, resolver=resolver), "can't start new thread")
    not_sent(put(org, resolver=resolver), "refused")


# -- connecting


@pytest.mark.parametrize("way", ["direct", "proxy"])
def test_nobody_listens(ways: Ways, way: str) -> None:
    """Refused by the vendor, or by the proxy."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = "{}:{}".format(*closed.getsockname())
    url = f"https://{address}"
    if way == "proxy":
        ways.use_proxy(f"http://{address}")
        url = "https://vendor.test"
    not_sent(put(ways.org(url)), "Connection refused")


@pytest.fixture
def full() -> Iterator[tuple[str, int]]:
    """Where a connection is never made: a backlog that is full."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        address = listener.getsockname()
        for _ in range(8):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(address)
        wait_for(lambda: not _takes(address))
        yield address


def _takes(address: tuple[str, int]) -> bool:
    with socket.socket() as another:
        another.settimeout(0.05)
        return another.connect_ex(address) == 0


@pytest.mark.parametrize("way", ["direct", "proxy"])
def test_a_connection_that_is_never_made(ways: Ways, full: tuple[str, int], way: str) -> None:
    """The deadline holds there."""
    address = "{}:{}".format(*full)
    url = f"https://{address}"
    if way == "proxy":
        ways.use_proxy(f"http://{address}")
        url = "https://vendor.test"
    with within_its_time():
        not_sent(put(tight(ways.org(url))), "connecting", "timeout")


def test_a_dead_address_costs_a_quarter_of_a_second(full: tuple[str, int]) -> None:
    """Another address is tried beside it; one that is refused costs nothing, and the first word counts."""
    with socket.create_server(("127.0.0.1", 0)) as alive, socket.create_server(("127.0.0.1", 0)) as gone:
        refused, good = gone.getsockname(), alive.getsockname()
        gone.close()
        began = time.monotonic()
        addresses = [(socket.AF_INET, one) for one in (full, refused, good)]
        with connect_first(addresses, remaining_s=lambda: 5.0) as connected:
            assert connected.getpeername() == good
        assert 0.2 < time.monotonic() - began < 0.25 + SLACK_S
        with pytest.raises(ConnectionRefusedError):
            connect_first([(socket.AF_INET, refused)] * 2, remaining_s=lambda: 5.0)


# -- the proxy


@pytest.mark.parametrize("way", ["tls by proxy", "tls by tls proxy"])
@pytest.mark.parametrize(
    ("said", "words"),
    [
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", "the proxy answered 403"),
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy", "the proxy answered 503"),
        (b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n", "the proxy answered 407: it wants credentials"),
        (b"HTTP/1.1 302 Elsewhere\r\nLocation: http://login\r\n\r\n", "the proxy answered 302"),
        (b"\x00\x01 no HTTP\r\n\r\n", "no answer that can be read"),
        (b"", "no answer that can be read"),
    ],
    ids=["403", "503", "407", "302", "nonsense", "closed"],
)
def test_a_proxy_that_lets_nothing_through(ways: Ways, way: str, said: bytes, words: str) -> None:
    """Its word is not the vendor's: nothing of the request left."""

    def refuse(connected: Connected) -> None:
        connected.send(said)
        connected.socket.shutdown(socket.SHUT_RDWR)

    with ways.to(way, answering(OK), proxy=refuse) as (org, server):
        not_sent(put(org), words, "ProxyError")
        assert server.requests == []


@pytest.mark.parametrize("way", ["tls by proxy", "tls by tls proxy"])
@pytest.mark.parametrize("drips", [False, True])
def test_a_proxy_that_never_answers(ways: Ways, way: str, drips: bool) -> None:  # noqa: FBT001
    """Silent, or a byte at a time: the call's deadline counts."""

    def hang(connected: Connected) -> None:
        connected.drip(b"HTTP/1.1 200 Connection established" if drips else b"")
        connected.wait()

    with ways.to(way, answering(OK), proxy=hang) as (org, server):
        with within_its_time():
            not_sent(put(tight(org)), "asking the proxy", "timeout")
        assert server.requests == []


def test_a_proxys_credentials(ways: Ways) -> None:
    """They go to the proxy, in its header, and never to the vendor."""
    said: list[bytes] = []

    def look(connected: Connected) -> None:
        said.append(connected.said())

    with ways.to("tls by proxy", answering(OK), proxy=look) as (org, server):
        address = os.environ["HTTPS_PROXY"]
        for credentials in ("us%40er:pass", "üser:pässwörd"):
            ways.use_proxy(address.replace("//", f"//{credentials}@"))
            assert put(org) == Reply(200, b"[]", {})
    assert b"Proxy-Authorization: Basic dXNAZXI6cGFzcw==" in said[0]
    assert b64encode("üser:pässwörd".encode()) in said[1]
    assert b"proxy-authorization" not in server.requests[0].lower()


# -- TLS


@pytest.mark.parametrize("way", OVER_TLS)
@pytest.mark.parametrize("names", ["", "DNS:other.test"], ids=["unknown", "another's"])
def test_a_certificate_that_is_not_trusted(ways: Ways, way: str, names: str, tmp_path: Path) -> None:
    """The reason says so, shortly."""
    (tmp_path / "other").mkdir()
    other = certify(tmp_path / "other", names=names or "IP:127.0.0.1,DNS:vendor.test")
    if names:
        both = (tmp_path / "cert.pem").read_text() + (tmp_path / "other" / "cert.pem").read_text()
        (tmp_path / "both.pem").write_text(both)
        ways.monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "both.pem"))
    with ways.to(way, answering(OK), certificate=other) as (org, server):
        not_sent(put(org), "TLS: the certificate is not trusted")
        assert server.requests == []


def test_a_certificate_that_is_over(ways: Ways, tmp_path: Path) -> None:
    """The reason says so."""
    (tmp_path / "old").mkdir()
    old = certify(tmp_path / "old", expired=True)
    ways.monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "old" / "cert.pem"))
    with ways.to("tls", answering(OK), certificate=old) as (org, _):
        not_sent(put(org), "TLS: the certificate is not trusted: certificate has expired")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_vendor_that_wants_our_certificate(ways: Ways, version: ssl.TLSVersion, tmp_path: Path) -> None:
    """It says so in the handshake, or right behind it: before any request."""
    its = certify(tmp_path)
    its.minimum_version = its.maximum_version = version
    its.verify_mode = ssl.CERT_REQUIRED
    with ways.to("tls", answering(OK), certificate=its) as (org, server):
        not_sent(put(org, fence=leaving_late()), "alert")
        assert server.requests == []


@pytest.mark.parametrize("way", ["tls by proxy", "tls by tls proxy"])
@pytest.mark.parametrize("then", [Connected.reset, Connected.wait], ids=["reset", "silent"])
def test_a_tunnel_that_leads_nowhere(ways: Ways, way: str, then: Serve) -> None:
    """The proxy agrees, and nothing follows: that was the proxy's word, and no request has left."""

    def agree(connected: Connected) -> None:
        connected.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
        then(connected)
        raise OSError

    with ways.to(way, answering(OK), proxy=agree) as (org, server):
        code = "timeout" if then is Connected.wait else "ConnectError"
        not_sent(put(tight(org)), "TLS", code)
        assert server.requests == []


@pytest.mark.parametrize("proxied", [False, True])
@pytest.mark.parametrize("greeting", [b"220 mail.example ready\r\n", b""], ids=["no TLS", "closed"])
def test_what_speaks_no_tls(ways: Ways, greeting: bytes, proxied: bool) -> None:  # noqa: FBT001
    """A handshake that fails is no request."""

    def serve(connected: Connected) -> None:
        connected.socket.recv(10)
        connected.send(greeting)

    with ways.to("plain by proxy" if proxied else "plain", serve) as (org, _):
        url = str(org.api_base_url).replace("http:", "https:")
        not_sent(put(org.model_copy(update={"api_base_url": url})), "TLS: ")


@pytest.mark.parametrize("proxied", [False, True])
def test_a_handshake_that_drips(ways: Ways, proxied: bool) -> None:  # noqa: FBT001
    """The deadline is one."""
    with ways.to(
        "plain by proxy" if proxied else "plain", lambda connected: connected.drip(b"\x16" * 30)
    ) as (org, _):
        url = str(org.api_base_url).replace("http:", "https:")
        with within_its_time():
            not_sent(put(tight(org.model_copy(update={"api_base_url": url}))), "TLS handshake", "timeout")


# -- before the first byte


@pytest.mark.parametrize("way", [*DIRECT, *OVER_TLS[1:]])
@pytest.mark.parametrize(
    "said", [b"", b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"], ids=["closed", "answered"]
)
def test_a_vendor_that_speaks_first(ways: Ways, way: str, said: bytes) -> None:
    """It hangs up, or answers, before it was asked: nothing is sent, so nothing is in doubt."""
    with ways.to(way, lambda connected: connected.send(said)) as (org, _):
        not_sent(put(org, fence=leaving_late()), "before it was asked")


# -- in the request


@pytest.mark.parametrize("way", WAYS)
def test_a_reset_in_the_request(ways: Ways, way: str) -> None:
    """A part of it has left."""

    def serve(connected: Connected) -> None:
        connected.socket.recv(1000)
        connected.reset()

    with ways.to(way, serve) as (org, _):
        in_doubt(
            VendorClient().post(org, "/", BIG, fence=OPEN_FENCE),
            "",
            "ReadError",
            "WriteError",
            "RemoteProtocolError",
        )


@pytest.mark.parametrize("way", WAYS)
def test_a_vendor_that_stops_reading(ways: Ways, way: str) -> None:
    """The deadline holds for the sum of all sends, not for each."""

    def serve(connected: Connected) -> None:
        for _ in range(8):
            connected.socket.recv(200_000)
            if connected.over_within(0.2):
                return
        connected.wait()

    with ways.to(way, serve) as (org, _), within_its_time():
        in_doubt(
            VendorClient().post(tight(org), "/", BIG, fence=OPEN_FENCE), "sending the request", "timeout"
        )


@pytest.mark.parametrize("way", WAYS)
def test_an_answer_before_all_was_read(ways: Ways, way: str) -> None:
    """A vendor may refuse what is too large before it has read it."""

    def serve(connected: Connected) -> None:
        connected.read_head()
        connected.send(b"HTTP/1.1 413 Large\r\nContent-Length: 0\r\n\r\n")
        connected.drain()

    with ways.to(way, serve) as (org, _):
        assert VendorClient().post(org, "/", {"x": "x" * 300_000}, fence=OPEN_FENCE) == Reply(413, b"", {})


# -- before the answer, and in it


def _read_and(then: Callable[[Connected], Any]) -> Serve:
    def serve(connected: Connected) -> None:
        connected.read()
        then(connected)

    return serve


FAILURES = {
    "closed": (lambda _: None, "", ("RemoteProtocolError", "ReadError")),
    "reset": (lambda connected: connected.reset(), "", ("ReadError", "RemoteProtocolError")),
    "silent": (lambda connected: connected.wait(), "waiting for the answer", ("timeout",)),
    "drips": (lambda connected: connected.drip(OK), "reading the answer", ("timeout",)),
    "cut": (
        lambda connected: connected.send(OK.replace(b": 2", b": 9")),
        "",
        ("RemoteProtocolError", "ReadError"),
    ),
    "nonsense": (lambda connected: connected.send(b"\x00 no HTTP\r\n\r\n"), "", ("RemoteProtocolError",)),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", FAILURES)
def test_no_whole_answer(ways: Ways, way: str, name: str) -> None:
    """Whatever it was, the vendor may have done as it was asked."""
    then, words, codes = FAILURES[name]
    with ways.to(way, _read_and(then)) as (org, server):
        in_doubt(put(tight(org)), words, *codes)
        assert len(server.requests) == 1


# -- which way


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_loopback_goes_around_every_proxy(ways: Ways, host: str, variable: str) -> None:
    """A company's proxy knows nothing of this machine."""
    ways.monkeypatch.setenv(variable, "http://127.0.0.1:9")
    with RawServer(answering(OK)) as server:
        url = f"http://{server.address}".replace("127.0.0.1", host)
        assert put(ways.org(url)) == Reply(200, b"[]", {})

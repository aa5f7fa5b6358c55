"""The promises of the call: one deadline over all of it, bounded memory, and what is certain if it fails."""

from __future__ import annotations

import gc
import gzip
import socket
import ssl
import threading
import time
import tracemalloc
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from pathlib import Path

import pytest
from rawserver import OK, Connected, RawServer, Serve, answering, certify, keeping
from support import OPEN_FENCE, badge, configured, wait_for

from worker.domain.job import Job
from worker.domain.org import Org
from worker.sandbox.server import SandboxServer
from worker.store.clock import steady_s
from worker.vendor.client import ANSWER_MAX_BYTES, TOO_LATE, Fence, VendorClient
from worker.vendor.verdict import NoReply, Reply, retry_after_s

JOBS = [Job(f"job{n}", badge(n)) for n in range(3)]
SECRET = "c2VjcmV0OnBhc3N3b3Jk"
HEADERS = {"Authorization": f"Basic {SECRET}"}
GZIP = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%b"
PACKED = gzip.compress(b"[]")
STALE = b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: %d\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
SLACK_S = 5.0  # what the test's faults take beyond it without a deadline is more


@pytest.fixture
def vendor_client() -> Iterator[VendorClient]:
    """The client."""
    made = VendorClient()
    yield made
    made.close()


@pytest.fixture(params=["http", "https"])
def scheme(request: pytest.FixtureRequest) -> str:
    """With TLS and without; a fixture comes before the client, which reads what it trusts when it is made."""
    return str(request.param)


@pytest.fixture
def tls(scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext | None:
    """The server's side of it, trusted by clients that are made from now on."""
    if scheme == "http":
        return None
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
    return certify(tmp_path)


def org_at(address: str, *, timeout_s: float = 5, scheme: str = "http") -> Org:
    """Return an org whose vendor is there."""
    return configured(api_base_url=f"{scheme}://{address}", http_timeout_s=timeout_s)


def put(client: VendorClient, org: Org, *, fence: Fence = OPEN_FENCE) -> Reply | NoReply:
    """Send the batch."""
    return client.put(org, JOBS, HEADERS, fence=fence)


def put_to(client: VendorClient, serve: Serve, *, timeout_s: float = 5) -> Reply | NoReply:
    """Send the batch to a server that does so; whatever comes back shows no secret."""
    with RawServer(serve) as server:
        answer = put(client, org_at(server.address, timeout_s=timeout_s))
    assert not isinstance(answer, NoReply) or SECRET not in answer.reason + answer.code
    return answer


def no_reply(answer: Reply | NoReply) -> NoReply:
    """Fail if it is a reply."""
    assert isinstance(answer, NoReply), answer
    return answer


# -- what goes out and what comes back


def test_the_request_is_as_the_vendor_documents_it(vendor_client: VendorClient) -> None:
    """PUT, JSON, an array of badges, and the credentials; the answer comes back whole."""
    with RawServer(answering(OK)) as server:
        answer = put(vendor_client, org_at(server.address))
    assert answer == Reply(200, b"[]", {})
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert head.startswith(b"PUT /api_gateway/v1/badges/import/customerBadges HTTP/1.1\r\n")
    assert b"content-type: application/json" in head.lower()
    assert f"authorization: basic {SECRET.lower()}".encode() in head.lower()
    assert body.startswith(b'[{"badgeMetaId":"696f0fd40772ad476ecf74ac","customerId":500000000,')
    assert body.count(b"badgeMetaId") == 3


def test_only_the_headers_that_decide_something_are_kept(vendor_client: VendorClient) -> None:
    """Retry-After and Date; whatever else the vendor sends is no business of ours."""
    throttled = (
        b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 7\r\nDate: Tue, 10 Feb 2026 10:00:00 GMT\r\n"
        b"X-Other: 1\r\nContent-Length: 0\r\n\r\n"
    )
    answer = put_to(vendor_client, answering(throttled))
    assert answer == Reply(429, b"", {"retry-after": "7", "date": "Tue, 10 Feb 2026 10:00:00 GMT"})


def test_the_sandbox_takes_it(vendor_client: VendorClient, sandbox: SandboxServer) -> None:
    """A vendor that does as documented issues the badges."""
    answer = put(vendor_client, org_at(sandbox.url.removeprefix("http://")))
    assert isinstance(answer, Reply)
    assert answer.status == 200
    assert len(sandbox.vendor.ledger().issues) == 3


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirects_are_not_followed(vendor_client: VendorClient, status: int) -> None:
    """A batch goes where it was meant to, once; the redirect is the answer."""
    moved = f"HTTP/1.1 {status} Moved\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n".encode()
    with RawServer(keeping(moved)) as server:
        answer = put(vendor_client, org_at(server.address))
        assert isinstance(answer, Reply)
        assert (answer.status, len(server.requests)) == (status, 1)
        vendor_client.close()


def test_cookies_are_not_sent_back(vendor_client: VendorClient) -> None:
    """Those of the vendor's front are not ours to keep."""
    with_cookie = OK.replace(b"\r\n\r\n", b"\r\nSet-Cookie: __cf_bm=tracked; path=/\r\n\r\n")
    with RawServer(keeping(with_cookie)) as server:
        for _ in range(3):
            assert isinstance(put(vendor_client, org_at(server.address)), Reply)
        vendor_client.close()
    assert len(server.requests) == 3
    assert not any(b"cookie" in request.lower() for request in server.requests)


def test_each_call_has_a_connection_of_its_own(
    tls: ssl.SSLContext | None, scheme: str, vendor_client: VendorClient
) -> None:
    """However soon they follow each other, and though the vendor would keep it; none is left open."""
    with RawServer(keeping(), tls=tls) as server:
        for _ in range(5):
            assert isinstance(put(vendor_client, org_at(server.address, scheme=scheme)), Reply)
        assert (server.connections, len(server.requests)) == (5, 5)


@pytest.mark.parametrize("behind", [STALE % 0, STALE[:20], b"\r\n"], ids=["answer", "part of one", "blanks"])
def test_what_comes_behind_an_answer_never_answers_the_next_call(
    tls: ssl.SSLContext | None, scheme: str, vendor_client: VendorClient, behind: bytes
) -> None:
    """Taken for a 429, it would have the next batch sent, and issued, twice."""

    def serve(connected: Connected) -> None:
        while connected.read():
            connected.send_together(OK, behind)

    with RawServer(serve, tls=tls) as server:
        org = org_at(server.address, scheme=scheme)
        assert [put(vendor_client, org) for _ in range(3)] == [Reply(200, b"[]", {})] * 3
        assert (server.connections, len(server.requests)) == (3, 3)
        vendor_client.close()


def test_nor_does_what_was_received_and_not_read(
    tls: ssl.SSLContext | None, scheme: str, vendor_client: VendorClient
) -> None:
    """64 KiB are read at a time: the answer ends there, and more has been received."""
    length = 65_536 - 42
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (length, b" " * length)

    def serve(connected: Connected) -> None:
        while connected.read():
            connected.send_together(answer, STALE % 16_000 + b" " * 16_000)

    with RawServer(serve, tls=tls) as server:
        org = org_at(server.address, scheme=scheme)
        answers = [put(vendor_client, org) for _ in range(2)]
    assert [answer.status for answer in answers if isinstance(answer, Reply)] == [200, 200]


def test_calls_run_beside_each_other(vendor_client: VendorClient) -> None:
    """Four threads at once: no call waits for another's answer."""
    together = threading.Barrier(4, timeout=5)

    def serve(connected: Connected) -> None:
        if connected.read():
            together.wait()
            connected.send(OK)

    with RawServer(serve) as server, ThreadPoolExecutor(4) as pool:
        org = org_at(server.address)
        answers = list(pool.map(lambda _: put(vendor_client, org), range(4)))
    assert answers == [Reply(200, b"[]", {})] * 4


# -- certainly not sent


def test_a_refused_connection_is_certainly_not_sent(vendor_client: VendorClient) -> None:
    """Nobody listens there."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = "{}:{}".format(*closed.getsockname())
    assert not no_reply(put(vendor_client, org_at(address))).sent


def test_a_name_that_cant_be_resolved_is_certainly_not_sent(vendor_client: VendorClient) -> None:
    """Nor does it take longer than the deadline."""
    answer = no_reply(put(vendor_client, org_at("nonexistent.invalid", scheme="https", timeout_s=3)))
    assert not answer.sent


@pytest.mark.parametrize("greeting", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b""])
def test_a_failed_tls_handshake_is_certainly_not_sent(vendor_client: VendorClient, greeting: bytes) -> None:
    """A server that speaks no TLS, or hangs up on it, has seen nothing of the request."""

    def serve(connected: Connected) -> None:
        connected.socket.recv(10)
        connected.send(greeting)

    with RawServer(serve) as server:
        answer = no_reply(put(vendor_client, org_at(server.address, scheme="https")))
    assert not answer.sent
    assert server.requests == []


def test_a_handshake_that_never_ends_is_certainly_not_sent(vendor_client: VendorClient) -> None:
    """The deadline holds there too."""
    with RawServer(lambda connected: connected.drip(b"\x16" * 30)) as server:
        started = time.monotonic()
        answer = no_reply(put(vendor_client, org_at(server.address, scheme="https", timeout_s=0.7)))
        assert 0.6 < time.monotonic() - started < 0.7 + SLACK_S
    assert not answer.sent
    gc.collect()


def test_after_the_fence_nothing_is_sent(vendor_client: VendorClient) -> None:
    """Looked at when the connection stands, right before the first byte."""
    with RawServer(keeping()) as server:
        late = Fence(slot=0, slack_s=0, send_by=steady_s() - 1, retime=lambda _: True)
        answer = no_reply(put(vendor_client, org_at(server.address), fence=late))
        assert (answer.sent, answer.code) == (False, TOO_LATE)
        assert isinstance(put(vendor_client, org_at(server.address)), Reply)
        vendor_client.close()
    assert len(server.requests) == 1


@pytest.mark.parametrize("may", [True, False])
def test_who_is_late_asks_for_another_time(vendor_client: VendorClient, may: bool) -> None:  # noqa: FBT001
    """A send that is late beyond the guard moves its slot first; if it can't, nothing is sent."""
    asked: list[float] = []
    fence = Fence(steady_s() - 1, 0.5, steady_s() + 60, lambda in_s: asked.append(in_s) is None and may)
    with RawServer(answering(OK)) as server:
        answer = put(vendor_client, org_at(server.address), fence=fence)
    assert isinstance(answer, Reply if may else NoReply)
    assert (asked, len(server.requests)) == ([0], int(may))
    in_time = Fence(steady_s() + 60, 0.5, steady_s() + 60, lambda in_s: asked.append(in_s) is None)
    with RawServer(answering(OK)) as server:
        assert isinstance(put(vendor_client, org_at(server.address), fence=in_time), Reply)
    assert len(asked) == 1


@pytest.mark.parametrize("token", ["secret\n", "secr\x00et", "sécret"], ids=["line end", "nul", "accent"])
def test_credentials_that_fit_no_header_are_certainly_not_sent(
    vendor_client: VendorClient, token: str
) -> None:
    """The call fails as an outcome, not as an exception; nothing has left, and the reason shows no secret."""
    with RawServer(keeping()) as server:
        headers = {"Authorization": f"Basic {token}"}
        answer = vendor_client.put(org_at(server.address), JOBS, headers, fence=OPEN_FENCE)
    assert server.requests == []
    assert not no_reply(answer).sent
    assert token.strip() not in no_reply(answer).reason


# -- in doubt


def test_a_reset_before_anything_was_read_is_in_doubt(vendor_client: VendorClient) -> None:
    """From here it can't be told apart from one that came after."""
    assert no_reply(put_to(vendor_client, _reset_unread)).sent


def _reset_unread(connected: Connected) -> None:
    connected.socket.recv(1, socket.MSG_PEEK)
    connected.reset()


def _read_and_reset(connected: Connected) -> None:
    connected.read()
    connected.reset()


def _half_a_body(connected: Connected) -> None:
    connected.read()
    connected.send(OK.replace(b"Length: 2", b"Length: 200"))


@pytest.mark.parametrize(
    "serve",
    [
        _read_and_reset,
        _half_a_body,
        answering(),
        answering(CHUNKED, b"2\r\n[]\r\n"),
        answering(CHUNKED, b"zz\r\n[]\r\n0\r\n\r\n"),
        answering(b"\x00\x01\x02 this is no HTTP\r\n\r\n"),
        answering(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 7\r\n\r\n[]"),
        answering(b"HTTP/1.1 200 OK\r\n" + b"X-A: " + b"a" * 200_000 + b"\r\n\r\n"),
        answering(GZIP % (7, b"no gzip")),
        answering(GZIP % (10, PACKED[:10])),
        answering(GZIP % (len(PACKED) - 8, PACKED[:-8])),
        answering(GZIP % (len(PACKED) + 7, PACKED + b"no gzip")),
        answering(OK.replace(b"OK\r\n", b"OK\r\nContent-Encoding: br\r\n").replace(b"[]", b"\x0b\x02")),
        answering(b"HTTP/1.1 100 Continue\r\n\r\n" * 3),
        answering(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n[]"),
        answering(OK.replace(b"OK\r\n", b"OK\r\nTransfer-Encoding: gzip, chunked\r\n")),
        answering(CHUNKED, b"3\r\n[\r\n]\r\n0\r\n\r\n"),
    ],
    ids=[
        "reset",
        "half a body",
        "no answer",
        "truncated",
        "bad chunk",
        "garbage",
        "two lengths",
        "huge header",
        "bad gzip",
        "cut gzip",
        "gzip without trailer",
        "gzip and more",
        "unasked coding",
        "only 100s",
        "another protocol",
        "packed on the way",
        "chunk that lies",
    ],
)
def test_an_answer_that_cant_be_read_is_in_doubt(vendor_client: VendorClient, serve: Serve) -> None:
    """The request was there; what became of it nobody can know."""
    answer = no_reply(put_to(vendor_client, serve))
    assert answer.sent
    assert answer.reason


# -- one deadline


def _silent(connected: Connected) -> None:
    connected.read()
    connected.socket.recv(1)


def _drip_head(connected: Connected) -> None:
    connected.read()
    connected.drip(OK)


def _drip_body(connected: Connected) -> None:
    connected.read()
    connected.send(OK.replace(b"Length: 2\r\n\r\n[]", b"Length: 200\r\n\r\n"))
    connected.drip(b"[" * 200)


@pytest.mark.parametrize("serve", [_silent, _drip_head, _drip_body], ids=["silent", "header", "body"])
def test_one_deadline_bounds_the_whole_call(vendor_client: VendorClient, serve: Serve) -> None:
    """A vendor that sends a byte every 0.3 s evades every time-out but this."""
    started = time.monotonic()
    answer = no_reply(put_to(vendor_client, serve, timeout_s=0.8))
    assert 0.75 < time.monotonic() - started < 0.8 + SLACK_S
    assert (answer.sent, answer.code) == (True, "timeout")


def test_a_call_that_hangs_holds_no_other_up(vendor_client: VendorClient) -> None:
    """Beside one that waits for its deadline, others come and go."""
    with RawServer(_drip_head) as slow, RawServer(keeping()) as fast, ThreadPoolExecutor(1) as pool:
        hanging = pool.submit(put, vendor_client, org_at(slow.address, timeout_s=2))
        wait_for(lambda: slow.requests)
        for _ in range(5):
            assert isinstance(put(vendor_client, org_at(fast.address)), Reply)
        assert not hanging.done()
        assert no_reply(hanging.result()).code == "timeout"
        vendor_client.close()


# -- bounded memory


def _endless(connected: Connected) -> None:
    connected.read()
    connected.send(b"HTTP/1.1 200 OK\r\nContent-Length: 200000000\r\n\r\n")
    megabyte = b"x" * 1_000_000
    for _ in range(200):
        connected.send(megabyte)


def _bomb(connected: Connected) -> None:
    connected.read()
    connected.send(CHUNKED.replace(b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\n\r\n"))
    packer, zeros = zlib.compressobj(1, wbits=31), b"\x00" * 10_000_000
    for _ in range(30):
        packed = packer.compress(zeros) + packer.flush(zlib.Z_SYNC_FLUSH)
        connected.send(b"%x\r\n%b\r\n" % (len(packed), packed))


@pytest.mark.parametrize("serve", [_endless, _bomb], ids=["200 MB", "300 MB packed"])
def test_an_answer_that_is_too_large_is_refused(vendor_client: VendorClient, serve: Serve) -> None:
    """It is given up as soon as it is, whatever it would have been; memory stays bounded."""
    tracemalloc.start()
    try:
        answer = no_reply(put_to(vendor_client, serve, timeout_s=10))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (answer.sent, answer.code) == (True, "too_long")
    assert most < 8 * ANSWER_MAX_BYTES


@pytest.mark.parametrize("header", ["gzip, gzip", "gzip\r\nContent-Encoding: gzip"])
def test_an_answer_packed_twice_is_not_unpacked(vendor_client: VendorClient, header: str) -> None:
    """A few hundred bytes would become any number of them in one step."""
    packed = gzip.compress(gzip.compress(bytes(100_000_000), 1))
    answer = (GZIP % (len(packed), packed)).replace(b"gzip", header.encode(), 1)
    tracemalloc.start()
    try:
        doubt = no_reply(put_to(vendor_client, answering(answer)))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (doubt.sent, doubt.code) == (True, "coding")
    assert most < ANSWER_MAX_BYTES


GZIPPED, ZLIB = gzip.compress(b"[1]", mtime=0), zlib.compress(b"[1]")


@pytest.mark.parametrize(
    ("label", "body"),
    [
        ("x-gzip", GZIPPED),
        ("GZip", GZIPPED),
        ("identity, gzip", GZIPPED),
        ("", GZIPPED),
        ("deflate", ZLIB),
        ("identity", b"[1]"),
        ("gzip", b"[1]"),
        ("x-gzip", b"\xef\xbb\xbf[1]"),
        ("gzip", gzip.compress(b"[", mtime=0) + gzip.compress(b"1]", mtime=0)),
        ("gzip", GZIPPED + bytes(5)),
        ("utf-8", b"[1]"),
        ("none", GZIPPED),
        ("gzip;q=1", GZIPPED),
        ("br", b"[1]"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[:3].hex(),
)
def test_what_can_be_read_without_guessing_is_read(
    vendor_client: VendorClient, label: str, body: bytes
) -> None:
    """Packed bytes say what they are, and end in a checksum; a label that is odd or wrong spoils nothing."""
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: {label}\r\nContent-Length: {len(body)}\r\n\r\n"
    answer = put_to(vendor_client, answering(head.encode() + body[:1], body[1:]))
    assert isinstance(answer, Reply)
    assert answer.body.removeprefix(b"\xef\xbb\xbf") == b"[1]"


@pytest.mark.parametrize(
    "before", [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * 3]
)
@pytest.mark.parametrize("line", [b"HTTP/1.1 200 OK", b"HTTP/1.0 200 OK", b"HTTP/1.1 200"])
def test_odd_forms_of_an_answer_are_read(vendor_client: VendorClient, before: bytes, line: bytes) -> None:
    """What comes before the answer is none; one without a length ends with its connection."""
    assert put_to(vendor_client, answering(before, line + b"\r\n\r\n[]")) == Reply(200, b"[]", {})


def test_a_date_to_try_again_at_is_counted_by_our_clock_if_need_be(vendor_client: VendorClient) -> None:
    """A gateway may say when, and not what time it is there."""
    at = formatdate(time.time() + 60, usegmt=True)
    head = f"HTTP/1.1 429 Slow\r\nRetry-After: {at}\r\nContent-Length: 0\r\n\r\n"
    answer = put_to(vendor_client, answering(head.encode()))
    assert isinstance(answer, Reply)
    assert 50 < (retry_after_s(answer.headers) or 0) <= 60


def test_no_body_needs_no_unpacking(vendor_client: VendorClient) -> None:
    """A status that comes without one is as certain as ever."""
    throttled = b"HTTP/1.1 429 Slow\r\nContent-Encoding: gzip\r\nContent-Length: 0\r\n\r\n"
    assert put_to(vendor_client, answering(throttled)) == Reply(429, b"", {})


@pytest.mark.parametrize("line", [b"HTTP/1.1 200 OK\r\n%b", b"%b", CHUNKED[:-2] + b"\r\n%b"])
def test_a_reason_is_short_and_quotes_nothing_that_came(vendor_client: VendorClient, line: bytes) -> None:
    """A vendor that can't be read may send our own header back."""

    def serve(connected: Connected) -> None:
        echoed = connected.read().replace(b"\r\n", b" ").replace(b":", b"")
        connected.send(line % (b"\x1b[31m " + echoed + b"A" * 50_000) + b"\r\n\r\n")

    doubt = no_reply(put_to(vendor_client, serve))
    assert doubt.sent
    assert len(doubt.reason) <= 200
    assert "AAA" not in doubt.reason


def test_a_large_answer_within_the_bound_is_taken(vendor_client: VendorClient) -> None:
    """A thousand rows with long messages are no attack; packed or not."""
    body = b"[" + b'"a",' * 500_000 + b'"a"]'
    packed = gzip.compress(body)
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"
    plain = put_to(vendor_client, answering(head % len(body), body))
    zipped = put_to(
        vendor_client,
        answering((head % len(packed)).replace(b"OK\r\n", b"OK\r\nContent-Encoding: gzip\r\n"), packed),
    )
    assert plain == zipped == Reply(200, body, {})


def _half_packed_and_more(connected: Connected) -> None:
    connected.read()
    connected.send(GZIP % (10, PACKED[:10]) + STALE % 0)
    connected.read()


@pytest.mark.parametrize(("first", "code"), [(_endless, "too_long"), (_half_packed_and_more, "coding")])
def test_a_refused_answer_leaves_nothing_behind(vendor_client: VendorClient, first: Serve, code: str) -> None:
    """The connection with the rest of it isn't used again."""
    serves: list[Serve] = [first, keeping()]

    def serve(connected: Connected) -> None:
        serves.pop(0)(connected)

    with RawServer(serve) as server:
        org = org_at(server.address)
        assert no_reply(put(vendor_client, org)).code == code
        assert put(vendor_client, org) == Reply(200, b"[]", {})
        vendor_client.close()
    assert server.connections == 2


# -- the end


def test_no_thread_is_left_behind() -> None:
    """Calls run in the threads that make them."""
    before = set(threading.enumerate())
    made = VendorClient()
    put_to(made, answering(OK))
    made.close()
    made.close()
    assert set(threading.enumerate()) <= before

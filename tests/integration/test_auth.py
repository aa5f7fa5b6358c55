"""The promises of credentials: one token for all processes, fetched once, in time, and never shown."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from typing import Any

import launcher
import pytest
import redis
import time_machine
from support import OPEN_FENCE, PROGRAMS, badge, configured, deliver_one, environment, item, wait_for

from worker.delivery import Delivered, Delivery
from worker.domain.batch import Slot, Wait
from worker.domain.job import Job
from worker.domain.org import Org
from worker.domain.outcome import Reply, Signal
from worker.operate.runs import JobReader
from worker.sandbox.issued import Fault, SandboxSettings
from worker.sandbox.server import SandboxServer
from worker.server.connection import Connection
from worker.store import keys
from worker.store.queue import Queue
from worker.vendor.auth import TOKEN_HEADER, Authenticator, AuthFailed, Credentials
from worker.vendor.client import VendorClient

KEY, SECRET = "the-key", "the-secret"
OAUTH = SandboxSettings(oauth=(KEY, SECRET))
TOKEN = keys.key("default", "token")
JOBS = [Job("job", badge(1))]


@pytest.fixture
def vendor_client() -> Iterator[VendorClient]:
    """The client."""
    made = VendorClient()
    yield made
    made.close()


@pytest.fixture
def auth(queue: Queue, vendor_client: VendorClient) -> Authenticator:
    """The credentials of this process."""
    return Authenticator(queue=queue, client=vendor_client)


@pytest.fixture
def org(sandbox: SandboxServer) -> Org:
    """An org whose vendor wants OAuth."""
    sandbox.vendor.configure(OAUTH)
    return oauth_org(sandbox)


def oauth_org(sandbox: SandboxServer, **settings: Any) -> Org:
    """Return an org with an OAuth key."""
    given = {"auth": "oauth", "oauth_key": KEY, "oauth_secret": SECRET, "api_base_url": sandbox.url}
    return configured(**given | settings)


def got(auth: Authenticator, org: Org) -> Credentials:
    """Return credentials, waiting while another fetches the token; fail if there are none."""

    def found() -> Credentials | None:
        answer = auth.credentials(org)
        assert not isinstance(answer, AuthFailed), answer
        return answer if isinstance(answer, Credentials) else None

    credentials: Credentials = wait_for(found)
    return credentials


def put(client: VendorClient, org: Org, credentials: Credentials) -> int:
    """Send a badge; return the status."""
    answer = client.put(org, JOBS, credentials.headers, fence=OPEN_FENCE)
    assert isinstance(answer, Reply), answer
    return answer.status


def tokens_fetched(sandbox: SandboxServer) -> int:
    """Return how often a token was asked for."""
    return sum(exchange.endpoint == "token" for exchange in sandbox.vendor.ledger().exchanges)


def age(client: redis.Redis, *, by_s: float) -> None:
    """Make the kept token older than it is."""
    record = json.loads(client.get(TOKEN) or "")
    client.set(TOKEN, json.dumps(record | {n: record[n] - by_s for n in ("fetched_at", "expires_at")}))


def token_says(sandbox: SandboxServer, body: str) -> None:
    """Let the vendor answer so when it is asked for a token."""
    sandbox.vendor.add_fault(Fault(fault="status", on="token", status=200, body=body))


def end_all_tokens(sandbox: SandboxServer) -> None:
    """Let the vendor forget every token that it gave out."""
    sandbox.vendor.configure(SandboxSettings())
    sandbox.vendor.configure(OAUTH)


# -- basic


def test_the_basic_header_is_the_vendors(
    auth: Authenticator, vendor_client: VendorClient, sandbox: SandboxServer
) -> None:
    """User and md5 of the password, as it documents; the plain password or a wrong one is refused."""
    sandbox.vendor.configure(SandboxSettings(basic=("user", "pässword")))
    basic = {"auth": "basic", "basic_username": "user", "api_base_url": sandbox.url}
    right, wrong = (configured(**basic, basic_password=word) for word in ("pässword", "password"))
    assert put(vendor_client, right, got(auth, right)) == 200
    assert put(vendor_client, wrong, got(auth, wrong)) == 401
    token = right.basic_header.removeprefix("Basic ")
    ready = configured(auth="basic", basic_token=token, api_base_url=sandbox.url)
    assert put(vendor_client, ready, got(auth, ready)) == 200
    assert not auth.refused(wrong, got(auth, wrong))


def test_without_auth_nothing_is_sent(auth: Authenticator, sandbox: SandboxServer) -> None:
    """No header, no call."""
    assert got(auth, configured(api_base_url=sandbox.url)) == Credentials({})
    assert sandbox.vendor.ledger().exchanges == ()


# -- one token for all


def test_a_token_is_fetched_once_and_kept_for_all(
    auth: Authenticator, queue: Queue, vendor_client: VendorClient, sandbox: SandboxServer, org: Org
) -> None:
    """The vendor takes it, and another process uses the same without asking for one."""
    credentials = got(auth, org)
    assert put(vendor_client, org, credentials) == 200
    assert set(credentials.headers) == {TOKEN_HEADER}
    other = Authenticator(queue=queue, client=vendor_client)
    assert got(other, org) == got(auth, org) == credentials
    assert tokens_fetched(sandbox) == 1
    assert credentials.token_id not in credentials.headers[TOKEN_HEADER]


def test_threads_that_race_fetch_one_token(
    connection: Connection, vendor_client: VendorClient, client: redis.Redis, sandbox: SandboxServer, org: Org
) -> None:
    """One asks the vendor, the others wait for it; nobody waits asleep."""
    assert client.dbsize() == 0
    sandbox.vendor.add_fault(Fault(fault="delay", on="token", seconds=2))
    together = Barrier(8)

    def fetch(_: int) -> tuple[str, float]:
        with connection.client() as own:
            mine = Authenticator(queue=Queue(own), client=vendor_client)
            together.wait()
            started = time.monotonic()
            answer = mine.credentials(org)
            took = time.monotonic() - started
            if isinstance(answer, Wait):
                assert answer.why == "token"
            return got(mine, org).token_id, took

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(fetch, range(8)))
    assert len({token_id for token_id, _ in answers}) == 1
    assert tokens_fetched(sandbox) == 1
    assert sum(took >= 2 for _, took in answers) == 1


def test_processes_that_race_fetch_one_token(
    connection: Connection, client: redis.Redis, sandbox: SandboxServer, org: Org
) -> None:
    """The same across processes, which share nothing but Redis."""
    assert client.dbsize() == 0
    settings = json.dumps(
        {
            "auth": "oauth",
            "oauth_key": KEY,
            "oauth_secret": SECRET,
            "api_base_url": org.api_base_url,
            "rate_limit": "1000/second",
        }
    )
    command = [
        sys.executable, str(PROGRAMS / "token_seeker.py"), connection.url, settings, str(time.time() + 1)
    ]  # fmt: skip
    with ThreadPoolExecutor(3) as at_once:
        done = list(at_once.map(lambda _: launcher.run(command, env=environment()), range(3)))
    said = [one.stdout.strip() for one in done]
    assert [one.returncode for one in done] == [0, 0, 0], done
    assert len(set(said)) == 1
    assert said[0]
    assert tokens_fetched(sandbox) == 1


class Overtaken(redis.Redis):
    """A client that is slow for once: between its look for the token and its next step, others act."""

    meanwhile: Callable[[], object] | None = None

    def get(self, name: Any) -> Any:
        """Look, and let the others act before the answer is used."""
        found = super().get(name)
        if self.meanwhile:
            act, self.meanwhile = self.meanwhile, None
            act()
        return found


def test_who_was_overtaken_uses_the_others_token(
    connection: Connection, auth: Authenticator, vendor_client: VendorClient, sandbox: SandboxServer, org: Org
) -> None:
    """Between "there is none" and "it is mine to fetch", another may have fetched it."""
    with Overtaken.from_url(connection.url, decode_responses=True, protocol=2) as slow:
        slow.meanwhile = lambda: got(auth, org)
        got(Authenticator(queue=Queue(slow), client=vendor_client), org)
    assert tokens_fetched(sandbox) == 1


# -- in time


def test_a_token_is_renewed_before_it_ends(
    auth: Authenticator, client: redis.Redis, sandbox: SandboxServer, org: Org
) -> None:
    """A call must not begin with a token that ends on its way."""
    first = got(auth, org)
    age(client, by_s=260)
    assert got(auth, org) == first
    age(client, by_s=20)
    second = got(auth, org)
    assert second.token_id != first.token_id
    assert tokens_fetched(sandbox) == 2


def test_a_kept_token_ends_by_itself(auth: Authenticator, client: redis.Redis, org: Org) -> None:
    """Redis forgets it when the vendor does."""
    got(auth, org)
    assert 298_000 < client.pttl(TOKEN) <= 300_000


def test_a_short_lived_token_is_used_all_the_same(auth: Authenticator, sandbox: SandboxServer) -> None:
    """Not renewed at every call, only in the last quarter of its life."""
    sandbox.vendor.configure(SandboxSettings(oauth=(KEY, SECRET), token_ttl_s=20))
    org = oauth_org(sandbox)
    assert len({got(auth, org).token_id for _ in range(5)}) == 1
    assert tokens_fetched(sandbox) == 1


@pytest.mark.parametrize(
    ("ttl", "lives_s"),
    [
        ("null", 300),
        ("3600", 3600),
        ("1e999", 300),
        ("NaN", 300),
        ("9" * 400, 300),
        ("1e300", 300),
        ("1e9", 86_400),
        ("-5", 1),
        ('"soon"', 300),
    ],
)
def test_whatever_life_the_vendor_states_the_token_is_of_use(
    auth: Authenticator, client: redis.Redis, sandbox: SandboxServer, ttl: str, lives_s: int
) -> None:
    """No number of its raises, has a token kept for ever, or one fetched for every call."""
    org = oauth_org(sandbox)
    token_says(sandbox, f'{{"data": {{"accessToken": "t", "ttlSeconds": {ttl}}}, "errors": null}}')
    assert got(auth, org).headers == {TOKEN_HEADER: "t"}
    assert lives_s * 1000 - 900 < client.pttl(TOKEN) <= lives_s * 1000


@pytest.mark.parametrize(
    "token", ['""', "7", '{"a": 1}', '"a b"', '"a\\n"', '"\\ud800"', '"%s"' % ("a" * 8193)]
)
def test_a_token_that_fits_no_header_is_none(
    auth: Authenticator, client: redis.Redis, sandbox: SandboxServer, org: Org, token: str
) -> None:
    """It is not kept, so that the next call asks again; nor does it pause the org."""
    token_says(sandbox, f'{{"data": {{"accessToken": {token}, "ttlSeconds": 300}}, "errors": null}}')
    failed = auth.credentials(org)
    assert isinstance(failed, AuthFailed)
    assert not failed.lasting
    assert not client.exists(TOKEN)


@pytest.mark.parametrize(
    "code",
    ['"%s"' % ("A" * 20_000), json.dumps({"key": KEY, "secret": SECRET}), f'"{SECRET}"', '"\\ud800"'],
    ids=["long", "echo of all", "echo", "surrogate"],
)
def test_a_code_that_is_none_is_not_shown(
    auth: Authenticator, sandbox: SandboxServer, org: Org, code: str
) -> None:
    """What goes into the log, the gate and the status is short, can be written, and shows no secret."""
    token_says(sandbox, f'{{"data": null, "errors": [{{"code": {code}, "message": "{SECRET}"}}]}}')
    failed = auth.credentials(org)
    assert isinstance(failed, AuthFailed)
    assert len(failed.reason.encode()) < 100
    assert not any(secret in failed.reason for secret in (KEY, SECRET))


def test_a_reason_to_pause_is_short_and_can_be_written(queue: Queue, client: redis.Redis) -> None:
    """Whatever is said in it."""
    assert queue.pause("default", why="auth", reason="\ud800" + "é" * 20_000)
    assert client.hget(keys.key("default", "gate"), "pause_reason") == " " + "é" * 99


# -- refused


def test_a_refused_token_is_renewed_once(
    auth: Authenticator, client: redis.Redis, sandbox: SandboxServer, org: Org
) -> None:
    """Everybody who had it is told that fresh credentials may help; the renewal is one call."""
    old = got(auth, org)
    age(client, by_s=100)
    assert auth.refused(org, old)
    new = got(auth, org)
    assert new.token_id != old.token_id
    assert auth.refused(org, old)
    assert got(auth, org) == new
    assert tokens_fetched(sandbox) == 2


def test_a_fresh_token_that_is_refused_needs_a_person(
    auth: Authenticator, client: redis.Redis, org: Org
) -> None:
    """To fetch yet another would not help: the credentials are at fault."""
    assert not auth.refused(org, got(auth, org))
    assert not client.exists(TOKEN)


def test_a_wrong_key_is_lasting(auth: Authenticator, sandbox: SandboxServer, org: Org) -> None:
    """The failure names the vendor's code and what to check, and shows neither key nor secret."""
    failed = auth.credentials(oauth_org(sandbox, oauth_secret="wrong-secret"))
    assert isinstance(failed, AuthFailed)
    assert failed.lasting
    assert "320001" in failed.reason
    assert not any(secret in failed.reason for secret in (KEY, "wrong-secret"))
    assert got(auth, org)


@pytest.mark.parametrize(
    "fault",
    [
        Fault(fault="status", on="token", status=503),
        Fault(fault="status", on="token", status=200, body="<html>login</html>"),
        Fault(fault="status", on="token", status=200, body='{"data": [1], "errors": "none"}'),
        Fault(fault="status", on="token", status=429, headers={"Retry-After": "1"}),
        Fault(fault="delay", on="token", seconds=2),
    ],
    ids=["503", "html", "other shape", "429", "slow"],
)
def test_a_token_that_cant_be_had_now_may_be_had_later(
    auth: Authenticator, sandbox: SandboxServer, org: Org, fault: Fault
) -> None:
    """An outage doesn't pause the org; nor does it hold the lock beyond the call."""
    sandbox.vendor.add_fault(fault)
    failed = auth.credentials(oauth_org(sandbox, http_timeout_s=0.5))
    assert isinstance(failed, AuthFailed)
    assert not failed.lasting
    sandbox.vendor.clear_faults()
    assert isinstance(auth.credentials(org), Credentials)


VENDORS = '{"data": null, "errors": [{"code": %d, "message": "not now"}]}'


@pytest.mark.parametrize(
    ("status", "code"),
    [
        *((503, 4001), (200, 4001), (429, 429), (429, 1), (500, 500), (500, 999), (200, 500), (200, 503)),
        *((502, 7), (408, 408), (409, 7), (521, 521), (504, 320), (501, 9), (200, 521), (201, 521)),
    ],
)
def test_a_passing_answer_in_the_vendors_own_form_passes(
    auth: Authenticator, sandbox: SandboxServer, org: Org, status: int, code: int
) -> None:
    """What is about the moment pauses nobody, whatever form it has."""
    sandbox.vendor.add_fault(Fault(fault="status", on="token", status=status, body=VENDORS % code))
    failed = auth.credentials(org)
    assert isinstance(failed, AuthFailed)
    assert not failed.lasting
    assert str(code) in failed.reason


@pytest.mark.parametrize(
    ("status", "code"), [(200, 320001), (400, 320001), (401, 320001), (500, 320001), (401, 7), (403, 4000)]
)
def test_refused_credentials_need_a_person(
    auth: Authenticator, sandbox: SandboxServer, org: Org, status: int, code: int
) -> None:
    """What is about the credentials doesn't pass."""
    sandbox.vendor.add_fault(Fault(fault="status", on="token", status=status, body=VENDORS % code))
    failed = auth.credentials(org)
    assert isinstance(failed, AuthFailed)
    assert failed.lasting


def test_a_status_told_anew_holds_for_the_token_too(auth: Authenticator, sandbox: SandboxServer) -> None:
    """There is one table for every call."""
    sandbox.vendor.configure(OAUTH)
    sandbox.vendor.add_fault(Fault(fault="status", on="token", status=403, headers={"Retry-After": "7"}))
    failed = auth.credentials(oauth_org(sandbox, statuses={"403": "throttled"}))
    assert isinstance(failed, AuthFailed)
    assert (failed.signal, failed.retry_after_s) == (Signal.THROTTLED, 7)


@pytest.mark.parametrize("word", ["busy", "deferred"])
def test_a_code_told_to_pass_passes_for_the_token_too(
    auth: Authenticator, sandbox: SandboxServer, word: str
) -> None:
    """It is a word for items, and no less true of this call."""
    sandbox.vendor.configure(OAUTH)
    sandbox.vendor.add_fault(Fault(fault="status", on="token", status=200, body=VENDORS % 9001))
    failed = auth.credentials(oauth_org(sandbox, codes={"9001": word}))
    assert isinstance(failed, AuthFailed)
    assert (failed.lasting, failed.signal) == (False, Signal.UNAVAILABLE)


def test_a_vendor_that_is_down_may_come_back(auth: Authenticator, sandbox: SandboxServer, org: Org) -> None:
    """Nobody listens: not lasting either."""
    failed = auth.credentials(oauth_org(sandbox, api_base_url="http://127.0.0.1:9"))
    assert isinstance(failed, AuthFailed)
    assert not failed.lasting
    assert isinstance(auth.credentials(org), Credentials)


# -- paid from the limit


def test_a_token_is_paid_from_the_limit(
    auth: Authenticator, client: redis.Redis, sandbox: SandboxServer
) -> None:
    """It takes one slot and waits for it; the credentials in hand cost nothing."""
    sandbox.vendor.configure(OAUTH)
    org = oauth_org(sandbox, rate_limit="5/second")
    for _ in range(3):
        got(auth, org)
    gate = client.hgetall(keys.key("default", "gate"))
    assert gate["n"] == "1"
    client.delete(TOKEN)
    got(auth, org)
    later = client.hgetall(keys.key("default", "gate"))
    assert int(later["due"]) - int(gate["due"]) >= 200_000


def test_while_the_gate_is_closed_no_token_is_asked_for(
    auth: Authenticator, queue: Queue, client: redis.Redis, sandbox: SandboxServer, org: Org
) -> None:
    """Retry-After is for every call; and a paused org is left alone."""
    seconds, _ = client.time()
    gate = keys.key("default", "gate")
    client.hset(gate, mapping={"closed_until": (seconds + 60) * 1000, "why": "throttled"})
    assert auth.credentials(org) == Wait("throttled", (seconds + 60) * 1000)
    client.delete(gate)
    queue.pause("default", why="operator", reason="tests")
    assert auth.credentials(org) == Wait("paused", -1)
    assert sandbox.vendor.ledger().exchanges == ()
    queue.resume(org)
    assert isinstance(auth.credentials(org), Credentials)


# -- on the way of a job


@pytest.fixture
def delivery(queue: Queue, vendor_client: VendorClient, auth: Authenticator) -> Delivery:
    """Deliveries of this process, with something to deliver."""
    queue.enqueue(configured(), run="r", items=[item(n) for n in range(3)], call="c")
    return Delivery(queue=queue, client=vendor_client, auth=auth)


def test_a_token_that_ended_early_costs_one_call(
    delivery: Delivery, client: redis.Redis, sandbox: SandboxServer, org: Org
) -> None:
    """The refused batch is put back and goes again with a fresh token: nothing is lost, nobody paused."""
    got(delivery.auth, org)
    end_all_tokens(sandbox)
    age(client, by_s=100)
    refused = deliver_one(delivery, org)
    assert isinstance(refused, Delivered)
    assert (refused.verdict.signal, refused.settled.queued) == (Signal.STALE_TOKEN, 3)
    done = deliver_one(delivery, org)
    assert isinstance(done, Delivered)
    assert done.settled.issued == 3
    assert sandbox.vendor.ledger().issued_more_than_once == {}


@pytest.mark.parametrize(
    ("status", "headers", "closed_s", "why"),
    [(429, {"Retry-After": "7"}, 7, "throttled"), (503, {}, 1, "vendor unavailable")],
)
def test_a_passing_failure_closes_the_gate_for_a_while(  # noqa: PLR0917
    delivery: Delivery,
    client: redis.Redis,
    sandbox: SandboxServer,
    status: int,
    headers: dict[str, str],
    closed_s: int,
    why: str,
) -> None:
    """As long as the vendor says, or a second at first, however slowly jobs are retried; then all goes on."""
    org = oauth_org(sandbox, retry_base_s=3600)
    sandbox.vendor.configure(OAUTH)
    sandbox.vendor.add_fault(Fault(fault="status", on="token", status=status, headers=headers, times=1))
    seconds, micros = client.time()
    waits = deliver_one(delivery, org)
    assert isinstance(waits, Wait)
    assert closed_s * 1000 <= waits.look_at_ms - seconds * 1000 - micros / 1000 < closed_s * 1000 + 1900
    gate = client.hgetall(keys.key("default", "gate"))
    assert (gate["why"], "paused" in gate) == (why, False)
    client.hdel(keys.key("default", "gate"), "closed_until")  # the time goes by
    done = deliver_one(delivery, org)
    assert isinstance(done, Delivered)
    assert done.settled.issued == 3


def test_refused_credentials_pause_the_org_and_keep_the_jobs(
    delivery: Delivery, queue: Queue, client: redis.Redis, sandbox: SandboxServer
) -> None:
    """Neither a wrong key nor a wrong password empties the queue into the dead letters."""
    sandbox.vendor.configure(OAUTH)
    for wrong in (
        oauth_org(sandbox, oauth_key="wrong"),
        configured(auth="basic", basic_token="wrong", api_base_url=sandbox.url),
    ):
        deliver_one(delivery, wrong)
        assert client.hget(keys.key("default", "gate"), "paused") == "auth"
        assert JobReader(client=client, orgs={}).run("r").states() == [3, 0, 0, 0, 0, 0]
        assert queue.resume(wrong)
    done = deliver_one(delivery, oauth_org(sandbox))
    assert isinstance(done, Delivered)
    assert done.settled.issued == 3


def test_no_secret_is_in_the_records_of_a_failure(
    delivery: Delivery, client: redis.Redis, sandbox: SandboxServer
) -> None:
    """What is kept of a failed call names neither token, key nor secret."""
    sandbox.vendor.configure(OAUTH)
    org = oauth_org(sandbox, http_timeout_s=0.3)
    token = got(delivery.auth, org).headers[TOKEN_HEADER]
    sandbox.vendor.add_fault(Fault(fault="delay", seconds=1))
    failed = deliver_one(delivery, org)
    assert isinstance(failed, Delivered)
    assert failed.verdict.signal is Signal.IN_DOUBT
    kept = [str(client.hgetall(key)) for key in client.scan_iter(_type="hash")]
    assert not any(secret in text for text in kept for secret in (token, KEY, SECRET))


def test_nobody_sleeps_on_a_slot_that_is_far_ahead(
    auth: Authenticator, queue: Queue, sandbox: SandboxServer
) -> None:
    """A token is paid for from the limit; where that is used up for long, a worker goes and comes back."""
    org = oauth_org(sandbox, rate_limit="1/hour")
    assert isinstance(queue.reserve_call(org, "paid"), Slot)
    began = time.monotonic()
    answer = auth.credentials(org)
    assert time.monotonic() - began < 5
    assert isinstance(answer, Wait)
    assert answer.look_at_ms > (time.time() + 60) * 1000
    assert tokens_fetched(sandbox) == 0
    assert isinstance(auth.credentials(org), Wait), "nobody holds the token's lock"


@pytest.mark.parametrize("ahead_s", [7200, -7200])
def test_a_token_lasts_as_long_whatever_a_machines_clock_shows(
    auth: Authenticator, sandbox: SandboxServer, org: Org, ahead_s: int
) -> None:
    """Fetched by one machine, it is taken by another whose clock is hours apart."""
    first = got(auth, org)
    with time_machine.travel(timedelta(seconds=ahead_s)):
        assert got(auth, org) == first
    assert tokens_fetched(sandbox) == 1

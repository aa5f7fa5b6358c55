"""What the tests share: badges, processes, and waiting for a condition instead of sleeping."""

from __future__ import annotations

import io
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import launcher
import pytest
import redis

from worker.cli import main as badges_main
from worker.delivery import Delivered, Delivery
from worker.domain.badge import Badge, BadgeIssue
from worker.domain.batch import Item, Wait
from worker.domain.identity import content_id
from worker.domain.org import Org
from worker.store import keys, reading
from worker.store.record import FIELDS, SEPARATOR, Field, badge_fields
from worker.vendor.client import Fence

BADGE = "696f0fd40772ad476ecf74ac"
OTHER_BADGE = "697a16140772ad476ecfe51c"
FIRST_CUSTOMER = 500_000_000
PROGRAMS = Path(__file__).parent / "programs"  # what the tests run as processes of their own
OPEN_FENCE = Fence(math.inf, 0, math.inf, lambda _: True)  # of a call that is held against no limit
LONG = pytest.mark.long
_RUNNING: list[tuple[subprocess.Popen[bytes] | launcher.Process, Path]] = []  # by process(), now
SERVICES = ("up", "worker", "sandbox", "demo", "intake", "metrics")
NEIGHBOURS = Path(__file__).parent / "neighbours"  # lists the packages; npm's are installed in it


class Outcome(NamedTuple):
    """How a command ended, and what it wrote."""

    status: int
    out: str
    err: str

    def json(self) -> Any:
        """Return the one JSON value that it wrote to standard output."""
        return json.loads(self.out)


def badge(n: int = 0, *, badge_id: str = BADGE, **values: Any) -> Badge:
    """Return the n-th of many different badges."""
    return Badge(badge_id, FIRST_CUSTOMER + n, earn_event_date=1674292011, **values)


def issue(n: int = 0) -> BadgeIssue:
    """Return the same badge as a producer makes it in Python."""
    return BadgeIssue(badge_meta_id=BADGE, customer_id=FIRST_CUSTOMER + n, earn_event_date=1674292011)


def dicts(number: int, *, first: int = 1) -> list[dict[str, Any]]:
    """Return that many badges for different customers, as a producer sends them."""
    return [{"badgeMetaId": BADGE, "customerId": first + n} for n in range(number)]


def csv_of(number: int, *, first: int = 1, badge_id: str = BADGE) -> bytes:
    """Return the same as a CSV file."""
    rows = "".join(f"{badge_id},{first + n}\n" for n in range(number))
    return f"badgeMetaId,customerId\n{rows}".encode()


def item(n: int = 0, *, org: str = "default", badge_id: str = BADGE) -> Item:
    """Return the n-th of many different jobs, as the queue takes it."""
    it = badge(n, badge_id=badge_id)
    return Item(content_id(org, it), str(n), badge_fields(it))


class Probe:
    """Looks into the jobs of an org as they lie in Redis, and changes what a test needs to be otherwise."""

    def __init__(self, client: redis.Redis, org: str = "default") -> None:
        self._client, self._org = client, org

    def record(self, job_id: str) -> dict[str, str]:
        """Return the fields of a job's record by their names; none, if it has no record."""
        return dict(reading.records(self._client, self._org, [job_id])[0] or {})

    def count(self, run: str, counter: str = "issued") -> int:
        """Read one of a run's counters, at no cost."""
        return int(self._client.hget(keys.key(self._org, "run", run), counter) or 0)

    def queued(self) -> list[str]:
        """Return the ids of the jobs that wait in the queue, oldest first."""
        return [str(job_id) for job_id in self._client.lrange(keys.key(self._org, "queue"), 0, -1)]

    def make_due(self, *lists: str) -> None:
        """Let the time of all that these lists hold have come."""
        for key in (keys.key(self._org, name) for name in lists):
            if waiting := self._client.zrange(key, 0, -1):
                self._client.zadd(key, dict.fromkeys(waiting, 1))

    def change(self, job_id: str, **fields: object) -> None:
        """Write a record with other fields, behind the program's back."""
        key = keys.key(self._org, "job", job_id)
        parts = str(self._client.get(key)).split(SEPARATOR)
        parts += [""] * (len(FIELDS) - len(parts))
        for name, value in fields.items():
            parts[FIELDS.index(Field(name))] = str(value)
        self._client.set(key, SEPARATOR.join(parts), keepttl=True)

    def carry(self, job_id: str, batch: str) -> None:
        """Let another batch, which is going on, carry a job."""
        self._client.set(keys.key(self._org, "batch", batch), SEPARATOR.join(("1 0", job_id, "0")))
        self._client.hset(keys.key(self._org, "sending"), job_id, batch)

    def set_died(self, died: Mapping[str, int]) -> None:
        """Let dead letters have died at these times, ms."""
        for job_id, at_ms in died.items():
            group = self.record(job_id)["group"]
            self._client.zadd(keys.key(self._org, "dead", group), {job_id: at_ms})

    def listed(self, kind: str) -> list[str]:
        """Return the ids of the dead letters of a kind, oldest first."""
        found: list[tuple[float, str]] = []
        for group in reading.groups(self._client, self._org):
            if group.kind == kind:
                key = keys.key(self._org, "dead", group.number)
                found += [(at, str(one)) for one, at in self._client.zrange(key, 0, -1, withscores=True)]
        return [one for _, one in sorted(found)]


def long_too() -> bool:
    """Say whether tests that are ``long`` are wanted as well."""
    return bool(os.environ.get("BADGES_LONG_TESTS"))


def some(cases: Iterable[Any], number: int) -> list[Any]:
    """Return the cases of a test, as a person waits for the first ``number`` of them; the others are long."""
    return [
        case if n < number else pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=LONG)
        for n, case in enumerate(cases)
    ]


def wait_for(condition: Callable[[], Any], *, within_s: float = 60, what: str = "") -> Any:
    """Poll until the condition holds and return its value; fail with ``what`` after ``within_s``."""
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.02)
    ended = [f"\n{log}: ended, and said last: {_last_line(log)}" for its, log in _RUNNING if its.poll()]
    raise AssertionError(f"not within {within_s} s: {what or condition}{''.join(ended)}")


def _last_line(log: Path) -> str:
    return next(iter(log.read_text(errors="replace").splitlines()[-1:]), "nothing")


def needs(name: str) -> Path:
    """Return where a program, or a package of npm's, of another project is; skip the test if it isn't.

    Under ``BADGES_CI_NEIGHBOURS`` its absence is a failure: there nothing is skipped for want of a package.
    """
    modules = NEIGHBOURS / "node_modules"
    theirs = ("/usr/sbin", "/sbin", str(NEIGHBOURS / ".venv/bin"))
    path = os.pathsep.join([str(modules / ".bin"), os.environ.get("PATH", ""), *theirs])
    found = shutil.which(name, path=path)
    if not (found or (modules / name).is_dir()):
        absent(f"{name} isn't here: debian.txt, package.json, requirements.txt in tests/neighbours name it")
    return Path(found or modules / name)


def absent(why: str) -> NoReturn:
    """Skip the test for want of something that only ``.ci/run`` promises; there that is a failure."""
    if os.environ.get("BADGES_CI_NEIGHBOURS"):
        pytest.fail(why, pytrace=False)
    pytest.skip(why)


def environment(**settings: object) -> dict[str, str]:
    """Return an environment with just these ``BADGES_*`` settings."""
    others = {name: value for name, value in os.environ.items() if not name.startswith("BADGES_")}
    return others | {f"BADGES_{name.upper()}": str(value) for name, value in settings.items()}


def badges(
    *arguments: object,
    env: dict[str, str],
    stdin: bytes = b"",
    expect: int | None = 0,
    cwd: Path | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """Run the command in this process, as if it were one of its own; ``expect`` is its exit status.

    ``None`` is for any status. What serves (``SERVICES``) gets a process all the same: it sets up logging and
    signals for good. Where the process itself is the promise (pipes, what it leaves behind), use
    ``badges_process``.
    """
    given = [str(argument) for argument in arguments]
    if given[:1] and given[0] in SERVICES and "--help" not in given:
        return badges_process(*given, env=env, stdin=stdin, expect=expect)
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
    with (
        _as_process(["badges", *given], env, stdin, cwd or Path.cwd()),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            badges_main()
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
    for stream in (out, err):
        stream.flush()
    said = [stream.detach().getvalue() for stream in (out, err)]  # type: ignore[attr-defined] # bytes
    done = subprocess.CompletedProcess(given, status, *said)
    _expected(done, expect)
    return done


@contextmanager
def _as_process(argv: list[str], env: dict[str, str], stdin: bytes, cwd: Path) -> Iterator[None]:
    """Let this process have another's arguments, environment, standard input and folder for a while."""
    before = dict(os.environ), sys.argv, sys.stdin, Path.cwd()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGHUP)}
    reading, writing = os.pipe()
    with ThreadPoolExecutor(1) as feeder, os.fdopen(reading, encoding="utf-8") as piped:
        feeder.submit(_feed, writing, stdin)
        try:
            sys.argv, sys.stdin = argv, piped
            os.environ.clear()
            os.environ.update(env)
            os.chdir(cwd)
            yield
        finally:
            os.environ.clear()
            os.environ.update(before[0])
            _, sys.argv, sys.stdin, folder = before
            os.chdir(folder)
            for number, handler in handlers.items():
                signal.signal(number, handler)


def _feed(writing: int, stdin: bytes) -> None:
    with suppress(BrokenPipeError), open(writing, "wb") as pipe:
        pipe.write(stdin)


def badges_process(
    *arguments: object, env: dict[str, str], stdin: bytes = b"", expect: int | None = 0
) -> subprocess.CompletedProcess[bytes]:
    """Run the command as a process of its own."""
    command = [sys.executable, "-m", "worker.cli", *map(str, arguments)]
    done = launcher.run(command, env=env, stdin=stdin)
    _expected(done, expect)
    return done


def _expected(done: subprocess.CompletedProcess[bytes], status: int | None) -> None:
    if status is not None:
        assert done.returncode == status, (done.args, done.returncode, done.stdout, done.stderr)


def badges_json(*arguments: object, env: dict[str, str], stdin: bytes = b"") -> Any:
    """Run the real command with ``--json`` and return what it prints; some rows may be bad (exit 3)."""
    done = badges(*arguments, "--json", env=env, stdin=stdin, expect=None)
    assert done.returncode in (0, 3), (arguments, done.returncode, done.stdout, done.stderr)
    return json.loads(done.stdout)


@contextmanager
def process(
    command: Sequence[object], *, env: dict[str, str], log: Path
) -> Iterator[subprocess.Popen[bytes] | launcher.Process]:
    """Run a process while the block lasts; its output goes to ``log``, and it is stopped by its pid."""
    words = [str(part) for part in command]
    with log.open("ab") as out:
        if words[0] == sys.executable:
            running = launcher.start(words, env=env, out=out)
        else:
            running = subprocess.Popen(words, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    _RUNNING.append((running, log))
    try:
        yield running
    finally:
        _RUNNING.remove((running, log))
        if running.poll() is None:
            running.send_signal(signal.SIGTERM)
            try:
                running.wait(20)
            except subprocess.TimeoutExpired:
                running.kill()
                running.wait()


def logged(log: Path, event: str) -> list[dict[str, Any]]:
    """Return a process's log lines with this event."""
    lines = (json.loads(line) for line in log.read_text().splitlines() if line.startswith("{"))
    return [line for line in lines if line["event"] == event]


@contextmanager
def serving(
    command: Sequence[object],
    *,
    env: dict[str, str],
    log: Path,
    says: str,
    program: Sequence[object] = ("-m", "worker.cli"),
) -> Iterator[tuple[str, subprocess.Popen[bytes] | launcher.Process]]:
    """Run one of our own servers; yields the URL that it says, and its process."""
    ours = [sys.executable, *program, *command]
    with process(ours, env=env | {"PYTHONUNBUFFERED": "1"}, log=log) as running:

        def ready() -> re.Match[str] | None:
            assert running.poll() is None, log.read_text()
            return re.search(says + r" on (http://[^\s/]+)", log.read_text())

        yield wait_for(ready, what=says)[1], running


def worker_command(*options: object) -> list[object]:
    """Return the command of a real worker."""
    return [sys.executable, "-m", "worker.cli", "worker", *options]


def configured(**settings: Any) -> Org:
    """Return an org that is fast enough not to hold a test up."""
    return Org(**{"rate_limit": "1000/second", "batch_linger_s": 0, "max_in_flight": 100} | settings)


def in_process(*arguments: object, env: dict[str, str], stdin: str = "") -> Outcome:
    """Run a command in this process, without a terminal, and return what it wrote and its exit status."""
    done = badges(*arguments, env=env, stdin=stdin.encode(), expect=None)
    return Outcome(done.returncode, done.stdout.decode(), done.stderr.decode())


def deliver_one(delivery: Delivery, org: Org) -> Delivered | Wait:
    """Claim one batch, send it and settle it."""
    claimed = delivery.claim(org)
    return claimed if isinstance(claimed, Wait) else delivery.send(org, claimed)

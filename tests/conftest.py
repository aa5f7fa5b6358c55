"""Fixtures: a real server, a real vendor (the sandbox), real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from hypothesis import HealthCheck, settings
from support import long_too, needs

from worker.config import Settings
from worker.sandbox.server import SandboxServer
from worker.server.connection import Connection
from worker.store.queue import Queue

settings.register_profile(
    "badges",
    max_examples=50 if long_too() else 20,  # each run tries others, and there are many runs
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("badges")


def pytest_configure(config: pytest.Config) -> None:
    """Let what the tests start hear SIGINT and SIGHUP, as if started from a terminal, and compile files once.

    A process inherits that a signal is ignored, and under ``nohup``, in the background of a script and in
    many CI systems one of them is; a handler, even of nothing, is not inherited.
    """
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, lambda *_: None)
    # Who speaks TLS trusts nobody, unless a test says whom: to read the certificates of all the world takes
    # 25 ms for each client that is made.
    os.environ["SSL_CERT_FILE"] = str(Path(__file__).with_name("nobody.pem"))
    os.environ.pop("SSL_CERT_DIR", None)
    os.environ.pop("COLUMNS", None)  # xdist sets it, and what reads it once would keep to it for all tests
    # Else each of some hundred processes would compile our modules for itself.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    if config.getoption("numprocesses", None) and config.args == config.getini("testpaths"):
        _compile_tests()


def _compile_tests() -> None:
    """Compile the tests before xdist's processes do, each of them all: a third of what they would cost."""
    folder = Path(__file__).parent
    if any(folder.glob("unit/__pycache__/*-pytest-*.pyc")):
        return
    halves = (("unit", "integration"), ("acceptance", "chaos", "fuzz", "simulation"))
    command = [sys.executable, "-m", "pytest", "--collect-only", "-qq", "-p", "no:cacheprovider"]
    running = [
        subprocess.Popen([*command, *(folder / name for name in half)], stdout=subprocess.DEVNULL)
        for half in halves
    ]
    for one in running:
        one.wait()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is ``long``, unless ``BADGES_LONG_TESTS`` is set, as in ``.ci/run``; there it begins."""
    if long_too():
        items.sort(key=lambda item: item.get_closest_marker("long") is None)
        return
    long = [item for item in items if item.get_closest_marker("long")]
    config.hook.pytest_deselected(items=long)
    items[:] = [item for item in items if not item.get_closest_marker("long")]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what the tests of each folder took, and their slowest file, with xdist as well."""
    folders: dict[str, Counter[str]] = defaultdict(Counter)
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                file = Path(report.nodeid.partition("::")[0])
                folders[str(file.parent)][file.name] += report.duration
    if folders:
        terminalreporter.section("seconds per folder, all processes together")
    for folder, files in sorted(folders.items()):
        ((slowest, its_s),) = files.most_common(1)
        terminalreporter.line(f"{folder:<20} {files.total():7.1f}   most in {slowest}: {its_s:.1f}")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Hold back a test whose neighbours aren't installed, before its fixtures begin."""
    for mark in item.iter_markers("neighbour"):
        for name in mark.args:
            needs(name)


@pytest.fixture(scope="session")
def connection() -> Iterator[Connection]:
    """One embedded server for the whole session."""
    folder = tempfile.TemporaryDirectory(prefix="badges-test-")
    with folder as data_dir, Connection.open(Settings(data_dir=Path(data_dir))) as opened:
        yield opened


@pytest.fixture
def empty(connection: Connection) -> Connection:
    """The session's server, which is empty."""
    with connection.client() as client:
        client.flushall()
    return connection


@pytest.fixture
def client(empty: Connection) -> Iterator[redis.Redis]:
    """A client of the session's server, which is empty."""
    with empty.client() as opened:
        yield opened


@pytest.fixture
def queue(client: redis.Redis) -> Queue:
    """An empty queue."""
    return Queue(client)


@pytest.fixture
def sandbox() -> Iterator[SandboxServer]:
    """A vendor that takes everything."""
    with SandboxServer() as server:
        yield server

"""Fixtures: a real server, a real vendor (the sandbox), real processes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from hypothesis import HealthCheck, settings
from support import needs

from worker.config import Settings
from worker.sandbox.server import SandboxServer
from worker.server.connection import Connection
from worker.store.queue import Queue

settings.register_profile(
    "badges", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("badges")


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
def client(connection: Connection) -> Iterator[redis.Redis]:
    """A client of the session's server, which is empty."""
    with connection.client() as opened:
        opened.flushall()
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

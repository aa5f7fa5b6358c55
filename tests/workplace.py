"""A server of its own, which may be tampered with, a vendor, and real workers between them."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import launcher
import redis
from support import dicts, environment, process, worker_command

from worker.badge_queue import BadgeQueue
from worker.config import Settings
from worker.sandbox.server import SandboxServer
from worker.server.connection import Connection
from worker.store import keys


@dataclass
class Workplace:
    """The server's connection and client, the workers' environment, vendor, and where their logs are."""

    connection: Connection
    client: redis.Redis
    env: dict[str, str]
    vendor: SandboxServer
    folder: Path
    places = 2  # of each worker

    @classmethod
    @contextmanager
    def open(cls, folder: Path, vendor: SandboxServer, **settings: object) -> Iterator[Self]:
        """Give one with these settings while the block lasts."""
        own = {"data_dir": folder / "data", "api_base_url": vendor.url}
        with Connection.open(Settings(data_dir=folder / "data")) as connection, connection.client() as client:
            yield cls(connection, client, environment(**own, **settings), vendor, folder)

    @contextmanager
    def worker(
        self, *options: object, name: str = "worker", **more: str
    ) -> Iterator[subprocess.Popen[bytes] | launcher.Process]:
        """Run a worker while the block lasts."""
        command = worker_command("--concurrency", self.places, *options)
        with process(command, env=self.env | more, log=self.folder / f"{name}.log") as running:
            yield running

    def log(self, name: str = "worker") -> str:
        """Return what the workers of a name have said so far."""
        path = self.folder / f"{name}.log"
        return path.read_text() if path.exists() else ""

    def bring(self, number: int, *, run: str = "run", first: int = 1) -> None:
        """Enqueue badges that nobody brought before."""
        queue = BadgeQueue(settings=Settings(), connection=self.connection)
        assert queue.enqueue(dicts(number, first=first), run=run).accepted == number

    def states(self, run: str = "run") -> Counter[str]:
        """Count a run's jobs by state, as its counters tell it, at no cost."""
        found: Any = self.client.hgetall(keys.key("default", "run", run))
        states = ("queued", "sending", "retrying", "issued", "dead")
        return +Counter({state: int(found.get(state, 0)) for state in states})

    def issued(self) -> Counter[int]:
        """Count what the vendor issued, by customer."""
        return Counter(issue.customer_id for issue in self.vendor.vendor.ledger().issues)

"""What every command works with: settings, Redis, and the options that many commands share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated

import typer

from worker import screen
from worker.config import Settings, unknown_settings
from worker.connection import Connection
from worker.org import Org
from worker.queue import Queue
from worker.runs import Reports

AsJson = Annotated[bool, typer.Option("--json", help="JSON, for programs.")]
AnyOrg = Annotated[str | None, typer.Option("--org", help="Only this org. [default: all]")]
OneOrg = Annotated[str, typer.Option("--org", help="The org.")]
Note = Annotated[str, typer.Option(help="Why, for the audit trail.")]


@dataclass(frozen=True, slots=True)
class Desk:
    """An open connection, and what reads and writes over it."""

    settings: Settings
    connection: Connection
    queue: Queue
    reports: Reports

    def org(self, name: str) -> Org:
        """Return a configured org."""
        return self.settings.org(name)


def load_settings() -> Settings:
    """Read the settings, and warn of variables that look like settings and are none.

    Raises:
        ConfigError: a setting is wrong.
    """
    for warning in unknown_settings(os.environ):
        screen.err.print(f"[yellow]{screen.plain(warning)}[/]")
    return Settings.load()


@contextmanager
def desk() -> Iterator[Desk]:
    """Open the configured Redis, or the embedded server, for as long as the block lasts."""
    settings = load_settings()
    with Connection.open(settings) as connection, connection.client() as client:
        queue = Queue(client, replicas=settings.replicas)
        yield Desk(settings, connection, queue, Reports(client=client, orgs=settings.orgs()))

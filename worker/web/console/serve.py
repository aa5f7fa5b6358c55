"""Serving the console in the foreground, on loopback: its clients, its background, the link that opens it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from worker.config import Settings
from worker.domain.org import is_loopback
from worker.errors import ConfigError
from worker.server.connection import Connection
from worker.store.queue import Queue
from worker.web.console.app import create_app
from worker.web.console.guard import Places
from worker.web.console.service import Console
from worker.web.console.sessions import Sessions
from worker.web.serving import serve_app

DRAIN_S = 2
Say = Callable[[str], None]


def serve(settings: Settings, connection: Connection, *, host: str, port: int, say: Say) -> None:
    """Serve until Ctrl-C or SIGTERM; what an act was doing is finished first.

    Args:
        settings: all of them; no credential of a vendor is needed, and none is shown.
        connection: to the store.
        host: a loopback address.
        port: 0 takes a free one.
        say: is given the link that opens the console, once it listens, and the next one when that was used.

    Raises:
        ConfigError: the address isn't loopback, or others can write where uploaded files lie.
        OSError: the port is taken.
    """
    if not is_loopback(host):
        raise ConfigError(
            f"--host {host}: the console listens on loopback alone, since anybody who reaches it acts as "
            "you; from elsewhere, forward a port to it: ssh -L 8090:127.0.0.1:8090 HOST"
        )
    with connection.client(hurried=True) as hurried, connection.client() as patient:
        replicas = settings.replicas
        here = Console(
            settings,
            Queue(hurried, replicas=replicas),
            Queue(patient, replicas=replicas),
            Sessions(lasts_s=settings.console_session_s),
        )
        here.staging.refuse_foreign()
        link = _Link(here, settings.console_public_url, say)
        app = create_app(
            here,
            places=lambda: Places.of(here.port, settings.console_public_url),
            on_link_used=link.say_next,
        )
        logging.getLogger("uvicorn").setLevel(logging.WARNING)  # who started it hears of the link
        here.pulse.start()
        try:
            serve_app(
                app, host=host, port=port, drain_s=DRAIN_S, on_ready=link.say_first, on_end=here.ending.set
            )
        finally:
            here.pulse.stop()
            here.looks.close()
            here.acts.close()


@dataclass(slots=True)
class _Link:
    """The link that opens the console: each works once, and is said to who started it."""

    here: Console
    public_url: str | None
    say: Say
    shown_at: str = ""

    def say_first(self, url: str) -> None:
        """Say it once the console listens, at this URL."""
        self.here.port = int(url.rpartition(":")[2])
        self.shown_at = (self.public_url or url).rstrip("/")
        self.say(self._whole)

    def say_next(self) -> None:
        """Say the one that works now, since the one before was used."""
        self.say(f"opened; for another browser, or when that session has ended:\n{self._whole}")

    @property
    def _whole(self) -> str:
        return f"{self.shown_at}/?token={self.here.sessions.token}"

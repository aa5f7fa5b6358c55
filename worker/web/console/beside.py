"""The console beside a worker: ``badges up --console``, in a process of its own that ends with it."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.util import find_spec

from worker import logs
from worker.beside import end_with, running
from worker.config import Settings
from worker.errors import ConfigError
from worker.server.connection import Connection

HOST, PORT = "127.0.0.1", 8090


def free_port() -> int:
    """Return the usual port, or a free one where that is taken: the link says which.

    Raises:
        ConfigError: the console isn't installed.
    """
    if not (find_spec("fastapi") and find_spec("jinja2")):
        raise ConfigError("--console needs the console, which isn't installed: pip install '.[console]'")
    for port in (PORT, 0):
        with socket.socket() as trying:
            trying.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with suppress(OSError):
                trying.bind((HOST, port))
                return int(trying.getsockname()[1])
    return 0


@contextmanager
def beside(environment: Mapping[str, str] | None = None, *, port: int) -> Iterator[None]:
    """Run the console for as long as the block lasts; it prints the link that opens it.

    Args:
        environment: with the settings that it goes by; this process's own by default.
        port: as ``free_port`` returned it.
    """
    # Ctrl-C drains the worker first, and the console shows it.
    with running("worker.web.console.beside", os.getpid(), port, environment=environment):
        yield


def main(parent: int, port: int) -> None:
    """Be the console, for as long as the parent lives: it may be killed without a chance to end us."""
    from worker.web.console.serve import serve  # noqa: PLC0415 - after what it needs was looked for

    end_with(parent)
    settings = Settings.load()
    logs.configure(settings)
    with Connection.open(settings) as connection:
        serve(settings, connection, host=HOST, port=port, say=_say)


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - the link is for who started it


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))

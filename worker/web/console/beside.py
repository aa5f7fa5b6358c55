"""The console beside a worker: ``badges up --console``, in a process of its own that ends with it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.util import find_spec

from worker import logs
from worker.config import Settings
from worker.errors import ConfigError
from worker.server.connection import Connection

HOST, PORT = "127.0.0.1", 8090
END_S = 10.0
LOOK_S = 1.0


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
    command = [sys.executable, "-P", "-m", "worker.web.console.beside", str(os.getpid()), str(port)]
    # In a session of its own: Ctrl-C drains the worker first, and the console shows it.
    process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def main(parent: int, port: int) -> None:
    """Be the console, for as long as the parent lives: it may be killed without a chance to end us."""
    from worker.web.console.serve import serve  # noqa: PLC0415 - after what it needs was looked for

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # until it serves
    threading.Thread(target=_end_with, args=(parent,), name="parent", daemon=True).start()
    settings = Settings.load()
    logs.configure(settings)
    with Connection.open(settings) as connection:
        serve(settings, connection, host=HOST, port=port, say=_say)


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - the link is for who started it


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK_S)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))

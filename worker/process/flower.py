"""Flower, the operators' view of the workers, beside a worker: ``badges up --flower``.

It is the real one, in a process of its own, set up as everywhere by its own environment (``FLOWER_*``). What
that leaves open is said here, so that it can be used at once and by nobody else: loopback, and a password.
"""

from __future__ import annotations

import os
import re
import secrets
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import structlog
from celery.signals import before_task_publish

from worker import logs
from worker.app import app, connection, settings
from worker.beside import end_with, running
from worker.config import PREFIX
from worker.errors import ConfigError
from worker.process.compressed import bound_unpacking

log = structlog.get_logger()

DEFAULTS = {
    "FLOWER_ADDRESS": "127.0.0.1",
    "FLOWER_PORT": "5555",
    "FLOWER_TASKS_COLUMNS": "name,state,args,result,received,runtime,exception,kwargs,worker,uuid",
    "FLOWER_LOGGING": "none",  # its lines go the way of all others: see main()
}
USER = "badges"
CONSOLE = f"{PREFIX}CONSOLE_PUBLIC_URL"
_BATCH = re.compile(r"'batch': '([a-z2-7]{26})'")


@contextmanager
def beside(*, on_start: Callable[[str], None], console_url: str | None = None) -> Iterator[str]:
    """Run Flower for as long as the block lasts; if it ends before that, the log says so.

    ``on_start`` gets the sentence that says where it is and, this once, the password that was made for it;
    the block gets its URL. At ``console_url`` there is a console, which it names with each batch.

    Raises:
        ConfigError: it isn't installed, or can't listen where it should.
    """
    if not find_spec("flower"):
        raise ConfigError("--flower needs Flower, which isn't installed: pip install '.[flower]'")
    # A variable that is empty says nothing, here as in our own settings.
    given = {n: v for n, v in os.environ.items() if v or not n.startswith("FLOWER_")}
    login = {} if given.keys() & {"FLOWER_BASIC_AUTH", "FLOWER_AUTH"} else _login()
    where = _free_address(DEFAULTS | given)
    # Not on the command line, which everybody on the machine sees.
    environment = DEFAULTS | given | where | login
    if console_url:
        environment.setdefault(CONSOLE, console_url)
    # Ctrl-C drains the worker first, and Flower shows it.
    with running("worker.process.flower", os.getpid(), environment=environment) as process:
        ending = threading.Event()
        threading.Thread(target=_tell_its_end, args=(process, ending), name="flower", daemon=True).start()
        try:
            url = f"http://{where['FLOWER_ADDRESS']}:{where['FLOWER_PORT']}"
            on_start(f"Flower on {url}{_told(login)}")
            yield url
        finally:
            ending.set()


def _login() -> dict[str, str]:
    return {"FLOWER_BASIC_AUTH": f"{USER}:{secrets.token_urlsafe(16)}"}


def _told(login: Mapping[str, str]) -> str:
    if not login:
        return ""  # who set it knows it
    user, _, password = login["FLOWER_BASIC_AUTH"].partition(":")
    return f", user {user}, password {password}"


def _free_address(environment: Mapping[str, str]) -> dict[str, str]:
    """Return where Flower is to listen, a free one for port 0; of a taken one Flower says less."""
    address, port = environment["FLOWER_ADDRESS"], environment["FLOWER_PORT"]
    try:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as listening:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((address, int(port)))
            return {"FLOWER_ADDRESS": address, "FLOWER_PORT": str(listening.getsockname()[1])}
    except (OSError, OverflowError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "that is no port"
        raise ConfigError(
            f"Flower can't listen on {address}, port {port}: {why}; set FLOWER_PORT to another, 0 for any"
        ) from None


def _tell_its_end(process: subprocess.Popen[bytes], ending: threading.Event) -> None:
    status = process.wait()
    if not ending.is_set():
        log.error("flower.ended", status=status, reason="badges are delivered all the same")


def main(parent: int) -> None:
    """Be Flower, for as long as the parent lives: it may be killed without a chance to end us."""
    logs.configure(settings())
    bound_unpacking()  # its events come from anybody
    before_task_publish.connect(_sign, weak=False)
    end_with(parent)  # before it uses the embedded server, which its last user ends
    connection()
    if console_url := settings().console_public_url:
        _name_the_console(console_url.rstrip("/"))
    app.start(["--quiet", "flower"])


def _name_the_console(url: str) -> None:
    """Show with each delivery where the console has its batch."""
    from flower import options  # noqa: PLC0415 - it is here, or nothing of this runs

    def with_its_place(task: Any) -> Any:
        told = f"{getattr(task, 'result', '')} {getattr(task, 'exception', '')}"
        if found := _BATCH.search(told):
            task.console = f"{url}/search?by=request&what={found[1]}"
            task._fields = (*task._fields, "console")
        return task

    options.options.format_task = with_its_place


def _sign(headers: dict[str, Any], **_: Any) -> None:
    """Name the sender of a message: the audit trail shows it."""
    headers["origin"] = f"Flower@{socket.gethostname()}"


if __name__ == "__main__":
    main(int(sys.argv[1]))

"""The real server of a simulation: a Valkey without a log, since what is durable is the simulation's to say.

Snapshots are kept in its second database: a fail-over loses what was written since.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from simulation.wire import Wire

from worker.server import valkey
from worker.store.composing import Texts
from worker.store.scripts import Scripts

HERE = Path(__file__).parent
READY_WITHIN_S = 10.0


@cache
def virtual(mutations: tuple[tuple[str, str, str], ...] = ()) -> Scripts:
    """Return the scripts with virtual time; each mutation replaces a text in one, or in all (``*``).

    Raises:
        LookupError: a mutation's text isn't there, so that it would prove nothing.
    """
    texts = dict(Texts())
    prelude = (HERE / "virtual.lua").read_text()
    for name, old, new in mutations:
        found = [one for one in texts if name in {one, "*"} and old in texts[one]]
        if not found:
            raise LookupError(f"{name} has no {old!r}")
        texts |= {one: texts[one].replace(old, new) for one in found}
    for name, text in texts.items():
        flags, _, body = text.partition("\n")
        texts[name] = f"{flags}\n{prelude}\n{body}"
    return Scripts(texts)


class Server:
    """A server that is running, and a connection to it."""

    def __init__(self, path: Path) -> None:
        self.path, self.wire = path, Wire(path)
        self._loaded: set[str] = set()
        self._known: dict[str, str] = {}
        self._sweep, self._copy = (
            self._load((HERE / name).read_text()) for name in ("sweep.lua", "copy.lua")
        )

    def begin(self, scripts: Scripts) -> None:
        """Empty it, and see to it that it knows these scripts."""
        new = [script.program for script in scripts.values() if script.sha not in self._loaded]
        self._loaded |= {script.sha for script in scripts.values()}
        for reply in self.wire.ask([("FLUSHALL",), *(("SCRIPT", "LOAD", text) for text in new)]):
            if isinstance(reply, Exception):
                raise reply

    def expire(self, now_ms: int) -> tuple[Any, ...]:
        """Return the command that deletes what has expired by now."""
        return ("EVALSHA", self._sweep, 0, now_ms)

    def snapshot(self) -> None:
        """Keep what there is now."""
        self.wire.ask([("SELECT", 1), ("FLUSHDB",), ("SELECT", 0), ("EVALSHA", self._copy, 0, 1)])

    def restore(self) -> None:
        """Lose all that was written since the last snapshot."""
        self.wire.ask([("FLUSHDB",), ("SELECT", 1), ("EVALSHA", self._copy, 0, 0), ("SELECT", 0)])

    def evaluate(self, text: str, its_keys: Sequence[str], *args: Any) -> Any:
        """Run a script of the simulation's own."""
        sha = self._known.get(text) or self._load(text)
        (reply,) = self.wire.ask([("EVALSHA", sha, len(its_keys), *its_keys, *args)])
        if isinstance(reply, Exception):
            raise reply
        return reply

    def _load(self, text: str) -> str:
        (sha,) = self.wire.ask([("SCRIPT", "LOAD", text)])
        if isinstance(sha, Exception):
            raise sha
        self._known[text] = str(sha)
        return self._known[text]


@contextmanager
def running(core: int | None = None) -> Iterator[Server]:
    """Run a server while the block lasts; on Linux on one core, if it is said."""
    with tempfile.TemporaryDirectory(prefix="simulation-") as folder:
        path = Path(folder) / "socket"
        options = ["--port", "0", "--unixsocket", path, "--save", "", "--appendonly", "no", "--dir", folder]
        command = [str(valkey.binary()), *map(str, options), "--databases", "2", "--io-threads", "1"]
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=valkey.allocator() | os.environ
        )
        try:
            if core is not None and sys.platform == "linux":
                os.sched_setaffinity(process.pid, {core})
            _await(path)
            server = Server(path)
            yield server
            server.wire.close()
        finally:
            process.terminate()
            process.wait(READY_WITHIN_S)


def _await(path: Path) -> None:
    end = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < end:
        if valkey.ask(path, "PING", within_s=READY_WITHIN_S).startswith("+PONG"):
            return
        time.sleep(0.01)
    raise TimeoutError("the server of the simulation doesn't start")

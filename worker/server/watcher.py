"""Ends the embedded server once no user of it lives: a program of its own, which outlives its users.

``kill -9`` gives the last user no chance to end its server. So the process that starts a server starts this
beside it (``embedded.py``); it looks every second, and ends the server when nobody uses it any more, with
all data kept. One watches a data directory. It imports nothing but the standard library: it must be small.
"""

import fcntl
import os
import signal
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path

LOOK_EVERY_S = 1.0
END_LIMIT_S = 5.0


class _Lock:
    """A file's lock by its descriptor, which stays right if the directory is moved or deleted."""

    def __init__(self, path: Path) -> None:
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)

    def take(self, *, wait: bool = False) -> bool:
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def release(self) -> None:
        fcntl.flock(self.fd, fcntl.LOCK_UN)

    def is_free(self) -> bool:
        if free := self.take():
            self.release()
        return free


def watch(data_dir: Path) -> None:
    """Watch until the server is gone, by its last user or by us."""
    start, users, server, watcher = (
        _Lock(data_dir / f"{name}.lock") for name in ("start", "users", "server", "watcher")
    )
    if not watcher.take():
        return  # another watches
    unused = 0
    while True:
        time.sleep(LOOK_EVERY_S)
        start.take(wait=True)
        try:
            # Twice in a row: the next user of a server whose last one was killed may be on its way.
            unused = unused + 1 if users.is_free() else 0
            if unused > 1 and not server.is_free():
                _end(server, data_dir)
            if unused and server.is_free():
                watcher.release()  # while nobody can start another server, whose watcher would find this one
                return
        finally:
            start.release()


def _end(server: _Lock, data_dir: Path) -> None:
    recorded = os.pread(server.fd, 4096, 0)
    with socket.socket(socket.AF_UNIX) as connection, suppress(OSError):
        connection.settimeout(END_LIMIT_S)
        connection.connect(recorded)
        connection.sendall(b"SHUTDOWN\r\n")
        connection.recv(1)
    for last_resort in (signal.SIGTERM, signal.SIGKILL):
        end = time.monotonic() + END_LIMIT_S
        while time.monotonic() < end:
            if server.is_free():
                path = Path(os.fsdecode(recorded))
                with suppress(OSError):
                    path.unlink()
                    path.parent.rmdir()
                return
            time.sleep(0.05)
        with suppress(OSError, ValueError):
            os.kill(int((data_dir / "server.pid").read_text()), last_resort)


if __name__ == "__main__":
    watch(Path(sys.argv[1]))

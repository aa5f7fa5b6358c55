"""Starts Python processes without each having to import everything anew: they are forked from one that has.

They are processes like any other, with arguments, an environment, signals and an end of their own; what they
don't show is what happens while an interpreter starts. ``badges_process`` and ``Popen`` are for that.
"""

from __future__ import annotations

import array
import atexit
import gc
import importlib
import json
import os
import random
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryFile, mkdtemp
from typing import IO, Any, NamedTuple

# Nothing that reads the environment when it is imported, as ``worker.app`` does.
LOADED = (
    "celery.app.amqp",
    "celery.app.control",
    "celery.app.events",
    "celery.app.log",
    "celery.app.trace",
    "celery.apps.worker",
    "celery.bin.celery",
    "celery.concurrency.prefork",
    "celery.concurrency.thread",
    "celery.fixups.django",
    "celery.loaders.app",
    "celery.worker.consumer",
    "kombu.transport.redis",
    "uvicorn",
    "worker.cli.root",
    "worker.delivery",
    "worker.logs",
    "worker.cli.workers",
    "worker.cli.imports",
    "worker.operate.survey",
    "worker.web.intake_app",
)
REQUEST_BYTES = 1 << 20


class Process:
    """A process that was forked for us; what of ``subprocess.Popen`` the tests use."""

    def __init__(self, pid: int, ended: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._ended = ended

    def poll(self) -> int | None:
        """Return its exit status, or None if it goes on."""
        return self._look(0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end and return its exit status; a signal's number is negative.

        Raises:
            subprocess.TimeoutExpired: it goes on after ``timeout`` seconds.
        """
        if (status := self._look(timeout)) is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
        return status

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it goes on."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)

    def _look(self, timeout: float | None) -> int | None:
        if self.returncode is None and select.select([self._ended], [], [], timeout)[0]:
            said = os.read(self._ended, 16)
            os.close(self._ended)
            assert said, "the launcher has ended"
            self.returncode = int(said)
        return self.returncode


def start(
    command: Sequence[str],
    *,
    env: Mapping[str, str],
    out: IO[bytes],
    err: IO[bytes] | None = None,
    given: IO[bytes] | None = None,
) -> Process:
    """Start ``python -m MODULE …`` or ``python FILE …``; standard error goes with ``out``, unless told."""
    assert command[0] == sys.executable, command
    launcher = _running().ours
    reading, writing = os.pipe()
    request = {"arguments": command[1:], "env": dict(env), "cwd": str(Path.cwd())}
    with Path(os.devnull).open("rb") as nothing:
        fds = array.array("i", [one.fileno() for one in (given or nothing, out, err or out)] + [writing])
        launcher.sendmsg([json.dumps(request).encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
    os.close(writing)
    return Process(int(launcher.recv(16)), reading)


def run(
    command: Sequence[str], *, env: Mapping[str, str], stdin: bytes = b"", timeout: float = 110
) -> subprocess.CompletedProcess[bytes]:
    """Run it to its end, and return what it wrote.

    Raises:
        subprocess.TimeoutExpired: it went on after ``timeout`` seconds, and was killed.
    """
    with TemporaryFile() as given, TemporaryFile() as out, TemporaryFile() as err:
        given.write(stdin)
        given.seek(0)
        process = start(command, env=env, out=out, err=err, given=given)
        try:
            status = process.wait(timeout)
        finally:
            process.kill()
        for file in (out, err):
            file.seek(0)
        return subprocess.CompletedProcess(list(command), status, out.read(), err.read())


def for_shells(folder: Path) -> Path:
    """Make the program ``badges`` in a folder, for scripts of a shell: what it does is done by a fork."""
    program = folder / "badges"
    front = Path(__file__).with_name("programs") / "front.py"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -IS {front} {_running().door} "$@"\n')
    program.chmod(0o755)
    return program


class _Running(NamedTuple):
    """The launcher: our end of what we ask it by, and where others may."""

    ours: socket.socket
    door: Path


@cache
def _running() -> _Running:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, REQUEST_BYTES)
    folder = mkdtemp(prefix="badges-launcher-", dir="/tmp")  # where no test looks for what is left
    door = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    door.bind(f"{folder}/door")
    door.listen()
    env = {name: value for name, value in os.environ.items() if not name.startswith("BADGES_")}
    # It ends when our end of the pair is closed, however we end.
    fds = theirs.fileno(), door.fileno()
    running = subprocess.Popen([sys.executable, __file__, *map(str, fds)], pass_fds=fds, env=env)
    theirs.close()
    door.close()

    @atexit.register
    def end() -> None:
        ours.close()
        running.wait()
        shutil.rmtree(folder)

    return _Running(ours, Path(folder) / "door")


def _serve(asked: socket.socket, door: socket.socket) -> list[str]:
    """Fork for each request; return only in a child, with what it is to run."""
    for name in LOADED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    waking, woken = os.pipe2(os.O_NONBLOCK)
    signal.set_wakeup_fd(woken)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    ended: dict[int, int] = {}
    while True:
        ready, _, _ = select.select([asked, door, waking], [], [])
        if waking in ready:
            os.read(waking, 4096)
            _reap(ended)
            continue
        by = asked if asked in ready else door.accept()[0]
        text, ancillary, _, _ = by.recvmsg(REQUEST_BYTES, socket.CMSG_SPACE(16))
        if not text:
            os._exit(0)
        fds = array.array("i", ancillary[0][2])
        if by is not asked:
            fds.append(by.detach())  # it is told there how its process ended
        if (pid := os.fork()) == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            return _become(json.loads(text), fds)
        ended[pid] = fds[3]
        for fd in fds[:3]:
            os.close(fd)
        if by is asked:
            asked.send(str(pid).encode())


def _reap(ended: dict[int, int]) -> None:
    for pid in list(ended):
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            fd = ended.pop(pid)
            os.write(fd, str(os.waitstatus_to_exitcode(status)).encode())
            os.close(fd)


def _become(request: dict[str, Any], fds: Sequence[int]) -> list[str]:
    for fd, number in zip(fds, range(3), strict=False):
        os.dup2(fd, number)
    os.closerange(3, 4096)
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    random.seed()
    encoding, _, errors = os.environ.get("PYTHONIOENCODING", "utf-8").partition(":")
    sys.stdin = open(0, encoding=encoding)  # noqa: SIM115 - for as long as the process lives
    sys.stdout = open(1, "w", 1, encoding, errors or "strict")  # noqa: SIM115
    sys.stderr = open(2, "w", 1, encoding, "backslashreplace")  # noqa: SIM115
    arguments: list[str] = request["arguments"]
    return arguments


def _run(arguments: list[str]) -> None:
    if arguments[0] == "-m":
        _, module, *rest = arguments
        sys.argv, sys.path[0] = [module, *rest], str(Path.cwd())
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    else:
        sys.argv, sys.path[0] = arguments, str(Path(arguments[0]).parent)
        runpy.run_path(arguments[0], run_name="__main__")


if __name__ == "__main__":
    _run(_serve(*(socket.socket(fileno=int(fd)) for fd in sys.argv[1:])))

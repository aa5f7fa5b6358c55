"""A command at a terminal, as a person meets it: what it shows, and what is typed."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import IO

import launcher


class Screen:
    """What a command has shown so far; it is read while it is waited for."""

    def __init__(self, ours: int, running: launcher.Process | subprocess.Popen[bytes]) -> None:
        self._ours, self.running = ours, running
        self._bytes = b""

    @property
    def shown(self) -> str:
        """All that it has shown."""
        return self._bytes.decode(errors="replace")

    def until(self, *words: str) -> None:
        """Wait until it has shown all of these."""
        while not all(word in self.shown for word in words):
            assert self._more(), self.shown

    def type(self, line: str) -> None:
        """Answer what it asks."""
        os.write(self._ours, f"{line}\n".encode())

    def close(self) -> None:
        """Close the terminal, as a person closes the window."""
        if self._ours >= 0:
            os.close(self._ours)
        self._ours = -1

    def end(self) -> int:
        """Read what it shows till its end, and return its exit status."""
        while self._ours >= 0 and self._more():
            pass
        return self.running.wait(20)

    def _more(self) -> bool:
        with suppress(OSError):  # its end of the terminal is closed
            if piece := os.read(self._ours, 65536):
                self._bytes += piece
                return True
        return False


@contextmanager
def terminal(
    *arguments: object, env: Mapping[str, str], columns: int = 200, draws: bool = False
) -> Iterator[Screen]:
    """Run the command at a terminal of that width; it is over when the block is.

    One that ``draws`` in its place has an interpreter of its own: Rich asks if it may when it is imported.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    command = [sys.executable, "-m", "worker.cli", *map(str, arguments)]
    its = {name: value for name, value in env.items() if name not in ("NO_COLOR", "COLUMNS")}
    with ExitStack() as stack:
        with os.fdopen(theirs, "r+b", buffering=0) as end:
            running = _start(command, its | {"TERM": "xterm"}, end, draws=draws)
        screen = Screen(ours, running)
        stack.callback(running.wait)
        stack.callback(screen.close)
        stack.callback(running.kill)
        yield screen


def _start(
    command: list[str], env: Mapping[str, str], end: IO[bytes], *, draws: bool
) -> launcher.Process | subprocess.Popen[bytes]:
    if draws:
        return subprocess.Popen(command, env=env, stdin=end, stdout=end, stderr=end)
    return launcher.start(command, env=env, given=end, out=end)

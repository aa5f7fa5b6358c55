"""The way to the server: a bare connection, and redis-py's commands on top of whatever carries them.

The program's code meets redis-py's own class, with its own arguments and answers; only what carries a command
is replaced, because that is where the simulation interleaves, loses, repeats and holds up.
"""

from __future__ import annotations

import socket
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Self

import hiredis
import redis
from redis.exceptions import NoScriptError, ResponseError

Command = Sequence[Any]
Carrier = Callable[[list[Command]], list[Any]]


class Wire:
    """A bare connection to the server; errors come back as values.

    ``heard`` stands for all that was answered last.
    """

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self.heard = 0
        self._reader = hiredis.Reader(replyError=_error, encoding="utf-8")

    def ask(self, commands: Iterable[Command]) -> list[Any]:
        """Send commands in one go and return the answer to each."""
        packed, self.heard = [hiredis.pack_command(tuple(command)) for command in commands], 0
        self._socket.sendall(b"".join(packed))
        return [self._next() for _ in packed]

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def _next(self) -> Any:
        while (reply := self._reader.gets()) is False:
            received = self._socket.recv(1 << 18)
            if not received:
                raise ConnectionError("the server is gone")
            self.heard = zlib.crc32(received, self.heard)
            self._reader.feed(received)
        return reply


def _error(text: str) -> Exception:
    return NoScriptError(text) if text.startswith("NOSCRIPT") else ResponseError(text)


class Client(redis.Redis):
    """redis-py's commands, carried by whoever is said; it never connects."""

    def __init__(self) -> None:
        super().__init__(unix_socket_path="/nowhere", decode_responses=True, protocol=2)
        self.carry: Carrier = _nobody

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Have a command carried, and read its answer as redis-py does."""
        (reply,) = self.carry([args])
        if isinstance(reply, Exception):
            raise reply
        return self.read(reply, args[0], options)

    def read(self, reply: Any, name: str, options: dict[str, Any]) -> Any:
        """Read an answer as redis-py does."""
        options.pop("keys", None)
        callback = self.response_callbacks.get(name)
        return callback(reply, **options) if callback else reply

    def pipeline(self, transaction: Any = True, shard_hint: Any = None) -> Any:  # noqa: ARG002, FBT002
        """Collect commands, to be carried in one go."""
        return Pipe(self)


class Pipe(redis.Redis):
    """Commands that are carried in one go."""

    def __init__(self, client: Client) -> None:
        self._client, self._stack = client, list[tuple[Command, dict[str, Any]]]()

    def __del__(self) -> None:
        """There is nothing to close."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.clear()

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Remember a command."""
        self._stack.append((args, options))
        return self

    def execute(self, raise_on_error: bool = True) -> list[Any]:  # noqa: FBT001, FBT002 - redis-py's
        """Have all commands carried."""
        stack, self._stack = self._stack, []
        if not stack:
            return []
        replies = self._client.carry([args for args, _ in stack])
        for n, (reply, (args, options)) in enumerate(zip(replies, stack, strict=True)):
            if not isinstance(reply, Exception):
                replies[n] = self._client.read(reply, args[0], options)
            elif raise_on_error:
                raise reply
        return replies


def _nobody(_: list[Command]) -> list[Any]:
    raise AssertionError("no world is there that could carry this")

"""The store: calls the scripts (``scripts/*.lua``) in Redis, and makes what they write durable.

Every call may be repeated by the client library when a reply was lost; each script's header says what
the repetition answers. What the scripts are for is said in ``queue.py``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from importlib import resources
from typing import Any

import redis
from redis.commands.core import Script
from redis.exceptions import NoScriptError, OutOfMemoryError, RedisError, ResponseError

from worker import keys
from worker.errors import NoRoom, NotDurable, ScriptError, StoreError

DURABLE_WITHIN_MS = 2000
FULL = "Redis is full (maxmemory): give it more, or let results expire sooner"

_SHARED = ("_common.lua", "_gate.lua")


class Store:
    """The scripts of one Redis."""

    def __init__(self, client: redis.Redis) -> None:
        self.client = client
        self._scripts = {name: _source(name) for name in _script_names()}
        self._shas = {
            name: hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
            for name, text in self._scripts.items()
        }

    @cached_property
    def keeps_a_log(self) -> bool:
        """Whether the server writes an append-only file: only then can a claim be made durable."""
        with reaching("info"):
            return bool(self.client.info("persistence").get("aof_enabled"))

    def call(self, name: str, its_keys: Sequence[str], args: Iterable[Any]) -> Any:
        """Call a script; an argument that is a list or a dict goes as JSON, JSON in the answer is read.

        Raises:
            StoreError: Redis refused or can't be reached.
            ScriptError: the script failed, which is a bug.
        """
        return _answer(self._run(name, its_keys, args, durably=False)[0])

    def script(self, name: str) -> Script:
        """Return a script for a pipeline of many calls, which loads it where the server doesn't know it."""
        return self.client.register_script(self._scripts[name])

    def load(self) -> int:
        """Load every script, to see whether the server takes them; return how many there are."""
        return len([self.client.script_load(text) for text in self._scripts.values()])

    def durably(self, name: str, its_keys: Sequence[str], args: Iterable[Any]) -> Any:
        """Call a script and wait, on the same connection, until what it wrote is on disk.

        Raises:
            NotDurable: it isn't in time; the script was run all the same.
        """
        replies = self._run(name, its_keys, args, durably=self.keeps_a_log)
        answer = _answer(replies[0])
        if len(replies) > 1 and (isinstance(replies[1], Exception) or replies[1][0] < 1):
            raise NotDurable(f"Redis didn't confirm within {DURABLE_WITHIN_MS} ms that {name} is on disk")
        return answer

    def _run(self, name: str, its_keys: Sequence[str], args: Iterable[Any], *, durably: bool) -> list[Any]:
        arguments = [_argument(arg) for arg in args]
        for _ in range(2):
            pipe = self.client.pipeline(transaction=False)
            pipe.evalsha(self._shas[name], len(its_keys), *its_keys, *arguments)
            if durably:
                pipe.waitaof(1, 0, DURABLE_WITHIN_MS)
            with reaching(name):
                replies: list[Any] = pipe.execute(raise_on_error=False)
                if not isinstance(replies[0], NoScriptError):
                    return replies
                self.client.script_load(self._scripts[name])
        raise StoreError(f"Redis keeps forgetting the script {name}; is SCRIPT FLUSH called in a loop?")


@contextmanager
def reaching(what: str) -> Iterator[None]:
    """Turn the client library's errors into ours."""
    try:
        yield
    except OutOfMemoryError as error:
        raise NoRoom(FULL) from error
    except RedisError as error:
        raise StoreError(f"Redis can't be reached for {what}: {error}") from error


def _argument(value: Any) -> str:
    return json.dumps(value, separators=(",", ":")) if isinstance(value, list | tuple | dict) else str(value)


def _answer(reply: Any) -> Any:
    if isinstance(reply, OutOfMemoryError):
        raise NoRoom(FULL) from reply
    if isinstance(reply, ResponseError) and "script:" in str(reply):
        raise ScriptError(str(reply)) from reply
    if isinstance(reply, Exception):
        raise StoreError(f"Redis refused: {reply}") from reply
    return json.loads(reply) if isinstance(reply, str) else reply


def _script_names() -> list[str]:
    files = resources.files("worker").joinpath("scripts").iterdir()
    return [f.name.removesuffix(".lua") for f in files if f.name.endswith(".lua") and f.name[0] != "_"]


def _source(name: str) -> str:
    """Compose a script: its own first line (the flags), the keys, what all share, then its own text."""
    folder = resources.files("worker").joinpath("scripts")
    flags, _, body = folder.joinpath(f"{name}.lua").read_text().partition("\n")
    shared = [folder.joinpath(file).read_text() for file in _SHARED]
    return "\n".join([flags, keys.lua_table(), *shared, body])

"""The store: calls the scripts (``lua/*.lua``) in Redis, and makes what they write durable.

Every call may be repeated by the client library when a reply was lost; each script's header says what
the repetition answers. What the scripts are for is said in ``queue.py``.

In a Cluster, each org is on one node, and what belongs to none of them on one too (``keys.py``). A script
goes to that node's own client: WAITAOF and WAIT tell something only on the connection that the script used.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import redis
from redis.exceptions import AskError, NoScriptError

from worker.errors import LogLost, NewerStore, NotDurable, StoreError
from worker.server.cluster import Cluster, plain_errors, reaching, servers
from worker.server.health import faults
from worker.store import keys, record
from worker.store.composing import Texts, program

DURABLE_WITHIN_MS = 2000
LOOK_AGAIN_S = 5.0
TRIES = 3  # of a script that the server doesn't know
_MANY = (list, tuple, dict)
_written = json.JSONEncoder(separators=(",", ":")).encode  # json.dumps makes an encoder for each call


class Script(NamedTuple):
    """A script as the server gets it, and what the server calls it."""

    program: str
    sha: str


class Scripts(Mapping[str, Script]):
    """The scripts by name, each composed when somebody asks for it, once.

    Other ``texts`` than the program's own are for a simulation, which hands time in by them.
    """

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._texts = texts
        self._made: dict[str, Script] = {}

    def __getitem__(self, name: str) -> Script:
        if name not in self._made:
            its = program(self._texts[name])
            self._made[name] = Script(its, hashlib.sha1(its.encode(), usedforsecurity=False).hexdigest())
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._texts)

    def __len__(self) -> int:
        return len(self._texts)


@cache
def installed() -> Scripts:
    """Return the scripts that came with this program."""
    return Scripts(Texts())


class Store:
    """The scripts of one Redis; ``replicas`` of it must have what is said to be durable."""

    def __init__(
        self,
        client: redis.Redis,
        *,
        replicas: int = 0,
        scripts: Scripts | None = None,
        look_again_s: float = LOOK_AGAIN_S,
    ) -> None:
        self.client = client
        self._replicas = replicas
        self._scripts = installed() if scripts is None else scripts
        self.log_is_lost = False
        self._keeps_a_log, self._looked_at = False, -math.inf
        self._look_again_s = look_again_s

    def keeps_a_log(self) -> bool:
        """Say whether the server writes an append-only file: only then can a claim be made durable.

        One that wrote none is looked at again: it may write one by now, or another be in its place.
        """
        if not self._keeps_a_log and time.monotonic() - self._looked_at >= self._look_again_s:
            self._looked_at = time.monotonic()
            with reaching("info"):
                self._keeps_a_log = bool(self.client.info("persistence").get("aof_enabled"))
        return self._keeps_a_log

    def see_to_log(self) -> None:
        """See that a server that kept an append-only file, and then none, keeps one again.

        Raises:
            LogLost: it still keeps none.
        """
        if self.log_is_lost:
            self.log_is_lost = self._keeps_none_now()
        if self.log_is_lost:
            raise LogLost(
                "Redis has stopped writing its append-only file: its crash would lose or repeat jobs, and "
                "nothing is sent until it writes it again (CONFIG SET appendonly yes)"
            )

    def _keeps_none_now(self) -> bool:
        with reaching("info"):
            return not all(
                server.info("persistence").get("aof_enabled") for server in servers(self.client).values()
            )

    def call(self, name: str, its_keys: Sequence[str], args: Iterable[Any]) -> Any:
        """Call a script; an argument that is a list or a dict goes as JSON, JSON in the answer is read.

        Raises:
            StoreError: Redis refused or can't be reached.
            ScriptError: the script failed, which is a bug.
        """
        return _answer(name, self._run(name, its_keys, args)[0])

    def add(self, pipe: Any, name: str, its_keys: Sequence[str], args: Iterable[Any]) -> None:
        """Add a call to a pipeline of many; where a server doesn't know it, ``load`` it, and repeat."""
        arguments = [arg if type(arg) is str else _argument(arg) for arg in args]
        pipe.execute_command("EVALSHA", self._scripts[name].sha, len(its_keys), *its_keys, *arguments)

    def load(self, *names: str) -> int:
        """Load scripts, every one if none is named; return how many these were."""
        with reaching("the scripts"):
            return len(
                [self.client.script_load(self._scripts[name].program) for name in names or self._scripts]
            )

    def refuse_other_versions(self) -> None:
        """See that this program knows the structures that are in Redis, and say that they are its own.

        Raises:
            NewerStore: a newer program has changed them, or those of version 1 are there.
        """
        with reaching("the structures' version"):
            said, of_version_1 = self.client.get(keys.STRUCTURES), self.client.exists(keys.VERSION_1)
        there = int(said or record.VERSION)
        if there > record.VERSION:
            raise NewerStore(
                f"what is in Redis was changed by a newer version of this program (schema {there}, and this "
                f"one knows {record.VERSION}): install that version here too"
            )
        if of_version_1:
            raise NewerStore(
                "this Redis holds data of version 1 of this program: finish them with that version, then "
                "give this one another database (BADGES_REDIS_URL)"
            )
        if said is None:
            with reaching("the structures' version"):
                self.client.set(keys.STRUCTURES, record.VERSION, nx=True)

    def now_ms(self, key: str) -> int:
        """Return the time of the server that has this key, by which scripts go."""
        with reaching("the time"):
            return _shown_ms(self._server(key))

    def org_now_ms(self, org: str) -> int:
        """Return the time of the server that has an org's keys."""
        return self.now_ms(keys.key_prefix(org))

    def orgs_now_ms(self, orgs: Iterable[str]) -> dict[str, int]:
        """Return each org's time as ``org_now_ms`` does; a server that has several is asked once."""
        with reaching("the time"):
            servers = {org: self._server(keys.key_prefix(org)) for org in orgs}
            shown = {server: _shown_ms(server) for server in set(servers.values())}
        return {org: shown[server] for org, server in servers.items()}

    def durably(self, name: str, its_keys: Sequence[str], args: Iterable[Any]) -> Any:
        """Call a script and wait, on the same connection, until what it wrote is on disk.

        Raises:
            NotDurable: it isn't in time; the script was run all the same.
        """
        logged = self.keeps_a_log()
        replies = self._run(name, its_keys, args, logged=logged, replicas=self._replicas)
        answer = _answer(name, replies[0])
        kept = replies[1:]
        if logged and not _at_least(1, kept[0]):
            self.log_is_lost = self._keeps_none_now()
            self.see_to_log()
            raise NotDurable(self._why_not_on_disk(name, kept[0]))
        kept = kept[logged:]
        if kept and not _at_least(self._replicas, kept[0]):
            wanted = f"{self._replicas} of BADGES_REPLICAS"
            raise NotDurable(f"{wanted} didn't confirm within {DURABLE_WITHIN_MS} ms to have {name}")
        return answer

    def _why_not_on_disk(self, name: str, reply: Any) -> str:
        """Say it in the doctor's words, if it knows; the server may be another one than it was."""
        if isinstance(reply, Exception):
            known = "; ".join(faults(self.client)) or str(reply)
            return f"Redis can't confirm that {name} is on disk: {known}"
        return f"Redis didn't confirm within {DURABLE_WITHIN_MS} ms that {name} is on disk"

    def _run(
        self,
        name: str,
        its_keys: Sequence[str],
        args: Iterable[Any],
        *,
        logged: bool = False,
        replicas: int = 0,
    ) -> list[Any]:
        arguments = [arg if type(arg) is str else _argument(arg) for arg in args]

        def ask(server: redis.Redis) -> list[Any]:
            pipe = server.pipeline(transaction=False)
            pipe.evalsha(self._scripts[name].sha, len(its_keys), *its_keys, *arguments)
            if logged:
                pipe.waitaof(1, 0, DURABLE_WITHIN_MS)
            if replicas:
                pipe.wait(replicas, DURABLE_WITHIN_MS)
            replies: list[Any] = pipe.execute(raise_on_error=False)
            if isinstance(replies[0], NoScriptError):
                server.script_load(self._scripts[name].program)
            return replies

        for _ in range(TRIES):
            with reaching(name):
                replies = self._at(its_keys[0], ask)
            if not isinstance(replies[0], NoScriptError):
                return replies
        raise StoreError(f"Redis keeps forgetting the script {name}; is SCRIPT FLUSH called in a loop?")

    def _at(self, key: str, ask: Callable[[redis.Redis], list[Any]]) -> list[Any]:
        """Ask the server that has this key; one of a Cluster again, while its nodes fail or change places."""
        if not isinstance(self.client, Cluster):
            return ask(self.client)
        cluster: Cluster = self.client

        def ask_its_node() -> list[Any]:
            replies = ask(self._server(key))
            if isinstance(replies[0], AskError):  # the org has moved to another node, or is about to
                raise redis.ConnectionError(str(replies[0]))
            return replies

        return list(cluster.retry.call_with_retry(ask_its_node, lambda _: cluster.find_nodes()))

    def _server(self, key: str) -> redis.Redis:
        if not isinstance(self.client, Cluster):
            return self.client
        with plain_errors():
            server: redis.Redis = self.client.get_redis_connection(self.client.get_node_from_key(key))
            return server


def _shown_ms(server: redis.Redis) -> int:
    seconds, us = server.time()
    return int(seconds) * 1000 + int(us) // 1000


def _argument(value: Any) -> str:
    return _written(value) if isinstance(value, _MANY) else str(value)


def _at_least(number: int, reply: Any) -> bool:
    """Say whether WAITAOF or WAIT answered that enough servers have it."""
    return not isinstance(reply, Exception) and (reply[0] if isinstance(reply, list) else reply) >= number


def _answer(name: str, reply: Any) -> Any:
    if isinstance(reply, Exception):
        with reaching(name):
            raise reply
    if isinstance(reply, list) and reply and str(reply[0]).startswith("{"):
        return [json.loads(reply[0]), *reply[1:]]
    return json.loads(reply) if isinstance(reply, str) else reply

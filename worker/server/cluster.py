"""A Redis Cluster that behaves like any other Redis, and redis-py's errors turned into this program's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import redis
from redis.cluster import RedisCluster
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    DataError,
    MovedError,
    OutOfMemoryError,
    RedisClusterException,
    RedisError,
    ResponseError,
)
from redis.retry import Retry

from worker.errors import NoRoom, ScriptError, StoreError

Redis = redis.Redis  # the client, for those who only hand it on: what it can do is for store and server
_REFUSALS: Final = (AuthenticationError, AuthorizationError)  # which redis-py counts as the connection's
REDIS_ERRORS = (RedisError, OSError)

ONE_NODE = "it is one node of a Redis Cluster: write redis+cluster:// in BADGES_REDIS_URL"
UNAVAILABLE: Final = (StoreError, RedisError)
"""What is raised where Redis can't be reached or refuses, whether or not it went through ``reaching``."""
CREDENTIALS = "Redis refuses the user or password in BADGES_REDIS_URL: correct it"
FULL = "Redis is full (maxmemory): give it more, or let results expire sooner"


class Cluster(RedisCluster):
    """A client of a Redis Cluster whose errors are those of any other Redis."""

    def __init__(self, *, retry: Retry, **options: Any) -> None:
        with plain_errors():
            super().__init__(retry=retry, **options)
        self._find_nodes = self.nodes_manager.initialize
        # When redis-py looks for the nodes again and none answers, it raises an error of another family.
        self.nodes_manager.initialize = self.find_nodes  # type: ignore[method-assign]

    def find_nodes(self, *arguments: Any, **options: Any) -> None:
        """Ask the Cluster again which node has which slot."""
        with plain_errors():
            self._find_nodes(*arguments, **options)

    def close(self) -> None:
        """Close every connection; redis-py's own leaves them open where a URL was given."""
        self.disconnect_connection_pools()  # type: ignore[no-untyped-call]
        super().close()


@contextmanager
def plain_errors() -> Iterator[None]:
    """Turn a Cluster's errors into those of any other Redis."""
    try:
        yield
    except RedisClusterException as error:
        raise redis.ConnectionError(str(error)) from error


def servers(client: redis.Redis) -> dict[str, redis.Redis]:
    """Return the servers that a client writes to, by what to call each: nothing, but in a Cluster."""
    if not isinstance(client, Cluster):
        return {"": client}
    cluster: Cluster = client
    return {node.name: cluster.get_redis_connection(node) for node in cluster.get_primaries()}


def is_outage(error: BaseException) -> bool:
    """Say whether an error is the connection's or the server's, and not one of the data that were handled."""
    return isinstance(error, REDIS_ERRORS) and not isinstance(error, DataError)


def is_away(error: BaseException) -> bool:
    """Say whether an error is, or comes of, a server that gives no answer."""
    its = error.__cause__ or error
    return isinstance(its, redis.ConnectionError | redis.TimeoutError) and not isinstance(its, _REFUSALS)


@contextmanager
def reaching(what: str) -> Iterator[None]:
    """Turn the client library's errors into this program's."""
    try:
        yield
    except OutOfMemoryError as error:
        raise NoRoom(FULL) from error
    except MovedError as error:
        raise StoreError(ONE_NODE) from error
    except _REFUSALS as error:
        raise StoreError(f"{CREDENTIALS} ({error})") from error
    except ResponseError as error:
        if "script:" in str(error):
            raise ScriptError(str(error)) from error
        raise StoreError(f"Redis refused {what}: {error}") from error
    except RedisError as error:
        raise StoreError(f"Redis can't be reached for {what}: {error}") from error

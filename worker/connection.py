"""The connection to Redis: the one that is configured, or the program's own embedded server.

Whoever opens it closes it: the last user of an embedded server ends that server.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Self

import redis
from redis.backoff import ExponentialWithJitterBackoff
from redis.retry import Retry

from worker.config import Settings
from worker.embedded import EmbeddedServer, broker_url

OLDEST_REDIS = (7, 2)


def weaknesses(client: redis.Redis) -> list[str]:
    """Say which promises this server can't keep, each with its cure; nothing if it keeps them all."""
    info = client.info()
    found = []
    if tuple(int(part) for part in str(info["redis_version"]).split(".")[:2]) < OLDEST_REDIS:
        found.append(f"Redis {info['redis_version']} is too old for WAITAOF; use 7.2 or later, or Valkey")
    if not info.get("aof_enabled"):
        found.append(
            "it keeps no append-only file: a crash of it loses jobs or repeats badges; appendonly yes"
        )
    policy = str(info.get("maxmemory_policy", "noeviction"))
    if policy != "noeviction":
        found.append(
            f"when full it throws keys away ({policy}), jobs among them; maxmemory-policy noeviction"
        )
    return found


@dataclass(frozen=True, slots=True)
class Connection:
    """Where the store and the broker are; usable as a context manager."""

    url: str
    broker_url: str
    server: EmbeddedServer | None = None

    @classmethod
    def open(cls, settings: Settings) -> Connection:
        """Use ``BADGES_REDIS_URL``, or start the embedded server in ``BADGES_DATA_DIR``.

        Raises:
            EmbeddedServerError: it can't be started; the text says what to do instead.
        """
        broker = settings.broker_url.get_secret_value() if settings.broker_url else None
        if settings.redis_url:
            url = settings.redis_url.get_secret_value()
            return cls(url, broker or broker_url(url))
        server = EmbeddedServer(data_dir=settings.data_dir)
        server.start()
        return cls(server.url, broker or broker_url(server.url), server)

    def client(self) -> redis.Redis:
        """Make a client; it connects at its first use, and repeats a call whose reply was lost."""
        return redis.Redis.from_url(
            self.url,
            decode_responses=True,
            protocol=2,
            socket_timeout=10,
            socket_connect_timeout=5,
            health_check_interval=30,
            retry=Retry(ExponentialWithJitterBackoff(base=0.05, cap=1), 5),
        )

    def close(self) -> None:
        """Leave the embedded server, and end it if nobody else uses it."""
        if self.server:
            self.server.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

"""kombu's channel of a Redis, made to survive what anybody may put into the keys that it reads.

Whatever isn't a message is refused in a line; kombu 5.7 would end the worker, or connect again for ever.
"""

from __future__ import annotations

from collections.abc import Callable
from queue import Empty
from typing import Any

from worker.process.refusals import REFUSED, note_refused
from worker.server.brokerkeys import DEFAULT_QUEUE
from worker.server.cluster import is_outage


def tamed(channel: Any) -> Any:
    """Return kombu's channel of a Redis, which refuses what it can't make a message of, and wastes less."""

    class Tamed(channel):  # type: ignore[misc]
        QoS = _unacknowledged(channel.QoS)
        _its_client: Any = None

        def _create_client(self, asynchronous: bool = False) -> Any:  # noqa: FBT001, FBT002 - kombu's
            # kombu would make one for each command, which takes longer than the command.
            if asynchronous:
                return super()._create_client(asynchronous=True)
            if not self._its_client or self._its_client.connection_pool is not self.pool:
                self._its_client = super()._create_client()
            return self._its_client

        def _brpop_read(self, **options: Any) -> Any:
            return _read(lambda: super(Tamed, self)._brpop_read(**options), self)

        def _receive_one(self, c: Any) -> Any:
            """Read what came on a channel that every worker hears: anybody may publish anything there."""
            return _read(lambda: super(Tamed, self)._receive_one(c), self)

        def _do_restore_message(
            self,
            payload: Any,
            exchange: Any,
            routing_key: Any,
            pipe: Any,
            leftmost: bool = False,  # noqa: FBT001, FBT002
        ) -> None:
            """Give a message back; one that names no queue would be lost, and must not be."""
            if not _is_message(payload):
                raise TypeError("it has no headers or properties")
            if not self._belongs(exchange, routing_key):
                exchange, routing_key = "", DEFAULT_QUEUE
            super()._do_restore_message(payload, exchange, routing_key, pipe, leftmost)

        def _belongs(self, exchange: Any, routing_key: Any) -> bool:
            named = isinstance(exchange, str) and isinstance(routing_key, str)
            return named and bool(routing_key if not exchange else self._lookup(exchange, routing_key))

    return Tamed


def _unacknowledged(qos: Any) -> Any:
    """Return kombu's book of what was fetched and isn't done, which drops what is no message."""

    class Unacknowledged(qos):  # type: ignore[misc]
        def restore_by_tag(self, tag: Any, client: Any = None, leftmost: bool = False) -> None:  # noqa: FBT001, FBT002 - kombu's
            """Give a message back that a dead worker had."""
            try:
                super().restore_by_tag(tag, client, leftmost)
            except (ValueError, TypeError) as error:
                _refuse(error)
                with self.channel.conn_or_acquire(client) as its:
                    its.hdel(self.unacked_key, tag)
                    its.zrem(self.unacked_index_key, tag)

    return Unacknowledged


def _is_message(payload: Any) -> bool:
    parts = [payload.get(name) for name in ("headers", "properties")] if isinstance(payload, dict) else [None]
    return all(isinstance(part, dict) for part in parts)


def _read(read: Callable[[], Any], channel: Any) -> Any:
    """Read a message; refuse what isn't one, which would end the worker in kombu."""
    try:
        return read()
    except Exception as error:
        if channel.closed or isinstance(error, Empty) or is_outage(error):
            raise
        _refuse(error)
        return True


def _refuse(fault: Exception) -> None:
    note_refused(REFUSED, f"it is no Celery message: {type(fault).__name__}: {fault}", {})

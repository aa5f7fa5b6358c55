"""What the HTTP intake keeps in Redis: the bodies of Idempotency-Keys, and how often each caller called."""

from __future__ import annotations

from collections.abc import Iterable

from worker.domain.identity import short_hash
from worker.server.cluster import Redis, reaching
from worker.store import keys


def bind(client: Redis, org: str, idempotency_key: str, body: str, *, for_s: int) -> bool:
    """Bind a key to a body's hash for a while; ``False`` if it is bound to another one.

    Raises:
        StoreError: Redis can't be reached.
    """
    key = keys.key(org, "intake", short_hash(idempotency_key))
    with reaching("the Idempotency-Key"):
        return client.set(key, body, nx=True, get=True, ex=for_s) in {None, body}


def count_call(client: Redis, org: str, caller: str, windows_s: Iterable[int], *, now_s: float) -> list[int]:
    """Count a call in the present window of each length; returns what each holds now.

    Raises:
        StoreError: Redis can't be reached.
    """
    pipe = client.pipeline(transaction=False)
    for window_s in windows_s:
        key = keys.key(org, "rate", f"{caller}:{window_s}:{int(now_s // window_s)}")
        pipe.incr(key)
        pipe.expire(key, 2 * window_s)
    with reaching("the limit of calls"):
        return [int(count) for count in pipe.execute()[::2]]

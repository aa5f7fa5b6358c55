"""What an org remembers of how its files are read: texts by name, which ``operate/profiles.py`` reads."""

from __future__ import annotations

from worker.server.cluster import reaching
from worker.store import keys
from worker.store.queue import Queue


def all_profiles(queue: Queue, org: str) -> dict[str, str]:
    """Return an org's profiles by name.

    Raises:
        StoreError: Redis can't be reached.
    """
    with reaching("the profiles"):
        found = queue.client.hgetall(keys.key(org, "profiles"))
    return {str(name): str(text) for name, text in found.items()}


def write(queue: Queue, org: str, name: str, text: str) -> None:
    """Keep a profile under its name, in place of the one there is.

    Raises:
        StoreError: Redis can't be reached, or a newer version of this program wrote what is in it.
    """
    queue.store.refuse_other_versions()
    with reaching("the profiles"):
        queue.client.hset(keys.key(org, "profiles"), name, text)


def remove(queue: Queue, org: str, name: str) -> bool:
    """Forget a profile; say whether there was one.

    Raises:
        StoreError: Redis can't be reached, or a newer version of this program wrote what is in it.
    """
    queue.store.refuse_other_versions()
    with reaching("the profiles"):
        return bool(queue.client.hdel(keys.key(org, "profiles"), name))


def now_ms(queue: Queue, org: str) -> int:
    """Return the time by the server's clock.

    Raises:
        StoreError: Redis can't be reached.
    """
    with reaching("the profiles"):
        return int(queue.store.now_ms(keys.key(org, "profiles")))

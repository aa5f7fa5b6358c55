"""What the scripts' headers say of their replies is what the scripts reply, and what the protocol reads."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import redis
from conventions import replies
from hands import claimed
from support import configured, item

from worker.domain.batch import Replay, Sent, Wait, Why
from worker.domain.outcome import Issued, Signal, Verdict
from worker.server.connection import Connection
from worker.store import scripts
from worker.store.queue import Queue, new_id

FOLDER = Path(scripts.__file__).parent / "lua"
ORG = configured()


class Listening(scripts.Store):
    """A store that remembers what each script replied."""

    def __init__(self, client: redis.Redis) -> None:
        super().__init__(client)
        self.heard: dict[str, list[Any]] = {}

    def call(self, name: str, its_keys: Any, args: Any) -> Any:
        """Call, and remember the reply as it was, before anybody takes it apart."""
        return self._remembered(name, super().call(name, its_keys, args))

    def durably(self, name: str, its_keys: Any, args: Any) -> Any:
        """Do the same, durably."""
        return self._remembered(name, super().durably(name, its_keys, args))

    def _remembered(self, name: str, reply: Any) -> Any:
        self.heard.setdefault(name, []).append(json.loads(json.dumps(reply)))
        return reply


@pytest.fixture
def heard(connection: Connection) -> dict[str, list[Any]]:
    """What the scripts replied to all that may be asked of a queue."""
    with connection.client() as client:
        client.flushall()
        queue = Queue(client)
        queue.store = store = Listening(client)
        queue.enqueue(ORG, run="r", items=[item(n) for n in range(4)], call=new_id())
        queue.cancel("default", [item(3).id], call=new_id())
        queue.replay(ORG, run="again", items=[Replay(item(3).id)], call=new_id())
        batch = claimed(queue, ORG)
        ok = Verdict((), Signal.OK)
        issued = [Issued(f"E{n}") for n, _ in enumerate(batch.jobs)]
        queue.settle(ORG, batch, issued, verdict=ok, sent=Sent("200", 1))
        assert isinstance(queue.claim(ORG, new_id()), Wait)
        queue.reserve_call(ORG, new_id())
        queue.pause("default", why="operator", reason="")
        queue.reserve_call(ORG, new_id())
        queue.resume(ORG)
        queue.hint("default", 1)
        queue.take_due(ahead_ms=1000)
        return store.heard


def test_replies_have_the_fields_that_the_headers_say(heard: dict[str, list[Any]]) -> None:
    """Each reply is one of the documented kinds: all that is always in it, nothing that isn't said."""
    documented = {path.stem: replies(path) for path in FOLDER.glob("[a-z]*.lua")}
    with_fields = {name: kinds for name, kinds in documented.items() if kinds}
    assert {"claim", "settle", "reserve_call", "gauge", "replay", "take_due"} <= set(with_fields) & set(heard)
    for name, kinds in with_fields.items():
        for reply in heard.get(name, []):
            fields = set(reply[0] if isinstance(reply, list) else reply)
            assert any(always <= fields <= at_most for always, at_most in kinds), (
                name,
                sorted(fields),
                kinds,
            )


def test_every_reason_to_wait_has_its_word() -> None:
    """What a script answers as ``why`` is read into an enum, which refuses any other word."""
    texts = [path.read_text() for path in FOLDER.glob("*.lua")]
    told = {word for text in texts for word in re.findall(r"\bwhy = '([^']+)'|return NEVER, '([^']+)'", text)}
    words = {one for pair in told for one in pair if one}
    assert {"deliveries", "settled", "idle", "paused"} <= words
    assert words <= {why.value for why in Why}

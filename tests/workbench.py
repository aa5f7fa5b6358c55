"""What a worker process does, done by hand: jobs are brought in, sent, and taken back, in this process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import redis
from support import Probe, configured, deliver_one, item

from worker.delivery import Delivered, Delivery
from worker.domain.org import Org
from worker.sandbox.server import SandboxServer
from worker.store import keys
from worker.store.queue import Queue, new_id
from worker.vendor.auth import Authenticator
from worker.vendor.client import VendorClient
from worker.vendor.revoking import Revoker


@dataclass
class Workbench:
    """An org, its vendor, and what a worker process has to work with them."""

    queue: Queue
    org: Org
    sandbox: SandboxServer
    http: VendorClient
    waiting: ClassVar[tuple[str, ...]] = ()  # the lists of what ``deliver`` doesn't let wait

    @classmethod
    @contextmanager
    def open(cls, queue: Queue, sandbox: SandboxServer, *more: Any, **settings: Any) -> Iterator[Self]:
        """Give one while the block lasts, whose org has these settings, at a limit that holds nothing up."""
        org = configured(api_base_url=sandbox.url, **{"http_timeout_s": 5} | settings)
        with closing(VendorClient()) as http:
            yield cls(queue, org, sandbox, http, *more)

    @property
    def client(self) -> redis.Redis:
        """The client of its Redis."""
        return self.queue.client

    @property
    def auth(self) -> Authenticator:
        """The org's credentials."""
        return Authenticator(queue=self.queue, client=self.http)

    def key(self, name: str, of: str = "") -> str:
        """Return a key of the org."""
        return keys.key("default", name, of)

    def bring(self, *numbers: int, run: str = "spring") -> list[str]:
        """Accept jobs, and return their ids."""
        items = [item(n) for n in numbers]
        self.queue.enqueue(self.org, run=run, items=items, call=new_id())
        return [it.id for it in items]

    def make_due(self) -> None:
        """Let nothing be waited for: neither the gate nor what is to be repeated."""
        self.client.hdel(self.key("gate"), "closed_until", "probing", "learned")
        Probe(self.client).make_due(*self.waiting)

    def deliver(self) -> Delivered:
        """Send the next batch, whatever would be waited for."""
        self.make_due()
        done = deliver_one(Delivery(queue=self.queue, client=self.http, auth=self.auth), self.org)
        assert isinstance(done, Delivered), done
        return done

    def issue(self, *numbers: int, run: str = "spring") -> list[str]:
        """Have badges issued, and return their jobs' ids."""
        ids = self.bring(*numbers, run=run)
        assert self.deliver().settled.issued == len(numbers)
        return ids

    def revoke(self) -> int:
        """Let a worker take back what is to be, whatever would be waited for; answers how many."""
        Probe(self.client).make_due("revokes")
        self.client.hdel(self.key("gate"), "closed_until")
        return Revoker(self.queue, self.http, self.auth).work(self.org)

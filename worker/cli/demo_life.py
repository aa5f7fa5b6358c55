"""What goes on in a demonstration that is left running: files, a service's badges, a vendor that stumbles."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import count
from math import inf
from pathlib import Path
from random import Random

from worker.config import Settings
from worker.domain.item import Source
from worker.domain.job import DeadKind
from worker.domain.org import DEFAULT_ORG
from worker.domain.provenance import Provenance
from worker.enqueue import EnqueueOptions, accept, new_run, sources
from worker.files.reader import read_rows
from worker.operate import replaying
from worker.operate.deadlist import Filter
from worker.operate.importing import import_rows
from worker.operate.operator import Operator, this_user
from worker.operate.runs import JobReader
from worker.sandbox.issued import Fault
from worker.sandbox.server import SandboxServer
from worker.store import audit
from worker.store.queue import Queue, new_id

GOOD_BADGES = ("696f0fd40772ad476ecf74ac", "697a16140772ad476ecfe51c", "654e08f2041fd452b3ef5b2e")
MISTYPED_BADGE = "654e08f2041fd452b3ef5b2f"
SHOPS = "shops"  # an org whose limit is used to the full
BEAT_S = 2.0
FIRST_CUSTOMER = 500_000_000
REGIONS = ("north", "south", "east", "west")


def write_rows(file: Path, items: int, *, first: int = 0) -> None:
    """Write a file of badges; some of them are doubled, mistyped or invalid."""
    random = Random(items + first)  # noqa: S311 - the same rows every time
    with file.open(mode="w", newline="") as stream:
        out = csv.writer(stream)
        out.writerow(["badgeMetaId", "customerId", "earnEventDate", "earnExpiresOn"])
        row: list[object] = []
        for n in range(items):
            kind = random.random()
            if kind < 0.01 and row:
                out.writerow(row)  # the same badge once more
                continue
            badge = MISTYPED_BADGE if kind < 0.03 else random.choice(GOOD_BADGES)
            customer: object = f"C-{n}" if kind > 0.995 else FIRST_CUSTOMER + first + n
            row = [badge, customer, 1_674_292_011, 1_905_828_011]
            out.writerow(row)


def shops(settings: dict[str, str]) -> str:
    """Return an orgs' file with one more org, which has the same vendor and less of a limit."""
    own = settings | {"rate_limit": "40/minute", "batch_size": "25", "batch_linger_s": "2"}
    return "\n".join([f"[{SHOPS}]", *(f'{name} = "{value}"' for name, value in own.items()), ""])


@dataclass(slots=True)
class Life:
    """Two orgs and what comes in for them."""

    settings: Settings
    queue: Queue
    vendor: SandboxServer
    folder: Path
    customer: int = 1_000_000  # the next one

    def go_on(self, is_alive: Callable[[], bool]) -> None:
        """Let something happen every other second, for as long as the worker lives."""
        self._import("autumn-campaign", 320, org=SHOPS, held=True)
        for beat in count():
            if not is_alive():
                return
            self._badges_of_tills(beat)
            self._people(beat)
            if beat % 30 == 0:
                self._import(f"members-{REGIONS[beat // 30 % 4]}", 400)
            if beat % 40 == 0:
                self._import(f"shops-{REGIONS[beat // 40 % 4]}", 1200, org=SHOPS)
            if beat % 150 == 5:
                self._stumble()
            time.sleep(BEAT_S)

    def _import(self, name: str, items: int, *, org: str = DEFAULT_ORG, held: bool = False) -> None:
        file = self.folder / f"{name}.csv"
        write_rows(file, items, first=self.customer)
        self.customer += items
        note = "to be started once marketing has looked at it" if held else ""
        if note:
            which = {"run": name, "file": file.name, "hold": True}
            action = audit.action_id(self.queue, "import")
            self._operator(note).begin(org, action, which, counts=False)
        source = Provenance(str(this_user()), file.name, note=note)
        options = EnqueueOptions(new_run(name), new_id(), source=source, starts_ms=inf if held else None)
        with file.open("rb") as stream:
            _take(import_rows(self.queue, self.settings.org(org), read_rows(stream, name=file.name), options))

    def _badges_of_tills(self, beat: int) -> None:
        """A service hands badges in as they are earned, all as one run."""
        number = Random(beat).randint(5, 60)  # noqa: S311 - the same every time
        now = int(time.time())
        badges = [
            {
                "badgeMetaId": GOOD_BADGES[n % 3],
                "customerId": FIRST_CUSTOMER + self.customer + n,
                "earnEventDate": now - n,
                "earnExpiresOn": now + 365 * 86_400,
            }
            for n in range(number)
        ]
        self.customer += number
        call = new_id()
        options = EnqueueOptions("tills", call, source=Provenance("the tills"))
        rows: Iterable[Source] = sources(badges, call)
        _take(accept(self.queue, self.settings.org(DEFAULT_ORG), rows, options))

    def _stumble(self) -> None:
        """The vendor fails once after it has issued, is busy with some customers, and refuses others."""
        vendor = self.vendor.vendor
        vendor.add_fault(Fault(fault="status", status=500, apply="all", times=1))
        vendor.add_fault(Fault(fault="item_error", times=12))
        refused = "GLOBAL.CUSTOMER_BLOCKED"
        vendor.add_fault(Fault(fault="item_error", code=813, message=refused, times=7))

    def _people(self, beat: int) -> None:
        """What people do: an org is paused for a moment, and a mistyped badge mended now and then."""
        if beat == 1:
            self._operator("stocktaking").pause(SHOPS)
        elif beat == 4:
            self._operator("stock is taken").resume(SHOPS)
        elif beat % 150 == 120:
            which = Filter(kind=DeadKind.REJECTED, badge=MISTYPED_BADGE)
            changes = {"badgeMetaId": GOOD_BADGES[0]}
            replaying.replay_all(self._operator("a typing error"), which, changes=changes)

    def _operator(self, note: str) -> Operator:
        orgs = self.settings.orgs()
        reports = JobReader(client=self.queue.client, orgs=orgs)
        return Operator(self.queue, reports, orgs, this_user(), note)


def _take(chunks: Iterable[object]) -> None:
    for _ in chunks:
        pass

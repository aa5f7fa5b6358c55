"""What commands say of one and of two: nouns and verbs have the form of their number, in every message."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hands import bury, issue_next
from support import BADGE, FIRST_CUSTOMER, LONG, badge, configured, environment, in_process, item

from worker.domain.batch import Item
from worker.sandbox.server import SandboxServer
from worker.server.connection import Connection
from worker.store.queue import Queue, new_id
from worker.store.record import badge_fields

ORG = configured()
WORDS = (
    *("argument", "badge", "byte", "call", "cell", "column", "customer", "dead letter", "duplicate", "job"),
    *("good row", "item", "letter", "profile", "request", "result", "row", "run", "worker"),
)
ONE = re.compile(rf"(?<![\w.:,-])1 (?:{'|'.join(WORDS)})s\b|(?<![\w.:,-])1 (?:\w+ )?(?:are|were|have|wait)\b")
TWO = re.compile(rf"(?<![\w.:,-])2 (?:{'|'.join(WORDS)})\b|(?<![\w.:,-])2 (?:\w+ )?(?:is|was|has|waits)\b")
ACTS = (
    "status",
    "run list",
    "run show spring",
    "run show won",
    "run show file",
    "run follow won",
    "dead list",
    "dead groups",
    "dead groups --run spring",
    "dead replay --kind rejected --dry-run",
    "dead replay --kind rejected --set customerId=9 --dry-run",
    "dead replay --kind in_doubt",
    "dead discard --kind rejected",
    "dead discard --kind in_doubt --dry-run",
    "dead check --dry-run",
    "dead check",
    "dead resolve --from {said} --dry-run",
    "dead resolve --from {said}",
    "run cancel spring --dry-run",
    "run cancel spring",
    "run undo won",
    "run undo won --dry-run",
    "forget --customer 777 --dry-run",
    "forget --customer 777",
    "find --customer 777",
    "results --run file -o {folder}/report.csv --format csv",
    "results --limit {n}",
    "import {file} --run again --allow-duplicates --without-dates",
    "import {file} --dry-run --without-dates",
    "dead replay --kind rejected",
    "dead resolve --from {said} --yes",
    "dead discard --kind exhausted --yes",
    "run cancel spring --yes",
    "run undo won --yes",
    "doctor",
    "audit",
    "status",
)


def _with(number: int, queue: Queue) -> None:
    """Have as many jobs of each kind."""
    queue.enqueue(ORG, run="won", items=[item(40 + n) for n in range(number)], call=new_id())
    assert issue_next(queue, ORG) == number
    for first, kind in ((100, "rejected"), (200, "in_doubt"), (300, "exhausted")):
        bury(queue, ORG, range(first, first + number), kind=kind)
    queue.enqueue(ORG, run="spring", items=[item(400 + n) for n in range(number)], call=new_id())
    theirs = [Item(f"mine-{n}", str(n), badge_fields(badge(777 - FIRST_CUSTOMER))) for n in range(number)]
    queue.enqueue(ORG, run="mine", items=theirs, call=new_id())


def _files(number: int, folder: Path) -> dict[str, str]:
    """Write as many rows that are good, equal to others, near others, and bad; and what support said."""
    dated = "1705828011,1893456000"
    rows = [f"{BADGE},{900 + n},{dated}" for n in range(number)] * 2
    rows += [f"{BADGE},{900 + n},1705828012,1893456000" for n in range(number)]
    rows += [f",{950 + n},{dated}" for n in range(number)]
    file = folder / "members.csv"
    file.write_text("badgeMetaId,customerId,earnEventDate,earnExpiresOn\n" + "\n".join(rows) + "\n")
    said = folder / "said.csv"
    words = [f"{item(200 + n).id},no\n" for n in range(number)]
    said.write_text("job_id,issued\n" + "".join(words) + "nobody,yes\n" * number)
    return {"file": str(file), "said": str(said), "folder": str(folder), "n": str(number)}


@LONG
@pytest.mark.parametrize(("number", "wrong"), [(1, ONE), (2, TWO)])
@pytest.mark.usefixtures("client")  # whose database is empty
def test_every_message_has_the_form_of_its_number(
    connection: Connection, sandbox: SandboxServer, tmp_path: Path, number: int, wrong: re.Pattern[str]
) -> None:
    """What is shown, asked, refused and done; with what progress says beside it."""
    env = environment(redis_url=connection.url, api_base_url=sandbox.url, batch_linger_s=0)
    with connection.client() as client:
        _with(number, Queue(client))
    named = _files(number, tmp_path)
    told: list[str] = []
    first = [f"import {named['file']} --run file" for _ in range(2)]
    for act in (*first, *ACTS):
        done = in_process(*(word.format(**named) for word in act.split()), env=env)
        assert "Traceback" not in done.err
        said = " ".join((done.out + done.err).split())
        told += [f"{act}: …{said[max(0, it.start() - 30) : it.end() + 30]}…" for it in wrong.finditer(said)]
    assert told == []

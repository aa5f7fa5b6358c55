"""How long it takes to find a customer among many: ``python tests/bench/finding.py [--jobs N] [--badges B]``.

A script on the server seeds jobs of an org with so many badges: what is remembered of each, and its record,
but for every tenth, as if its result had expired. Then customers are looked for that the store accepted in
the usual way among them, and others that have nothing.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from random import Random
from statistics import median

from stage import Server, server

from worker.domain.badge import Badge
from worker.domain.batch import Item
from worker.domain.identity import content_id
from worker.domain.org import Org
from worker.operate.runs import JobReader
from worker.operate.search import Sought, find
from worker.store import keys
from worker.store.queue import Queue
from worker.store.record import BUCKET_LETTERS, MANY, Field, badge_fields

TEN_MILLION, CHUNK, TRIES = 10_000_000, 2_000, 50
ORG = Org(name="default", max_queued=10**9)
FIRST_CUSTOMER = 500_000_000
# Ids are random letters, so that they stand for jobs of anybody; a record is as long as that of a result.
SEED = """
math.randomseed(tonumber(ARGV[1]))
local letters = 'abcdefghijklmnopqrstuvwxyz234567'
local few, many, born = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local pairs_of = {}
for n = 0, 1023 do
  local a, b = math.floor(n / 32) + 1, n % 32 + 1
  pairs_of[n + 1] = letters:sub(a, a) .. letters:sub(b, b)
end
local function new_id()
  local its = {}
  for n = 1, 10 do its[n] = pairs_of[math.random(1024)] end
  return table.concat(its)
end
local records, rest = {}, ('.'):rep(tonumber(ARGV[6]))
for n = 1, tonumber(ARGV[2]) do
  local id = new_id()
  local width = born + n > many and few + 1 or few
  redis.call('ZADD', KEYS[1] .. id:sub(1, width), 'NX', 0, id:sub(width + 1))
  if n % 10 ~= 0 then
    records[#records + 1], records[#records + 2] = KEYS[2] .. id, rest
  end
end
redis.call('MSET', unpack(records))
return redis.call('INCRBY', KEYS[3], ARGV[2])
"""
RECORD_BYTES = 230


def badges(count: int) -> list[str]:
    """Return the badges of the org."""
    return [f"696f0fd40772ad476ecf{n:04x}" for n in range(count)]


def items(badge_ids: Sequence[str]) -> Iterator[Item]:
    """Yield the jobs of customers that are looked for: each has three badges."""
    for n in range(3 * len(badge_ids)):
        badge = Badge(badge_ids[n % len(badge_ids)], FIRST_CUSTOMER + n // 3, earn_event_date=1_674_292_011)
        yield Item(content_id(ORG.name, badge), str(n), badge_fields(badge))


def seed(running: Server, jobs: int, badge_ids: Sequence[str]) -> None:
    """Bring all in, the log switched off meanwhile."""
    queue, client = Queue(running.client), running.client
    client.config_set("appendonly", "no")
    its = list(items(badge_ids))
    for at in range(0, len(its), 1000):
        queue.enqueue(ORG, run="r", items=its[at : at + 1000], call=queue.new_id())
    its_keys = [keys.key(ORG.name, name) for name in ("memory", "job", "remembered")]
    script = client.register_script(SEED)
    for at in range(len(its), jobs, CHUNK):
        script(its_keys, [at, min(CHUNK, jobs - at), BUCKET_LETTERS[0], MANY, at, RECORD_BYTES])


def looked_for(badge_count: int) -> Iterator[tuple[str, Sought, int]]:
    """Yield what is looked for, in words, and how many jobs are to be found at least."""
    its = list(items(badges(badge_count)))
    for job in Random(1).choices(its, k=TRIES):
        badge, customer = job.fields[Field.BADGE_META_ID], int(job.fields[Field.CUSTOMER_ID])
        yield "--customer", Sought(customer=customer), 3
        yield "--customer --badge", Sought(customer=customer, badge=badge), 1
        yield "--customer, of whom there is none", Sought(customer=customer + 10**8), 0
        yield "--job", Sought(job=job.id), 1


def main() -> None:
    """Seed, look, and print how long it took."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=TEN_MILLION)
    parser.add_argument("--badges", type=int, default=200)
    given = parser.parse_args()
    with server() as running:
        began = time.perf_counter()
        seed(running, given.jobs, badges(given.badges))
        used_gib, took_s = running.client.info("memory")["used_memory"] / 2**30, time.perf_counter() - began
        print(f"{given.jobs:,} jobs, {given.badges} badges: seeded in {took_s:.0f} s, {used_gib:.1f} GiB")
        reports, times = JobReader(client=running.client, orgs={"default": ORG}), dict[str, list[float]]()
        for what, sought, least in looked_for(given.badges):
            began = time.perf_counter()
            found = list(find(reports, sought))
            times.setdefault(what, []).append(time.perf_counter() - began)
            assert len(found) >= least, (sought, found)
        for what, its in times.items():
            print(
                f"badges find {what:<36}{1000 * median(its):>9.1f} ms p50{1000 * max(its):>9.1f} ms at most"
            )


if __name__ == "__main__":
    main()

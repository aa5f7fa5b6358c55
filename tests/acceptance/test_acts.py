"""Acts that can lose work or issue a badge twice: shown with their number, asked about, or refused."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest
import redis
from hands import bury, issue_next
from support import BADGE, FIRST_CUSTOMER, configured, environment, in_process, item, some
from terminal import terminal

from worker.domain.batch import Replay
from worker.domain.job import DeadKind
from worker.operate import deadlist
from worker.operate.deadlist import Filter
from worker.operate.profiles import Profile, Profiles
from worker.operate.runs import JobReader
from worker.server.connection import Connection
from worker.store import keys
from worker.store.queue import Queue, new_id

ORG = configured()
REPLAY = "replay-0000aaaa"


class Place(NamedTuple):
    """A database with two jobs that wait, two of a replay, and dead letters of two kinds."""

    client: redis.Redis
    env: dict[str, str]
    folder: Path

    def told(self, act: tuple[str, ...]) -> list[str]:
        """Return an act with the files that it names."""
        toml, report = self.folder / "members.toml", self.folder / "report.csv"
        toml.write_text('name = "members"\n[columns]\nBadge = "badgeMetaId"\n')
        jobs = "".join(f"{item(n).id},yes\n" for n in (10, 11, 12))
        report.write_text(f"job_id,issued\n{jobs}")
        return [{"TOML": str(toml), "REPORT": str(report)}.get(word, word) for word in act]

    def reader(self) -> JobReader:
        """Return what reads it."""
        return JobReader(client=self.client, orgs={"default": ORG})

    def dead(self) -> dict[str, int]:
        """Count its dead letters by kind."""
        return deadlist.count(self.reader(), Filter())

    def state(self) -> list[object]:
        """Return what an act would change: dead letters, lanes, and how many records there are."""
        lanes = [self.client.lrange(keys.key("default", lane), 0, -1) for lane in ("queue", "urgent")]
        profiles = [profile.columns for profile in Profiles(Queue(self.client), "default").all()]
        records = len(self.client.keys("*/j/*"))
        return [self.dead(), lanes, records, profiles, self.client.zcard(AUDITS)]


COLUMNS = {"Badge": "badgeMetaId", "Id": "customerId"}
AUDITS = keys.key("default", "audits")


@pytest.fixture
def place(empty: Connection, client: redis.Redis, tmp_path: Path) -> Place:
    """The server with all that."""
    queue = Queue(client)
    queue.enqueue(ORG, run="won", items=[item(n) for n in (40, 41, 42)], call=new_id())
    issue_next(queue, ORG)
    queue.enqueue(ORG, run="bulk", items=[item(n) for n in (1, 2)], call=new_id())
    bury(queue, ORG, range(10, 13), kind="in_doubt")
    bury(queue, ORG, range(20, 24), kind="rejected")
    bury(queue, ORG, range(30, 32), kind="exhausted")
    again = [Replay(item(n).id) for n in (30, 31)]
    queue.replay(ORG, run=REPLAY, items=again, call=new_id())
    Profiles(queue, "default").save(Profile("members", COLUMNS), "somebody")
    client.delete(AUDITS)
    return Place(client, environment(redis_url=empty.url, batch_linger_s=0), tmp_path)


# What is done, the option that names the danger, how many jobs, and what is told of them. TOML is a file with
# another profile "members", REPORT one that says of three jobs in doubt what became of them.
ACTS = {
    "discard": (("dead", "discard", "--kind", "rejected"), "--yes", 4, "4 dead letters (4 rejected)"),
    "discard by run": (("dead", "discard", "--run", "spr"), "--yes", 7, "7 dead letters"),
    "cancel a run": (("run", "cancel", "bulk"), "--yes", 2, "2 jobs of run bulk would be cancelled"),
    "cancel a replay": (("dead", "cancel", REPLAY), "--yes", 2, f"2 jobs of {REPLAY} would be cancelled"),
    "replay what is in doubt": (
        ("dead", "replay", "--kind", "in_doubt"), "--may-issue-twice", 3,
        "3 jobs in doubt would be sent again",
    ),
    "replay some": (
        ("dead", "replay", "--kind", "in_doubt", "--limit", "1"), "--may-issue-twice", 1,
        "1 job in doubt would be sent again",
    ),
    "undo a run": (("run", "undo", "won"), "--yes", 3, "3 badges would be taken back from their customers"),
    "undo by filter": (
        ("run", "undo", "--customer", f"{FIRST_CUSTOMER + 40}"), "--yes", 1,
        "1 badge would be taken back from its customer",
    ),
    "undo a job": (("job", "undo", item(41).id), "--yes", 1, "1 badge would be taken back"),
    "forget a customer": (
        ("forget", "--customer", f"{FIRST_CUSTOMER + 40}"), "--yes", 1,
        "of customer 500000040 would be forgotten for good",
    ),
    "replace a profile": (("profiles", "load", "TOML"), "--yes", None, "members, made by somebody"),
    "resolve by a file": (
        ("dead", "resolve", "--from", "REPORT"), "--yes", 3, "3 would end as issued",
    ),
    "mend what is in doubt": (
        ("dead", "replay", "--kind", "in_doubt", "--set", f"customerId={BADGE[:3]}"), "--may-issue-twice", 1,
        "3 jobs in doubt",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ACTS)
@pytest.mark.parametrize("form", [(), ("--json",)], ids=["words", "json"])
def test_an_act_is_refused_where_nobody_can_be_asked(place: Place, name: str, form: tuple[str, ...]) -> None:
    """Exit 2, what and how many, the option that allows it; and nothing is changed, nor in the trail."""
    act, flag, _, told = ACTS[name]
    before = place.state()
    done = in_process(*place.told(act), *form, env=place.env)
    assert done.status == 2
    assert not (form and done.out)
    assert told in done.err
    assert f"add {flag}" in done.err
    assert place.state() == before


@pytest.mark.parametrize("name", ACTS)
def test_an_act_is_shown_without_being_done(place: Place, name: str) -> None:
    """A dry run says how many, for people and programs, needs no option, and changes nothing."""
    act, _, number, _ = ACTS[name]
    before = place.state()
    act = place.told(act)
    said = in_process(*act, "--dry-run", "--json", env=place.env)
    assert said.status == 0, said.err
    assert said.json()["dry_run"] is True
    shown = in_process(*act, "--dry-run", env=place.env).out
    assert number is None or (number in said.json().values() and f"{number:,}" in shown), said
    assert place.state() == before


@pytest.mark.parametrize("name", ACTS)
def test_an_act_that_is_allowed_is_done_and_kept(place: Place, name: str) -> None:
    """With its option, it does what it said, and the trail has its number and its note."""
    act, flag, number, _ = ACTS[name]
    done = in_process(*place.told(act), flag, "--note", "ticket 7", "--json", env=place.env)
    assert done.status == 0, done.err
    assert number is None or number in done.json().values()
    (entry,) = in_process("audit", "--json", env=place.env).json()
    assert (entry["note"], entry["count"]) == ("ticket 7", number)


@pytest.mark.parametrize(
    ("act", "only"),
    [
        (("run", "cancel", "", "--yes"), "bulk"),
        (("run", "undo", "", "--yes"), "won"),
        (("dead", "discard", "--run", "", "--yes"), "spring"),
        (("dead", "replay", "--run", ""), "spring"),
        (("results", "--run", ""), "bulk"),
        (("dead", "discard", "--kind", "rejected", "--org", "", "--yes"), "spring"),
        (("dead", "replay", "--org", ""), "spring"),
    ],
)
def test_an_empty_name_is_not_all_there_are(place: Place, act: tuple[str, ...], only: str) -> None:
    """A script's variable without a value names nothing: not the only run that there is, nor every org."""
    began = keys.key("default", "runs")
    assert place.client.zrem(began, *(set(place.client.zrange(began, 0, -1)) - {only}))
    before = place.state()
    done = in_process(*act, env=place.env)
    assert done.status in (1, 2), done
    assert f"there is no {'org' if '--org' in act else 'run'} ''" in done.err
    assert place.state() == before


def test_another_acts_option_does_not_allow_it(place: Place) -> None:
    """``--yes`` says nothing about a second badge."""
    before = place.state()
    done = in_process("dead", "replay", "--kind", "in_doubt", "--yes", env=place.env)
    assert (done.status, place.state()) == (2, before)


def test_what_was_certainly_rejected_is_replayed_unasked(place: Place) -> None:
    """No option is needed; nor for a fact about one job, nor where there is nothing to act on."""
    assert in_process("dead", "replay", "--kind", "rejected", "--json", env=place.env).json()["replayed"] == 4
    resolve = ("dead", "resolve", item(10).id, "--issued", "--json")
    assert in_process(*resolve, "--dry-run", env=place.env).json()["dry_run"] is True
    assert place.dead()["in_doubt"] == 3
    assert in_process(*resolve, env=place.env).json()["state"] == "issued"
    assert place.dead()["in_doubt"] == 2
    for act in (
        ("dead", "discard", "--code", "none"),
        ("dead", "replay", "--kind", "in_doubt", "--code", "x"),
    ):
        assert in_process(*act, env=place.env).status == 0


def test_importing_equal_rows_again_is_asked_about(place: Place, tmp_path: Path) -> None:
    """``--allow-duplicates`` may issue a badge twice: how many rows, and ``--yes``; it is in the trail."""
    file = tmp_path / "members.csv"
    file.write_text(f"badgeMetaId,customerId\n{BADGE},1\n{BADGE},1\n{BADGE},x\n")
    act, before = ("import", file, "--allow-duplicates", "--run", "twice"), place.state()
    for form in ((), ("--json",)):
        done = in_process(*act, *form, env=place.env)
        assert (done.status, done.out) == (2, "")
        assert "2 good rows would go in as new jobs" in done.err
        assert "add --yes" in done.err
    piped = in_process("import", "-", *act[2:], env=place.env, stdin=file.read_text())
    assert (piped.status, place.state()) == (2, before)
    done = in_process(*act, "--yes", "--note", "second prize", "--json", env=place.env)
    assert (done.status, done.json()["accepted"]) == (3, 2)
    (entry,) = in_process("audit", "--json", env=place.env).json()
    assert (entry["action"], entry["note"], entry["count"]) == ("import", "second prize", None)
    assert entry["which"] == {"run": "twice", "file": str(file), "allow_duplicates": True}


def test_what_dies_after_the_question_is_left_alone(place: Place) -> None:
    """A person allows what was shown, and no more."""
    reader = place.reader()
    shown = Filter(kind=DeadKind.REJECTED, until_ms=deadlist.now_ms(reader))
    before = deadlist.count(reader, shown)
    while deadlist.now_ms(reader) <= (shown.until_ms or 0):
        pass
    bury(Queue(place.client), ORG, range(50, 55), kind="rejected")
    assert deadlist.count(reader, shown) == before == {"rejected": 4}
    assert deadlist.count(reader, Filter(kind=DeadKind.REJECTED)) == {"rejected": 9}
    assert "until_ms" not in shown.as_json()


@pytest.mark.parametrize(
    ("number", "answer", "status"),
    some([(5, "y", 0), (150, "149", 1), (150, "150", 0), (5, "n", 1), (150, "y", 1), (1500, "1,500", 0)], 3),
)
def test_a_large_act_wants_its_number_at_a_terminal(
    place: Place, number: int, answer: str, status: int
) -> None:
    """A few are agreed to with a letter; from a hundred on the number is typed, and another is a no."""
    bury(Queue(place.client), ORG, range(1000, 1000 + number), kind="cancelled")
    with terminal("dead", "discard", "--kind", "cancelled", env=place.env) as screen:
        screen.until("[y/N]" if number < 100 else "to go on")
        screen.type(answer)
        assert screen.end() == status, screen.shown
    assert f"{number:,} dead letters" in screen.shown
    assert place.dead().get("cancelled", 0) == (0 if status == 0 else number)

"""What programs get: one JSON value that keeps to its schema, a run by a beginning of its name, a status."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import hands
import jsonschema
import pytest
import redis
from support import BADGE, FIRST_CUSTOMER, OTHER_BADGE, Outcome, configured, environment, in_process, item

from worker.cli.shapes import SHAPES, schema
from worker.domain.batch import Item
from worker.server.connection import Connection
from worker.store.queue import Queue, new_id

ORG = configured(batch_size=10)
HEADER = "badgeMetaId,customerId,earnEventDate,earnExpiresOn\n"


class Place(NamedTuple):
    """A database with two runs of a file, of which a job is issued and others are dead."""

    client: redis.Redis
    env: dict[str, str]
    folder: Path

    def run(self, *arguments: object, stdin: str = "") -> Outcome:
        """Run a command."""
        return in_process(*arguments, env=self.env, stdin=stdin)


@pytest.fixture
def place(empty: Connection, client: redis.Redis, tmp_path: Path) -> Place:
    """An empty server."""
    (tmp_path / "orgs.toml").write_text('[eu]\napi_base_url = "https://eu.example.com"\n')
    own = {"orgs_file": tmp_path / "orgs.toml", "batch_linger_s": 0, "rate_limit": "1000/second"}
    return Place(client, environment(redis_url=empty.url, **own), tmp_path)


def bury(place: Place, run: str, kind: str, *numbers: int) -> None:
    """Make dead letters of a run, which have a history."""
    its_call = "1700000000000 b1 200 - 812"
    hands.bury(Queue(place.client), ORG, numbers, run=run, kind=kind, history=its_call)


FILE = f"{HEADER}{BADGE},1,1674292011,1705828011\n{BADGE},x,,\n{BADGE},1,1674292011,1705828011\n"
# In the order in which they are run; each by the name of its shape.
COMMANDS: dict[str, tuple[object, ...]] = {
    "import --dry-run": ("import", "-", "--dry-run"),
    "import": ("import", "-", "--run", "spring"),
    "run list": ("run", "list"),
    "run show": ("run", "show", "spring"),
    "results": ("results",),
    "find": ("find", "--job", item(22).id),
    "job show": ("job", "show", item(22).id),
    "dead list": ("dead", "list"),
    "dead groups": ("dead", "groups"),
    "dead check": ("dead", "check", "--dry-run"),
    "dead resolve": ("dead", "resolve", item(21).id, "--issued"),
    "dead replay": ("dead", "replay", "--kind", "rejected"),
    "pause": ("pause",),
    "resume": ("resume",),
    "run cancel": ("run", "cancel", "bulk", "--yes"),
    "run follow": ("run", "follow", "bulk"),
    "dead discard": ("dead", "discard", "--kind", "cancelled", "--yes"),
    "status": ("status",),
    "run start": ("run", "start", "held"),
    "run undo": ("run", "undo", "bulk", "--dry-run"),
    "job undo": ("job", "undo", item(21).id, "--dry-run"),
    "forget": ("forget", "--customer", FIRST_CUSTOMER + 22, "--yes"),
    "audit": ("audit",),
}


def test_every_command_keeps_to_its_schema(place: Place, tmp_path: Path) -> None:
    """One JSON value each, with all the keys of its schema and no other; a dry run as well."""
    bury(place, "bulk", "in_doubt", 21)
    bury(place, "bulk", "rejected", 22, 23)
    Queue(place.client).enqueue(ORG, run="bulk", items=[item(3), item(4)], call=new_id())
    Queue(place.client).enqueue(ORG, run="held", items=[item(5)], call=new_id(), starts_ms=math.inf)
    for name, command in COMMANDS.items():
        if name == "dead resolve":
            check("dead resolve", place.run(*command, "--dry-run", "--json"))
        if name in ("run cancel", "dead discard", "forget"):
            check(name, place.run(*command, "--dry-run", "--json"))
        said = place.run(*command, "--json", stdin=FILE)
        check(name, said)
        if name == "dead replay":
            replay = said.json()["replay"]
    check("dead cancel", place.run("dead", "cancel", replay, "--yes", "--json"))
    check("dead follow", place.run("dead", "follow", replay, "--json"))
    hands.issue_next(Queue(place.client), ORG)
    followed = place.run("import", "-", "--run", "again", "--follow", "--json", stdin=FILE)
    check("import", followed)
    assert followed.json()["followed"]["run"] == "again"
    doctor = place.run("doctor", "--json")
    assert doctor.status in (0, 1)
    check("doctor", doctor._replace(status=0))
    profiles = check_profiles(place, tmp_path)
    assert set(COMMANDS) | {"dead cancel", "dead follow", "doctor"} | profiles == set(SHAPES)


def check_profiles(place: Place, folder: Path) -> set[str]:
    """Hold the commands about profiles against their schemas; returns which those are."""
    file = folder / "members.toml"
    file.write_text('name = "members"\n[columns]\nBadge = "badgeMetaId"\n')
    check("profiles load", place.run("profiles", "load", file, "--json"))
    check("profiles list", place.run("profiles", "list", "--json"))
    check("profiles show", place.run("profiles", "show", "members", "--json"))
    check("profiles load", place.run("profiles", "load", file, "--dry-run", "--json"))
    check("profiles remove", place.run("profiles", "remove", "members", "--dry-run", "--json"))
    check("profiles remove", place.run("profiles", "remove", "members", "--note", "old", "--json"))
    return {name for name in SHAPES if name.startswith("profiles ")}


def check(name: str, said: Outcome) -> None:
    """Hold what a command printed against its schema."""
    assert said.status in (0, 3), (name, said)
    shape = schema(name)
    value = said.json()
    jsonschema.validate(value, closed(shape))
    assert json.loads(in_process("schema", *name.replace("--", "-- --").split(), env={}).out) == shape
    if isinstance(value, list) and name != "status":
        assert value, f"{name} printed nothing to check"


def closed(shape: Any) -> Any:
    """Return a schema that allows no key but those it names, so that none is forgotten in it."""
    if isinstance(shape, list):
        return [closed(part) for part in shape]
    if not isinstance(shape, dict):
        return shape
    inner = {name: closed(part) for name, part in shape.items()}
    return inner | ({"additionalProperties": False} if "properties" in shape else {})


@pytest.mark.parametrize(
    "command", [("dead", "list"), ("dead", "groups"), ("run", "list"), ("audit",), ("results",)]
)
def test_a_listing_in_every_form(place: Place, command: tuple[str, ...]) -> None:
    """An array, lines, or words, cut where ``--limit`` says, with how many more there are."""
    for n in range(1, 6):
        bury(place, f"run-{n}", ("rejected", "exhausted")[n % 2], n, 10 + n)
        place.run("pause")
    whole = place.run(*command, "--json").json()
    lines = [json.loads(line) for line in place.run(*command, "--jsonl").out.splitlines()]
    assert whole == lines
    few = place.run(*command, "--json", "--limit", "1")
    assert few.json() == (whole[-1:] if command == ("run", "list") else whole[:1])
    assert f"{len(whole) - 1} " in few.err
    shown = place.run(*command, "--limit", "1")
    assert f"{len(whole) - 1} " in shown.out + shown.err
    assert place.run(*command, "--json", "--jsonl").status == 2


def test_a_run_by_a_beginning(place: Place) -> None:
    """Of its name, where that is its alone; a whole name goes first; ``last`` is the newest."""
    for n, run in enumerate(("members-1a", "members-1a2b", "members-9c", "other"), 1):
        bury(place, run, "rejected", n)
    shown = {
        text: place.run("run", "show", text, "--json") for text in ("members-9", "members-1a", "last", "o")
    }
    assert {text: said.json()["run"] for text, said in shown.items()} == {
        "members-9": "members-9c", "members-1a": "members-1a", "last": "other", "o": "other",
    }  # fmt: skip
    commands = (
        ("run", "show", "{}"), ("run", "follow", "{}"), ("run", "cancel", "{}"), ("results", "--run", "{}"),
        ("dead", "list", "--run", "{}"), ("dead", "groups", "--run", "{}"), ("dead", "replay", "--run", "{}"),
        ("dead", "discard", "--run", "{}", "--yes"),
    )  # fmt: skip
    for command in commands:
        said = place.run(*(part.format("members") for part in command))
        assert said.status == 2, command
        assert "members-1a (org default), members-1a2b (org default), members-9c (org default)" in said.err
        assert place.run(*(part.format("none") for part in command)).status == 1, command
    rows = place.run("results", "--run", "last", "--json").json()
    assert [row["run"] for row in rows] == ["other"]
    assert len(place.run("dead", "list", "--run", "members-1a2", "--json").json()) == 1


def test_the_newest_run_of_an_org(place: Place) -> None:
    """``last`` is that of the org which is chosen, or of all; a name that two orgs have is asked about."""
    bury(place, "here", "rejected", 1)
    it = item(2, org="eu")
    Queue(place.client).enqueue(configured(name="eu"), run="there", items=[it], call=new_id())
    Queue(place.client).enqueue(configured(name="eu"), run="here", items=[item(5, org="eu")], call=new_id())
    assert place.run("run", "show", "last", "--org", "default", "--json").json()["run"] == "here"
    assert place.run("run", "show", "last", "--json").json()["org"] == "eu"
    both = place.run("run", "cancel", "here", "--yes")
    assert (both.status, "here (org default), here (org eu)" in both.err) == (2, True)
    assert place.run("run", "show", "here", "--org", "eu", "--json").json()["org"] == "eu"


@pytest.mark.parametrize("option", [(), ("--dry-run",), ("--follow",)])
def test_no_file_makes_a_run_that_hides_the_newest(place: Place, option: tuple[str, ...]) -> None:
    """A run called ``last`` would be what ``last`` means from then on; a dry run says so as well."""
    refused = place.run("import", "-", "--run", "last", *option, stdin=FILE)
    assert (refused.status, "'last' is no name for a run: it stands for the newest" in refused.err) == (
        2,
        True,
    )
    assert place.run("run", "list", "--json").json() == []


@pytest.mark.parametrize(
    ("fail_on", "good", "invalid", "dead"),
    [(None, 0, 3, 0), ("never", 0, 0, 0), ("invalid", 0, 3, 0), ("dead", 0, 3, 0)],
)
def test_how_an_import_ends(place: Place, fail_on: str | None, good: int, invalid: int, dead: int) -> None:
    """0 or 3, for good rows, for invalid ones, and for duplicates of dead letters, which never change it."""
    option = ("--fail-on", fail_on) if fail_on else ()
    rows = {
        good: f"{HEADER}{BADGE},1,1674292011,1705828011\n",
        invalid: f"{HEADER}{BADGE},x,1674292011,1705828011\n",
    }
    for how in ((), ("--dry-run",)):
        done = [place.run("import", "-", *how, *option, stdin=text) for text in dict.fromkeys(rows.values())]
        assert [one.status for one in done][: len(rows)] == list(rows)
    bury(place, "bulk", "rejected", 1)
    duplicate = f"{HEADER}{BADGE},{item(1).fields['customer']},1674292011,\n"
    assert place.run("import", "-", *option, stdin=duplicate).status == dead


@pytest.mark.parametrize(("fail_on", "status"), [(None, 3), ("dead", 3), ("invalid", 0), ("never", 0)])
def test_how_following_ends(place: Place, fail_on: str | None, status: int) -> None:
    """A run that ended with dead letters is told to a cron job; what was handled since isn't."""
    bury(place, "bulk", "rejected", 1, 2)
    option = ("--fail-on", fail_on) if fail_on else ()
    assert place.run("run", "follow", "bulk", *option).status == status
    assert place.run("run", "show", "bulk", *()).status == 0
    place.run("dead", "discard", "--run", "bulk", "--yes")
    assert place.run("run", "follow", "bulk", *option).status == 0


def test_following_an_import_looks_at_the_dead(place: Place) -> None:
    """By default at all of them, invalid rows included; a refusal or a failure goes before."""
    row = f"{HEADER}{BADGE},x,1674292011,1705828011\n"
    assert place.run("import", "-", "--run", "a", "--follow", stdin=row).status == 3
    assert place.run("import", "-", "--run", "a", "--follow", "--fail-on", "never", stdin=row).status == 0
    assert place.run("dead", "replay", "--kind", "rejected", "--fail-on", "dead").status == 0


def test_a_row_is_a_row_of_a_file(place: Place) -> None:
    """A number where there was a file, null where there was none; never an id, whatever that looks like."""
    queue = Queue(place.client)
    fields = {"attempts": "1", "code": "812", "message": "no good"}
    for own, row in (("12345", "7"), ("b", "call.3")):
        it = item(int(row[-1]))
        queue.enqueue(ORG, run="r", call=new_id(), items=[
            Item(own, row, {**it.fields, **fields, "fingerprint": it.id}, kind="rejected")
        ])  # fmt: skip
    found = {row["job_id"]: row["row"] for row in place.run("dead", "list", "--json").json()}
    assert found == {"12345": 7, "b": None}
    job = place.run("job", "show", "b", "--json").json()
    assert (job["row"], job["came_from"]) == (None, "call.3")
    assert "correct it and hand it in again" in job["reason"]
    replay = place.run("dead", "replay", "--run", "r", "--set", f"badgeMetaId={OTHER_BADGE}", "--json").json()
    rows = place.run("results", "--run", replay["run"], "--json").json()
    assert sorted(row["row"] or 0 for row in rows) == [0, 7]


def test_the_report_brings_every_column_back(place: Place) -> None:
    """Also those that were mapped away, as they were, behind its own; they don't disturb its import."""
    file = place.folder / "members.csv"
    names = ("Name", "Status", "Row", "earnEventDate", "É, “x”")
    own = ["=Bob", "Ann", "x" * 300, "2025-09-10", "1-2"]
    with file.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["badgeMetaId", "customerId", "job_id", *names])
        writer.writerow([BADGE, "C-7", "own-1", *own])
        writer.writerow([BADGE, "8", "own-2", "Cy", "", "", "", ""])
    maps = [part for name in names for part in ("--map", f"{name}=")]
    done = place.run("import", file, "--run", "first", "--without-dates", *maps)
    assert done.status == 3, done
    (dead,) = place.run("results", "--run", "first", "--state", "dead", "--json").json()
    assert dead["columns"] == dict(zip(names, [*own[:2], f"{'x' * 200}…", *own[3:]], strict=True))
    report = place.folder / "report.csv"
    place.run("results", "--run", "first", "--format", "csv", "-o", report)
    table = list(csv.DictReader(io.StringIO(report.read_text("utf-8-sig"))))
    told = [*names[:2], "Row (of the file)", "earnEventDate (of the file)", names[4]]
    assert list(table[0])[-5:] == told
    assert [table[0][name] for name in told] == ["'=Bob", "Ann", f"{'x' * 200}…", "'2025-09-10", "'1-2"]
    assert [table[1][name] for name in told] == ["Cy", "", "", "", ""]
    report.write_text(report.read_text("utf-8-sig").replace("C-7", "7"))
    again = place.run("import", report, "--run", "mended", "--json")
    assert (again.status, again.json()["accepted"]) == (0, 1), again
    (new,) = place.run("results", "--run", "mended", "--json").json()
    assert (new["customerId"], new["columns"]) == (7, dead["columns"])
    old = place.run("results", "--run", "first", "--json").json()[0]
    assert old["reason"].startswith("mended since: job ")
    lines = place.folder / "report.jsonl"
    place.run("results", "--run", "first", "-o", lines)
    assert place.run("import", lines, "--json").json()["duplicates"] == 2


def test_what_is_still_open(place: Place) -> None:
    """The list of runs counts the dead letters that need a person; a hint shows them wherever they are."""
    rows = "".join(f"{BADGE},C-{n},1674292011,1705828011\n" for n in range(30))
    place.run("import", "-", "--run", "first", stdin=HEADER + rows)
    report = place.folder / "report.csv"
    place.run("results", "--run", "first", "--format", "csv", "-o", report)
    report.write_text(report.read_text("utf-8-sig").replace("C-3,", "3,").replace("C-", "D-"))
    mended = place.run("import", report, "--run", "mended")
    assert mended.status == 3
    hint = (
        mended.out.partition("all of them: badges ")[2].splitlines()[0].removesuffix("-o report.csv").split()
    )
    assert len(place.run(*hint).out.splitlines()) == 30  # 29 rows, and the columns' names
    (first, _) = place.run("run", "list", "--json").json()
    assert (first["dead"], first["handled"], first["unhandled"]) == (30, 1, 29)
    listed = place.run("run", "list").out
    assert [line.split()[5] for line in listed.splitlines() if line.split()[:1] == ["first"]] == ["29"]
    place.run("dead", "discard", "--run", "first", "--yes")
    reasons = [row["reason"] for row in place.run("results", "--run", "first", "--json").json()]
    assert sum(reason.startswith("discarded since: ") for reason in reasons) == 29
    assert sum(reason.startswith("mended since: ") for reason in reasons) == 1


def test_an_import_that_nobody_delivers(place: Place) -> None:
    """No worker: the rows are in, and it is said that they wait, beside what was accepted."""
    done = place.run("import", "-", stdin=f"{HEADER}{BADGE},1,1674292011,1705828011\n")
    assert done.status == 0
    assert "1 accepted" in done.out
    assert "what is accepted waits: no worker is alive" in done.err
    assert "badges up" in done.err


def test_what_a_check_knows(place: Place) -> None:
    """Duplicates and near-duplicates in the file and from before, what it takes, what an import would do."""
    it = f"{BADGE},{{}},1674292011,1705828011\n"
    first = HEADER + it.format(1) + it.format(2)
    assert place.run("import", "-", "--dry-run", "--json", stdin=first).json()["seconds"] is not None
    place.run("import", "-", stdin=first)
    rows = it.format(1) + it.format(2) + it.format(2) + it.format(3) + f"{BADGE},3,1674292012,1705828011\n"
    said = place.run("import", "-", "--dry-run", "--json", stdin=HEADER + rows).json()
    assert said["duplicates"] == {"in_file": 1, "before": 2, "in_file_rows": [4], "before_rows": [2, 3]}
    assert (said["rows"], said["good"], said["near_duplicates"]) == (5, 5, 1)
    assert said["badges"] == [{"badgeMetaId": BADGE, "rows": 5, "known": None}]
    assert (said["calls"], said["waiting"], said["near_duplicate_rows"]) == (1, 2, [6])
    assert said["seconds"] is None, "two wait, and no worker is alive: nobody knows"
    place.run("import", "-", "--json", stdin=HEADER + rows)
    counts = place.run("run", "show", "last", "--json").json()
    would = said["would"]
    told = {"accepted": counts["total"], "duplicates": counts["duplicates"], "invalid": 0, "held": 0}
    told |= {"again": 0}
    assert would == told
    away = place.env | {"BADGES_REDIS_URL": "redis://127.0.0.1:1"}
    blind = in_process("import", "-", "--dry-run", "--json", env=away, stdin=HEADER + rows)
    assert (blind.status, blind.json()["duplicates"]["before"]) == (0, None)
    assert (blind.json()["would"], blind.json()["calls"]) == (None, None)
    assert "isn't looked at" in blind.err


def test_a_check_of_a_file_that_is_cut_off(place: Place) -> None:
    """It tells what could be read, and that this isn't all; exit 1, as the import's."""
    text = f'[{{"badgeMetaId":"{BADGE}","customerId":"x"}},{{'
    done = place.run("import", "-", "--dry-run", "--json", stdin=text)
    assert (done.status, done.json()["invalid"], done.json()["would"]["invalid"]) == (1, 1, 1)
    assert "cut off" in done.json()["incomplete"]
    assert "cut off" in done.err

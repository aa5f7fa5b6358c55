"""A file of badges goes in: every good row once, every bad row with its number, field and reason."""

from __future__ import annotations

import codecs
import gzip
import io
import json
import os
import random
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, NamedTuple

import pytest
import redis
from celery import Celery
from openpyxl import Workbook
from samples import DEFAULT_BODY, SAMPLE
from support import (
    BADGE,
    LONG,
    OTHER_BADGE,
    PROGRAMS,
    Probe,
    badge,
    badges,
    badges_json,
    badges_process,
    configured,
    environment,
    process,
    some,
    wait_for,
    worker_command,
)

from worker.domain.batch import Item, Replay
from worker.domain.identity import content_id
from worker.enqueue import NEAR_DUPLICATE
from worker.files.reader import read_rows
from worker.operate.checking import Checking, check_rows
from worker.sandbox.server import SandboxServer
from worker.server.connection import Connection
from worker.store.queue import Queue
from worker.store.record import badge_fields

HEADER = "badgeMetaId,customerId,earnEventDate\n"
GOOD = f"{BADGE},7,1674292011\n"


class Here(NamedTuple):
    """A Redis that is empty, and the environment that leads to it."""

    client: redis.Redis
    env: dict[str, str]

    @property
    def probe(self) -> Probe:
        """What looks into its Redis."""
        return Probe(self.client)

    def dead(self, *options: object) -> list[dict[str, Any]]:
        """List dead letters."""
        return lines(badges("dead", "list", "--jsonl", *options, env=self.env).stdout)

    def results(self, *options: object) -> list[dict[str, Any]]:
        """Read results."""
        return lines(badges("results", *options, env=self.env).stdout)


@pytest.fixture
def here(empty: Connection, client: redis.Redis) -> Here:
    """The server, empty."""
    return Here(client, environment(redis_url=empty.url, broker_url=empty.broker_url))


def lines(output: bytes) -> list[dict[str, Any]]:
    """Read JSON Lines."""
    return [json.loads(line) for line in output.splitlines()]


def csv_rows(count: int, first: int = 1) -> bytes:
    """Write a CSV file with that many different badges."""
    rows = "".join(f"{BADGE},{first + n},1674292011\n" for n in range(count))
    return (HEADER + rows).encode()


def counts(said: dict[str, Any]) -> tuple[int, int, int]:
    """Return accepted, duplicates and invalid."""
    return said["accepted"], said["duplicates"], said["invalid"]


# What goes in


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("rows.csv", HEADER + GOOD + f"{OTHER_BADGE},8,\n", (2, 0, 0)),
        (
            "rows.jsonl",
            f'{{"badgeMetaId":"{BADGE}","customerId":7}}\n\n{{"customerId":8,"badgeMetaId":"{BADGE}"}}\n',
            (2, 0, 0),
        ),
        ("sample.json", SAMPLE, (2, 0, 0)),
        ("default.json", DEFAULT_BODY, (1, 1, 0)),
        ("bom.csv", codecs.BOM_UTF8.decode() + HEADER + GOOD, (1, 0, 0)),
        ("crlf.csv", (HEADER + GOOD + f"{BADGE},8,\n").replace("\n", "\r\n"), (2, 0, 0)),
        (
            "numbers.jsonl",
            f'{{"badgeMetaId":"{BADGE}","customerId":"7","earnExpiresOn":"1705828011"}}',
            (1, 0, 0),
        ),
    ],
)
def test_every_format_goes_in(
    here: Here, tmp_path: Path, name: str, content: str, expected: tuple[int, int, int]
) -> None:
    """Each kind of file is read, and the answer for programs has the contract's keys, in order."""
    file = tmp_path / name
    file.write_bytes(content.encode())
    said = badges_json("import", file, env=here.env)
    assert list(said) == ["run", "accepted", "duplicates", "invalid", "warnings", "near_duplicates", "held"]
    assert counts(said) == expected
    assert said["run"].startswith(file.stem)
    assert here.probe.count(said["run"], "total") == expected[0]


def test_utf_16_and_standard_input(here: Here) -> None:
    """What a spreadsheet writes is read as well, through a pipe; ``-`` is standard input."""
    content = codecs.BOM_UTF16_LE + (HEADER + GOOD).encode("utf-16-le")
    assert counts(badges_json("import", "-", env=here.env, stdin=content)) == (1, 0, 0)


def test_the_vendors_own_samples_are_delivered(here: Here, sandbox: SandboxServer, tmp_path: Path) -> None:
    """All three are issued; the one whose dates disagree carries a warning, and so does its result."""
    for run, body in (("sample", SAMPLE), ("default", DEFAULT_BODY)):
        badges("import", "-", "--run", run, env=here.env, stdin=body.encode())
    env = here.env | {"BADGES_API_BASE_URL": sandbox.url, "BADGES_BATCH_LINGER_S": "0"}
    with process(worker_command(), env=env, log=tmp_path / "worker.log"):
        wait_for(lambda: here.probe.count("sample") == 2 and here.probe.count("default") == 1)
    first, second = here.results("--run", "sample")
    assert first["warnings"] == ["earnEventDate is missing"]
    assert second["warnings"] == [
        "earnEventDate and earnEventDateISO disagree",
        "it expires before it is earned",
    ]
    assert [row["expiresOnISO"] for row in (first, second)] == [
        "2024-01-21T09:06:51Z",
        "2022-11-01T18:40:00Z",
    ]
    assert len(sandbox.vendor.ledger().issues) == 3
    assert not sandbox.vendor.ledger().issued_more_than_once


# Once and only once


def test_a_file_imported_again_is_all_duplicates(here: Here) -> None:
    """Under another name nothing is queued again; under the same name it is the same acceptance."""
    rows = csv_rows(2500)
    assert counts(badges_json("import", "-", "--run", "one", env=here.env, stdin=rows)) == (2500, 0, 0)
    assert counts(badges_json("import", "-", "--run", "two", env=here.env, stdin=rows)) == (0, 2500, 0)
    assert counts(badges_json("import", "-", "--run", "one", env=here.env, stdin=rows)) == (2500, 0, 0)
    counters = ("total", "queued", "duplicates")
    assert [here.probe.count("one", name) for name in counters] == [2500, 2500, 0]
    assert here.client.llen("{badges:default}/queue") == 2500


def test_allow_duplicates_wants_a_run_and_repeats_nothing(here: Here) -> None:
    """Equal rows are issued again if that is said; the same command again does nothing more."""
    rows = csv_rows(3) + csv_rows(3).split(b"\n", 1)[1]
    refused = badges("import", "-", "--allow-duplicates", env=here.env, stdin=rows, expect=2)
    assert b"--run" in refused.stderr
    assert b"Traceback" not in refused.stderr
    assert badges_json("import", "-", env=here.env, stdin=rows)["accepted"] == 3
    again = ("import", "-", "--allow-duplicates", "--yes", "--run", "twice")
    assert counts(badges_json(*again, env=here.env, stdin=rows)) == (6, 0, 0)
    assert counts(badges_json(*again, env=here.env, stdin=rows)) == (6, 0, 0)
    assert here.client.llen("{badges:default}/queue") == 3 + 6
    assert here.probe.count("twice", "total") == 6


def test_dry_run_accepts_nothing(here: Here) -> None:
    """Every row is checked, what is wrong is said in groups, with warnings, and nothing is written."""
    header = b"badgeMetaId,customerId,earnEventDate,earnExpiresOn\n"
    good = [f"{BADGE},{n},1674292011,1600000000" for n in (1, 2)]
    rows = [*[f"b,C-{n},," for n in range(1200)], "b,,,", *good]
    content = header + "\n".join([*rows, ""]).encode()
    done = badges("import", "-", "--dry-run", env=here.env, stdin=content, expect=3)
    said = done.stdout.decode().splitlines()
    assert [" ".join(line.split()) for line in said] == [
        "badgeMetaId → badgeMetaId: b",
        "customerId → customerId: C-0, C-1, C-2",
        "earnEventDate → earnEventDate: (empty)",
        "earnExpiresOn → earnExpiresOn: (empty)",
        "1,200 customerId: must be a whole number, not “C-0”, such as row 2",
        "1 customerId: is missing, such as row 1202",
        "2 it expires before it is earned, such as row 1203 (a warning)",
        "2 rows are good, 1,201 are not; nothing was enqueued.",
        (
            "Of the good ones, 0 equal an earlier row of the file, and 0 were accepted before; "
            "those aren't sent again."
        ),
        "An import would accept 2 rows, in 1 call: 1 s at the present limit.",
    ]
    counted = badges_json("import", "-", "--dry-run", env=here.env, stdin=content)
    assert (counted["valid"], counted["invalid"]) == (2, 1201)
    assert [(group["kind"], group["row"], group["count"]) for group in counted["groups"]] == [
        ("invalid", 2, 1200),
        ("invalid", 1202, 1),
        ("warning", 1203, 2),
    ]
    assert here.client.dbsize() == 0


def test_a_dry_run_keeps_little() -> None:
    """However many different things are wrong, the groups are few, and every fault is in one."""
    lines = "".join(f'{{"{chr(97 + n // 26)}{chr(97 + n % 26)}": 1}}\n' for n in range(300))
    *_, checking = check_rows(Checking(configured()), read_rows(io.BytesIO(lines.encode()), name="x.jsonl"))
    found = checking.result()
    assert len(found.faults) == 101
    assert found.invalid == 300
    assert sum(fault.count for fault in found.faults) == 3 * 300  # each lacks both of what it must have


def test_the_figures_add_up(here: Here) -> None:
    """What the run had already is told apart from what is new, and every row that was read is counted."""
    rows = csv_rows(3) + b"b,7,\nb,7,\n" + b"x,y,\n" * 2 + "".join(f"x,C-{n},\n" for n in range(30)).encode()
    first, again, other = (
        badges("import", "-", "--run", run, env=here.env, stdin=rows, expect=None).stdout.decode()
        for run in ("one", "one", "two")
    )
    report = "badges results --run one --state dead --format csv -o report.csv"
    assert f"  … and 12 more; all of them: {report}\n" in first
    assert "run one: 4 accepted, 2 duplicates, 31 invalid: 37 rows read\n  watch it: badges run" in first
    already = (
        "0 newly accepted, 4 in this run already (not sent again), 2 duplicates, 31 invalid: 37 rows read"
    )
    assert again.endswith(f"run one: {already}\n  nothing new to deliver\n")
    assert other.endswith("0 accepted, 37 duplicates, 0 invalid: 37 rows read\n  nothing new to deliver\n")
    known = badges("import", "-", env=here.env, stdin=csv_rows(3)).stdout.decode()
    assert known.endswith(": 3 rows read\n  nothing new: every row was known\n")
    assert "customerId: as wrong as before, and not mended: must be a whole number, not “y”" in other
    done = badges("import", "-", "--follow", env=here.env, stdin=HEADER.encode()).stdout.decode()
    assert "nothing new: the file has no rows" in done


def test_dead_letters_met_again_say_what_helps(here: Here) -> None:
    """A replay where that helps, and never where it would issue twice or is refused."""
    header = "badgeMetaId,customerId,earnEventDate,job_id\n"
    kinds = {"j1": "rejected", "$(id)": "in_doubt", "j3": "rejected"}
    for n, (job_id, kind) in enumerate(kinds.items()):
        it = badge(n)
        letter = Item(job_id, "2", {**badge_fields(it), "fingerprint": content_id("default", it)}, kind=kind)
        Queue(here.client).enqueue(configured(), run="r", items=[letter], call=f"c{n}")
    Queue(here.client).replay(
        configured(), run="m", items=[Replay("j3", Item("new", "3", badge_fields(badge(9))))], call="m"
    )
    rows = "".join(f"{BADGE},{badge(n).customer_id},1674292011,{job_id}\n" for n, job_id in enumerate(kinds))
    said = badges("import", "-", env=here.env, stdin=(header + rows).encode()).stdout.decode()
    assert (
        "row 2: already a dead letter; why, and what to do about it: badges job show --org default j1\n"
        in said
    )
    resolve = "badges dead resolve --org default '$(id)' --issued or --not"
    assert f"in doubt row 3: look it up at the vendor, then: {resolve}" in said
    shown = "see: badges job show --org default j3\n"
    assert f"row 4: was mended: another job took its place, {shown}" in said


def test_the_producers_own_ids(here: Here) -> None:
    """``job_id`` lets a customer rightly get a badge twice; used for another badge it is a conflict."""
    header = "badgeMetaId,customerId,job_id\n"
    rows = f"{BADGE},7,a-1\n{BADGE},7,a-2\n{BADGE},7,a-1\n{BADGE},8,a-2\n"
    done = badges("import", "-", "--json", env=here.env, stdin=(header + rows).encode())
    assert counts(json.loads(done.stdout)) == (2, 2, 0)
    assert b"row 5, job_id: this id was used before for another badge" in done.stderr


def test_an_id_that_many_badges_have_is_told_before_and_after(here: Here) -> None:
    """A batch's number taken for a job's: all but the first aren't accepted, and no dead letters."""
    rows = b"badgeMetaId,customerId,job_id,earnEventDate,earnExpiresOn\n" + b"".join(
        b"696f0fd40772ad476ecf74ac,%d,BATCH-7,1674292011,1705828011\n" % n for n in range(1, 6)
    )
    for more in ((), ("--dry-run",)):
        said = badges_json("import", "-", *more, env=here.env, stdin=rows)
        (told,) = [it for it in said["warnings"] if "used before for another badge" in it["reason"]]
        assert told["count"] == 4


def test_a_pipe_by_any_name_is_read_once(here: Here, tmp_path: Path) -> None:
    """Nothing looks into it before: a profile that might fit, or a check of the badges."""
    (file := tmp_path / "one.csv").write_bytes(csv_rows(1))
    badges("import", file, "--save-profile", "usual", env=here.env)
    os.mkfifo(pipe := tmp_path / "feed.csv")
    with ThreadPoolExecutor() as pool:
        pool.submit(pipe.write_bytes, csv_rows(30_000, first=100))
        assert counts(badges_json("import", pipe, env=here.env)) == (30_000, 0, 0)
    refused = badges("import", pipe, "--check-badges", "--yes", env=here.env, expect=2)
    assert b"no pipe or standard input" in refused.stderr


def test_a_command_that_is_proposed_has_the_options_that_were_said(here: Here, tmp_path: Path) -> None:
    """Else it would import into another org, at once, what was to be checked or held."""
    (file := tmp_path / "f.csv").write_text(
        "badgeMetaId,customerId,Foo,earnEventDateISO\nb,1,x,2026-01-01T00:00:00Z\n"
    )
    options = ["--run", "spring 26", "--hold", "--note", "it's me", "--set", "earnExpiresOn=1805828011"]
    for more in (options[2:], [*options[3:], "--dry-run", "--timezone", "Europe/Berlin"]):
        refused = badges("import", file, *more, env=here.env, expect=1).stderr.decode()
        proposed = shlex.split(refused.partition("To be completed: badges ")[2])
        assert proposed[:2] == ["import", str(file)]
        assert proposed[-1] == "Foo="
        assert sorted(proposed[2:-2]) == sorted(more)
    book = Workbook()
    assert book.active is not None
    for line in file.read_text().splitlines():
        book.active.append(line.split(","))
    book.save(sheets := tmp_path / "f.xlsx")
    refused = badges("import", sheets, "--sheet", "1", env=here.env, expect=1).stderr.decode()
    assert f"badges import {sheets} --sheet 1 --map Foo=" in refused


@pytest.mark.parametrize(
    ("same_run", "name"), some([(True, "rows.csv.gz"), (False, "rows.csv"), (True, "rows.csv")], 1)
)
def test_an_importer_killed_half_way(
    here: Here, sandbox: SandboxServer, tmp_path: Path, *, same_run: bool, name: str
) -> None:
    """The import is run again, with or without the same name, and each badge is issued once."""
    file, total = tmp_path / name, 10_000
    file.write_bytes(gzip.compress(csv_rows(total)) if name.endswith(".gz") else csv_rows(total))
    kill_after = random.Random(f"kill {same_run} {name}").randint(3000, 6000)
    command = [sys.executable, "-m", "worker.cli", "import", str(file), "--run", "first"]
    with process(command, env=here.env, log=tmp_path / "import.log") as importer:
        wait_for(lambda: here.probe.count("first", "total") >= kill_after)
        importer.kill()
    accepted = here.probe.count("first", "total")
    assert kill_after <= accepted < total
    badges("import", "-", "--run", "first", env=here.env, stdin=csv_rows(1))  # which is another file
    told = badges_json("run", "show", "first", env=here.env)["incomplete"]
    assert told == f"{name} isn't read to its end: its import goes on, or was broken off"
    run = "first" if same_run else "second"
    said = badges_json("import", file, "--run", run, env=here.env)
    assert counts(said) == ((total, 0, 0) if same_run else (total - accepted, accepted, 0)), kill_after
    assert badges_json("run", "show", run, env=here.env)["incomplete"] is None
    vendor = {"API_BASE_URL": sandbox.url, "RATE_LIMIT": "1000/second", "BATCH_SIZE": "1000"}
    env = here.env | {f"BADGES_{name}": value for name, value in vendor.items()}
    with process(worker_command(), env=env, log=tmp_path / "worker.log"):
        wait_for(lambda: here.probe.count("first") + here.probe.count("second") == total)
    ledger = sandbox.vendor.ledger()
    assert len(ledger.issues) == total
    assert not ledger.issued_more_than_once


def pipe_of(running: subprocess.Popen[bytes]) -> IO[bytes]:
    """Return the process's standard input, to be closed without caring whether it lives."""
    assert running.stdin
    return running.stdin


def test_two_processes_import_the_same_file_at_once(here: Here, tmp_path: Path) -> None:
    """Between them they accept each row once, whichever is first."""
    file = tmp_path / "rows.csv"
    file.write_bytes(csv_rows(3000))
    with ThreadPoolExecutor(2) as at_once:
        done = at_once.map(lambda _: badges_process("import", file, "--json", env=here.env), range(2))
        said = [counts(json.loads(one.stdout)) for one in done]
    assert [sum(column) for column in zip(*said, strict=True)] == [3000, 3000, 0]
    assert here.client.llen("{badges:default}/queue") == 3000


# Compressed files, columns of other names


def test_compressed_files_go_in(here: Here, tmp_path: Path) -> None:
    """As a file, told by its bytes and not by its name, and on standard input; its run is named after it."""
    file = tmp_path / "members.csv.gz"
    file.write_bytes(gzip.compress(csv_rows(3)))
    said = badges_json("import", file, env=here.env)
    assert counts(said) == (3, 0, 0)
    assert said["run"].startswith("members-")
    assert counts(badges_json("import", "-", env=here.env, stdin=gzip.compress(csv_rows(4)))) == (1, 3, 0)
    done = badges("import", file, "--dry-run", env=here.env)
    assert "3 rows are good" in done.stdout.decode()
    assert "checking, 3 rows" in done.stderr.decode()
    assert " 100% 0:00:" in done.stderr.decode()


def test_a_compressed_file_cut_off_is_gone_on_with(here: Here, tmp_path: Path) -> None:
    """It says what was accepted and how to go on; the whole file then adds the rest, under the same run."""
    file, data = tmp_path / "rows.csv.gz", gzip.compress(csv_rows(9000))
    file.write_bytes(data[: len(data) // 2])
    said = badges("import", file, "--run", "cut", env=here.env, expect=1).stderr.decode()
    accepted = here.probe.count("cut", "total")
    assert 1000 <= accepted < 9000
    assert f"until then: at least {accepted:,} accepted, 0 duplicates, 0 invalid; what is accepted" in said
    assert "to go on: the same command with --run cut; to stop what waits: badges run cancel cut" in said
    assert "rows.csv.gz: the gzip data end too early: the file is cut off" in said
    assert "Traceback" not in said
    file.write_bytes(data)
    assert counts(badges_json("import", file, "--run", "cut", env=here.env)) == (9000, 0, 0)
    assert here.client.llen("{badges:default}/queue") == here.probe.count("cut", "total") == 9000


def test_columns_are_mapped(here: Here) -> None:
    """What a person's file calls its columns is said on the command line, for a dry run as well."""
    rows = f"Kunde;Badge;Name\n7;{BADGE};Ann\n8;{BADGE};Bob\nC-9;{BADGE};Cy\n".encode()
    mapped = ("--map", "kunde=customerId", "--map", "Badge=badgeMetaId", "--map", "Name=")
    checked = badges("import", "-", *mapped, "--dry-run", env=here.env, stdin=rows, expect=3).stdout.decode()
    assert "2 rows are good, 1 is not" in checked
    assert here.client.dbsize() == 0
    said = badges("import", "-", "--run", "m", *mapped, env=here.env, stdin=rows, expect=3)
    assert b"row 4, customerId: must be a whole number" in said.stdout
    results = here.results("--run", "m")
    assert [(row["badgeMetaId"], row["customerId"]) for row in results[:2]] == [(BADGE, 7), (BADGE, 8)]
    assert results[2]["error"]["code"] == "customerId"


def test_a_mapping_that_means_nothing_is_refused(here: Here) -> None:
    """One that can't be right is a usage error with all fields; one that doesn't fit names the columns."""
    wrong = badges("import", "-", "--map", "Kunde=kunde", env=here.env, stdin=csv_rows(1), expect=2)
    assert all(
        field in wrong.stderr for field in (b"badgeMetaId", b"customerId", b"earnExpiresOnISO", b"job_id")
    )
    absent = badges("import", "-", "--map", "Kunde=customerId", env=here.env, stdin=csv_rows(1), expect=1)
    assert "no column “Kunde”" in absent.stderr.decode()
    assert "its columns are “badgeMetaId”, “customerId”, “earnEventDate”" in absent.stderr.decode()
    assert here.client.dbsize() == 0


# Where there is no room


def test_an_import_waits_for_room(here: Here, sandbox: SandboxServer, tmp_path: Path) -> None:
    """It says so, goes on as the worker makes room, and in the end every row was issued once."""
    full = here.env | {"BADGES_MAX_QUEUED": "1000"}
    log, file = tmp_path / "import.log", tmp_path / "rows.csv"
    file.write_bytes(csv_rows(2500))
    command = [sys.executable, "-m", "worker.cli", "import", str(file), "--run", "waits"]
    with process(command, env=full, log=log) as importer:
        wait_for(lambda: "waiting for room: the queue of org default is full" in log.read_text())
        assert (here.probe.count("waits", "total"), importer.poll()) == (1000, None)
        vendor = {"API_BASE_URL": sandbox.url, "RATE_LIMIT": "1000/second", "BATCH_SIZE": "1000"}
        env = full | {f"BADGES_{name}": value for name, value in vendor.items()}
        with process(worker_command(), env=env, log=tmp_path / "worker.log"):
            wait_for(lambda: here.probe.count("waits") == 2500)
            assert importer.wait(20) == 0
    assert "2,500 accepted, 0 duplicates, 0 invalid" in log.read_text()
    assert log.read_text().count("waiting for room: the queue") == 1
    assert not sandbox.vendor.ledger().issued_more_than_once


def test_waiting_ends_with_ctrl_c(here: Here, tmp_path: Path) -> None:
    """Whoever has waited enough is told what was accepted, and how to go on later."""
    log, file = tmp_path / "import.log", tmp_path / "rows.csv"
    file.write_bytes(csv_rows(1500))
    command = [sys.executable, "-m", "worker.cli", "import", str(file), "--run", "ends"]
    with process(command, env=here.env | {"BADGES_MAX_QUEUED": "1000"}, log=log) as importer:
        wait_for(lambda: "waiting for room" in log.read_text())
        importer.send_signal(signal.SIGINT)
        assert importer.wait(10) == 130
    assert "until then: at least 1,000 accepted, 0 duplicates, 0 invalid" in log.read_text()
    assert "Traceback" not in log.read_text()
    assert counts(badges_json("import", file, "--run", "ends", env=here.env)) == (1500, 0, 0)


def test_an_import_need_not_wait(here: Here) -> None:
    """With ``--no-wait`` it ends, says how much was accepted and why; what is known passes all the same."""
    env = here.env | {"BADGES_MAX_QUEUED": "1000"}
    done = badges("import", "-", "--no-wait", "--run", "r", env=env, stdin=csv_rows(1001), expect=1)
    assert "until then: at least 1,000 accepted" in done.stderr.decode()
    assert "1,000 jobs wait in it, and its MAX_QUEUED is 1,000" in done.stderr.decode()
    assert counts(badges_json("import", "-", "--no-wait", env=env, stdin=csv_rows(1000))) == (0, 1000, 0)


def test_an_import_waits_for_a_redis_that_is_full(here: Here, tmp_path: Path) -> None:
    """It says what to do, and goes on by itself once that is done; every row is accepted once."""
    log, file = tmp_path / "import.log", tmp_path / "rows.csv"
    file.write_bytes(csv_rows(20_000))
    used = int(here.client.info("memory")["used_memory"])
    here.client.config_set("maxmemory", str(used + 2_000_000))
    try:
        command = [sys.executable, "-m", "worker.cli", "import", str(file), "--run", "oom"]
        with process(command, env=here.env, log=log) as importer:
            wait_for(lambda: "waiting for room: Redis is full (maxmemory): give it more" in log.read_text())
            assert importer.poll() is None
            here.client.config_set("maxmemory", "0")
            assert importer.wait(30) == 0
    finally:
        here.client.config_set("maxmemory", "0")
    assert "20,000 accepted, 0 duplicates, 0 invalid" in log.read_text()
    assert here.client.llen("{badges:default}/queue") == here.probe.count("oom", "total") == 20_000


def test_messages_wait_in_the_broker_while_there_is_no_room(
    here: Here, sandbox: SandboxServer, tmp_path: Path
) -> None:
    """``badges.enqueue`` goes back until there is room, deliveries go on meanwhile, and nothing is lost."""
    vendor = {
        "API_BASE_URL": sandbox.url,
        "RATE_LIMIT": "20/second",
        "BATCH_SIZE": "100",
        "MAX_QUEUED": "1000",
    }
    env = here.env | {f"BADGES_{name}": value for name, value in vendor.items()}
    items = [{"badgeMetaId": BADGE, "customerId": n} for n in range(1, 3001)]
    with Celery(broker=here.env["BADGES_BROKER_URL"]) as producer:
        for first in range(0, 3000, 500):
            kwargs = {"items": items[first : first + 500], "run": "sent"}
            producer.send_task("badges.enqueue", kwargs=kwargs)
    log = tmp_path / "worker.log"
    with process(worker_command("--concurrency", 2), env=env, log=log):
        wait_for(lambda: here.probe.count("sent") == 3000, what="all issued")
    assert "enqueue.no_room" in log.read_text()
    assert not sandbox.vendor.ledger().issued_more_than_once


# What is wrong, and where


BAD_ROWS = [
    (f"{BADGE},-5,", "customerId", "must be between 1 and 9223372036854775807"),
    (f"{BADGE},0,", "customerId", "must be between 1 and"),
    (f"{BADGE},99999999999999999999,", "customerId", "must be between 1 and"),
    (f"{BADGE},C-7,", "customerId", "must be a whole number"),
    (f"{BADGE},7.5,", "customerId", "must be a whole number"),
    (f"{BADGE},,", "customerId", "is missing"),
    ("two words,7,", "badgeMetaId", "must be 1 to 64 printable characters"),
    (f"{BADGE},7,2025-09-10T15:00:00+05:30", "earnEventDate", "belongs in earnEventDateISO"),
    (f"{BADGE},7,-1", "earnEventDate", "must be an epoch"),
    (f"{BADGE},7,1,9", "row", "the row has 4 cells, the header 3"),
    (f'"{BADGE},7,', "row", "a quote opens here and is not closed"),
    (f"{BADGE},7\0,", "row", "a NUL character stands at offset 26"),
    (f"{BADGE},7\udce9,", "row", "byte 0xE9 at offset 26 is not UTF-8"),
    ("x" * 10_000_000, "row", "the row is longer than 1,000,000 characters"),
]
BAD_ITEMS = [
    (
        '"customerId":7,"earnEventDateISO":"2025-09-10T15:00:00"',
        "earnEventDateISO",
        "ISO 8601 with an offset",
    ),
    ('"customerId":7,"colour":"red"', "colour", "unknown field"),
    ('"customerId":-7', "customerId", "must be between 1 and"),
    ('"customerId":true', "customerId", "must be a whole number"),
    ('"customerId":7,"customerId":8', "customerId", "is given twice"),
    ('"customerId":7,"earnExpiresOn":NaN', "row", "NaN is not a number"),
]
ITEM = f'{{"badgeMetaId":"{BADGE}",'


def bad_csv() -> str:
    """Write a CSV file: a header, and before each bad row a good one."""
    return HEADER + "".join(f"{BADGE},{100 + n},\n{bad}\n" for n, (bad, _, _) in enumerate(BAD_ROWS))


def bad_json(*, array: bool) -> str:
    """Write JSON Lines or an array: before each bad item a good one."""
    each = [f'{ITEM}"customerId":{100 + n}}}' for n in range(len(BAD_ITEMS))]
    text = (",\n" if array else "\n").join(
        part for n, (bad, _, _) in enumerate(BAD_ITEMS) for part in (each[n], f"{ITEM}{bad}}}")
    )
    return f"[{text}]" if array else text


@pytest.mark.parametrize(
    ("content", "first", "expected"),
    [
        pytest.param(bad_csv(), 3, BAD_ROWS, id="csv"),
        pytest.param(bad_json(array=False), 2, BAD_ITEMS, id="lines"),
        pytest.param(bad_json(array=True), 2, BAD_ITEMS, id="array"),
    ],
)
def test_a_bad_row_is_named_and_stops_no_other(
    here: Here, content: str, first: int, expected: list[tuple[str, str, str]]
) -> None:
    """It becomes a dead letter ``invalid`` with field and reason; the rows around it are accepted."""
    data = content.encode("utf-8", "surrogateescape")
    done = badges("import", "-", "--run", "bad", "--json", env=here.env, stdin=data, expect=3)
    assert counts(json.loads(done.stdout)) == (len(expected), 0, len(expected))
    said = done.stderr.decode()
    assert "Traceback" not in said
    for n, (_, field, reason) in enumerate(expected):
        row = f"row {first + 2 * n}" + ("" if field == "row" else f", {field}")
        (line,) = [line for line in said.splitlines() if f" {row}: " in line]
        assert reason in line
    results = sorted(here.results("--run", "bad", "--state", "dead"), key=lambda result: result["row"])
    dead = [result["error"] for result in results]
    assert [(error["kind"], error["code"]) for error in dead] == [("invalid", e[1]) for e in expected]
    assert all(reason in error["message"] for error, (_, _, reason) in zip(dead, expected, strict=True))


def test_every_fault_of_a_row_is_in_its_report(here: Here) -> None:
    """However many there are, each with its cure; only of very many the last are counted."""
    header = "badgeMetaId,customerId,earnEventDate,earnEventDateISO,earnExpiresOn,earnExpiresOnISO,job_id"
    row = "a b,5.55567E+08,20261231235959,2025-02-30T10:00:00Z,253402300799,2026-12-31T23:59:59+05:60,x y"
    badges("import", "-", "--run", "r", env=here.env, stdin=f"{header}\n{row}\n".encode(), expect=3)
    (result,) = here.results("--run", "r")
    assert result["error"]["code"] == "badgeMetaId"
    told = result["error"]["message"]
    for field in header.split(",")[1:]:
        assert f"; {field}: " in told
    assert "take the id from its source; " in told
    assert "written 9999-12-31T23:59:59Z in earnExpiresOnISO; " in told
    assert told in result["reason"]
    many = json.dumps({f"colour{n:03}": 1 for n in range(300)})
    badges("import", "-", "--run", "many", env=here.env, stdin=f"{many}\n".encode(), expect=3)
    (result,) = here.results("--run", "many")
    assert re.search(r"; and \d+ other faults$", result["error"]["message"])
    assert len(result["error"]["message"]) < 1600
    beside = (
        f'{{"colour": 1, "shade": 2, "customerId": "x", "badgeMetaId": "{BADGE}", "earnEventDate": "soon"}}'
    )
    for text in (f"{beside}\n", f"[{beside}]"):
        badges("import", "-", "--run", "beside", env=here.env, stdin=text.encode(), expect=None)
    told = [result["error"]["message"] for result in here.results("--run", "beside")]
    assert [all(name in one for name in ("“colour”", "“shade”", "“x”", "“soon”")) for one in told] == [True]


def test_an_array_cut_off(here: Here) -> None:
    """What stood before the cut goes in, it is said what wasn't read; the run is incomplete until it was."""
    whole = f'[{ITEM}"customerId":1}},{ITEM}"customerId":2}}]'
    cut = badges("import", "-", "--run", "r", env=here.env, stdin=whole[:-20].encode(), expect=1)
    assert b"until then: at least 1 accepted, 0 duplicates, 0 invalid" in cut.stderr
    assert b"- is cut off: nothing from row 2 on was read (line 1, column" in cut.stderr
    assert "is cut off" in badges_json("run", "show", "r", env=here.env)["incomplete"]
    assert b"incomplete: - is cut off" in badges("run", "show", "r", env=here.env).stdout
    assert counts(badges_json("import", "-", "--run", "r", env=here.env, stdin=whole.encode())) == (2, 0, 0)
    assert badges_json("run", "show", "r", env=here.env)["incomplete"] is None


def test_dates_are_never_left_out_by_chance(here: Here) -> None:
    """A column of dates stops the import while a date is missing, unless a person says that none is."""
    rows = f"badgeMetaId,customerId,Earned on\n{BADGE},7,2025-09-10T10:00:00Z\n".encode()
    for options in ((), ("--dry-run",), ("--map", "Earned on="), ("--map", "Earned on=", "--dry-run")):
        refused = badges("import", "-", *options, env=here.env, stdin=rows, expect=2).stderr.decode()
        assert "lacks earnEventDate and earnExpiresOn, and “Earned on” looks like a date" in refused
        assert "--map 'Earned on=earnEventDateISO'" in refused
        assert "'Earned on='" not in refused
    line = f'{{"badgeMetaId":"{BADGE}","customerId":7,"Earned on":1705828011}}'.encode()
    assert b"--without-dates" in badges("import", "-", env=here.env, stdin=line, expect=2).stderr
    assert here.client.dbsize() == 0
    mapped = badges("import", "-", "--map", "Earned on=earnEventDateISO", env=here.env, stdin=rows)
    assert b"1 accepted" in mapped.stdout
    said = badges_json("import", "-", "--map", "Earned on=", "--without-dates", env=here.env, stdin=rows)
    assert counts(said) == (1, 0, 0)
    assert [(odd["reason"], odd["count"], odd["rows"]) for odd in said["warnings"]] == [
        ("earnEventDate is missing", 1, ["2"]),
        ("earnExpiresOn is missing", 1, ["2"]),
        (NEAR_DUPLICATE, 1, ["2"]),  # what went in before has a date
    ]


def test_a_last_line_without_its_end_is_named(here: Here) -> None:
    """It may have been cut off: the row is sent, with a warning that names it."""
    done = badges("import", "-", env=here.env, stdin=f"{HEADER}{GOOD}{BADGE},18000,".encode()).stdout.decode()
    assert "2 accepted" in done
    assert "the file's last line has no end: if the file was cut off, row 3 isn't whole" in done


def test_no_file_is_named(here: Here) -> None:
    """An empty argument, as an unset variable leaves it, is a mistake of usage."""
    assert b"it is empty; name a file" in badges("import", "", env=here.env, expect=2).stderr


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("empty.csv", b"", "is empty"),
        ("blank.csv", b" \n\r\n", "is empty"),
        ("prose.csv", b"Dear Sirs,\nplease find enclosed\n", "the first line must name the columns"),
        ("no-column.csv", b"badgeMetaId,earnEventDate\nx,1\n", "no column customerId"),
        ("unknown.csv", b"badgeMetaId,customerId,colour\nx,1,red\n", "unknown column"),
        ("typo.csv", b"badgeMetaID,custmerId\nx,1\n", "did you mean customerId?"),
        ("twice.csv", b"badgeMetaId,customerId,customer_id\nx,1,1\n", "2 columns that mean customerId"),
        ("binary.csv", random.Random(7).randbytes(5000), "is not UTF-8"),
        ("holes.csv", b"badgeMetaId,customerId" + bytes(300) + b"x" * 5000, "is not text"),
        ("sheet.xlsx", b"PK\x03\x04" + bytes(3000), "Excel"),
        ("packed.csv.gz", b"\x1f\x8b\x09" + bytes(3000), "the gzip data are damaged"),
        ("empty.csv.gz", gzip.compress(b"", mtime=0), "is empty"),
        ("sheet.xlsx.gz", gzip.compress(b"PK\x03\x04" + bytes(3000), mtime=0), "Excel"),
        ("words.json", b'"hello"', "neither a JSON array nor an object"),
        ("spread.json", b'{\n "badgeMetaId": "x"\n}\n', "over several lines"),
    ],
)
def test_a_file_that_is_none_is_refused_whole(
    here: Here, tmp_path: Path, name: str, content: bytes, reason: str
) -> None:
    """One sentence names the file and the reason; the exit status is 1, and nothing was accepted."""
    file = tmp_path / name
    file.write_bytes(content)
    done = badges("import", file, env=here.env, expect=1)
    said = done.stderr.decode()
    assert name in said
    assert reason in said
    assert "Traceback" not in said
    assert "importing" not in said, "a bar is left behind"
    assert not done.stdout
    assert not here.client.exists("{badges:default}/runs")


def test_a_file_that_is_not_there(here: Here, tmp_path: Path) -> None:
    """A missing file and a directory are refused in a sentence, too."""
    for path, words in (
        ("nowhere.csv", f"there is no file nowhere.csv here ({tmp_path})"),
        ("x" * 300, f"badges: {'x' * 300} can't be read: File name too long\n"),
        (tmp_path / "nowhere.csv", f"there is no file {tmp_path}/nowhere.csv\n"),
        (tmp_path, f"{tmp_path} is a directory"),
    ):
        said = badges("import", path, env=here.env, expect=1, cwd=tmp_path).stderr.decode()
        assert words in said
        assert "Traceback" not in said


def test_a_named_pipe_is_read(here: Here) -> None:
    """``badges import <(my-export)`` works: a pipe is a file that can be read."""
    script = f"exec {sys.executable} -m worker.cli import <(printf '{HEADER}{GOOD}') --json"
    done = subprocess.run(["bash", "-c", script], env=here.env, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert counts(json.loads(done.stdout)) == (1, 0, 0)


def test_usage_is_checked_before_anything_is_written(here: Here, tmp_path: Path) -> None:
    """A run's name that can't be typed again, and an option that doesn't exist, exit 2."""
    for wrong in (("--run", "two words"), ("--run", "x" * 65), ("--org", "nobody"), ("--colour", "red")):
        done = badges("import", tmp_path / "x.csv", *wrong, env=here.env, expect=2)
        assert b"Traceback" not in done.stderr
        assert done.stderr.strip()
    long = badges("import", tmp_path / "x.csv", "--run", "ü" * 40, env=here.env, expect=2).stderr.decode()
    assert "1 to 64 bytes, all printable, no spaces" in long
    assert here.client.dbsize() == 0


# Memory


def peak_kb(env: dict[str, str], run: str, rows: Callable[[int], bytes], count: int) -> int:
    """Import generated rows through a pipe, and return the most memory that the command ever had, in KiB.

    A small process between measures it: a child's measure begins with what it was forked from.
    """
    command = [sys.executable, PROGRAMS / "measured.py", sys.executable, "-m", "worker.cli", "import", "-"]
    command += ["--run", run]
    measured = subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with measured, pipe_of(measured) as pipe:
        pipe.write(HEADER.encode())
        for first in range(0, count, 1000):
            pipe.write(b"".join(rows(n) for n in range(first, first + 1000)))
        pipe.close()
        assert measured.stdout
        return int(measured.stdout.read())


@LONG
def test_memory_does_not_grow_with_the_file(here: Here) -> None:
    """Six times the rows, good or bad, need hardly more memory; the rest is the records' in Redis.

    Hardly more: 150 bytes for each further row would be too much.
    """

    def good(n: int) -> bytes:
        return b"%s,%d,1674292011\n" % (BADGE.encode(), n + 1)

    def bad(n: int) -> bytes:
        return b"%s,C-%d,1674292011\n" % (BADGE.encode(), n)

    small, large = peak_kb(here.env, "small", good, 4_000), peak_kb(here.env, "large", good, 24_000)
    assert here.probe.count("large", "total") == 20_000  # the rest came in with the small one
    assert large - small < 3_000, (small, large)
    few, wrong = peak_kb(here.env, "few", bad, 4_000), peak_kb(here.env, "wrong", bad, 24_000)
    assert here.probe.count("wrong", "invalid") == 20_000
    assert wrong - few < 3_000, (few, wrong)


@pytest.mark.parametrize("option", ["--run", "--profile", "--save-profile"])
def test_an_empty_name_is_no_name(here: Here, tmp_path: Path, option: str) -> None:
    """A variable of a script that isn't set: what it was meant for isn't guessed."""
    (file := tmp_path / "a.csv").write_text(HEADER)
    done = badges("import", file, option, "", env=here.env, expect=2)
    assert b"it is empty" in done.stderr

"""The report goes round: written, mended by a person, imported again; what was mended is issued, once."""

from __future__ import annotations

import csv
import io
import json
import random
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import redis
import workbooks
from hypothesis import given
from hypothesis import strategies as st
from openpyxl import load_workbook
from support import (
    BADGE,
    OTHER_BADGE,
    Probe,
    badges,
    badges_json,
    configured,
    environment,
    item,
    process,
    wait_for,
    worker_command,
)

from worker.domain.batch import Item
from worker.domain.job import DeadKind
from worker.domain.org import Org
from worker.enqueue import EnqueueOptions, total
from worker.errors import FileError
from worker.files.columns import guarded, unguarded
from worker.files.reader import read_rows
from worker.operate import deadlist
from worker.operate.deadlist import Filter
from worker.operate.importing import import_rows
from worker.operate.progress import RunProgress
from worker.operate.report import ResultForm, reason, result_lines
from worker.operate.runs import JobReader
from worker.sandbox.issued import SandboxSettings
from worker.sandbox.server import SandboxServer
from worker.server.connection import Connection
from worker.store import keys
from worker.store.queue import Queue, new_id

# fmt: off
CONTRACT = [
    "job_id", "run", "org", "badgeMetaId", "customerId", "state", "attempts", "earnedBadgeId", "issuedId",
    "requestId", "expiresOn", "expiresOnISO", "warnings", "error", "enqueued_at", "finished_at",
]
# fmt: on
ADDED = ["row", "reason", "earnEventDate", "earnEventDateISO", "earnExpiresOn", "earnExpiresOnISO", "raw"]
ADDED += ["sent_request_id", "answered_request_id"]
UNDONE = ["undone_at", "undone_by", "undone_note"]  # in a table always
INPUT = ["badgeMetaId", "customerId", "earnEventDate", "earnExpiresOn", "job_id"]
LARGE = 9_223_372_036_854_775_807  # more digits than a spreadsheet keeps

Report = list[dict[str, Any]]
# customer -> what came in: badge, customer, event, expiry, the producer's own id
ROWS: dict[str, list[Any]] = {
    "good": [BADGE, 1, 1674292011, 1705828011, ""],
    "good, own id": [BADGE, 1, 1674292011, 1705828011, "own-1"],
    "rejected": [OTHER_BADGE, 2, 1674292011, 1705828011, ""],
    "rejected, own id": [OTHER_BADGE, 3, 1674292011, "", "own-3"],
    "rejected, own id, again": [OTHER_BADGE, 3, 1674292011, "", "own-4"],
    "rejected, left": [OTHER_BADGE, 4, "", 1705828011, ""],
    "rejected, mended wrongly": [OTHER_BADGE, 5, "", "", ""],
    "rejected, mended to what was issued": [OTHER_BADGE, 1, 1674292011, 1705828011, ""],
    "rejected, deleted": [OTHER_BADGE, 6, "", "", ""],
    "rejected, large": [OTHER_BADGE, LARGE, "", 1705828011, ""],
    "invalid": [BADGE, "C-7", "", 1705828011, ""],
    "invalid, own id": [BADGE, "=8", "", "", "own-8"],
    "invalid, left": [BADGE, "-9", "", "", ""],
    "invalid, mended wrongly": [BADGE, "ten", 1674292011, "", ""],
}
UNREADABLE = {
    "csv": f"{BADGE},11,,,,,",
    "jsonl": f'{{"badgeMetaId":"{BADGE}","customerId":11,"customerId":11}}',
}
MENDED = {
    "rejected": {"badgeMetaId": BADGE},
    "rejected, own id": {"badgeMetaId": BADGE},
    "rejected, own id, again": {"badgeMetaId": BADGE},
    "rejected, mended wrongly": {"customerId": "five"},
    "rejected, mended to what was issued": {"badgeMetaId": BADGE},
    "rejected, large": {"badgeMetaId": BADGE},
    "invalid": {"customerId": 7},
    "invalid, own id": {"customerId": 8},
    "invalid, mended wrongly": {"customerId": "10.5"},
    "unreadable": {"badgeMetaId": BADGE, "customerId": 11},
    "in doubt": {"badgeMetaId": BADGE},
    "good": {"customerId": 12},
}
# Two to the first customer (one by an id of its own), two to the third; none to those left or wrong still.
EXPECTED = Counter({1: 2, 2: 1, 3: 2, 7: 1, 8: 1, 11: 1, LARGE: 1})


class Here(NamedTuple):
    """A Redis that is empty, the environment that leads to it, and a vendor that knows just one badge."""

    client: redis.Redis
    env: dict[str, str]
    vendor: SandboxServer
    org: Org

    def run(self, run: str) -> RunProgress:
        """Read a run."""
        return JobReader(client=self.client, orgs={"default": self.org}).run(run)

    def wait_for(self, run: str) -> RunProgress:
        """Wait until every job of a run has ended."""
        wait_for(lambda: not self.run(run).open, within_s=60)
        return self.run(run)

    def report(self, form: ResultForm, **only: Any) -> Report:
        """Read a report back, as a spreadsheet or a program does."""
        rows = JobReader(client=self.client, orgs={"default": self.org}).results(**only)
        said = "".join(result_lines(rows, form=form))
        if form == "csv":
            return [dict(row) for row in csv.DictReader(io.StringIO(said))]
        return [json.loads(line) for line in said.splitlines()]

    def bring(self, run: str, content: str) -> tuple[int, int, int, list[str]]:
        """Import; return accepted, duplicates, invalid, and what was said of rows."""
        rows = read_rows(io.BytesIO(content.encode()), name="report")
        done = total(run, import_rows(Queue(self.client), self.org, rows, EnqueueOptions(run, new_id())))
        return done.accepted, done.duplicates, done.invalid, [f"{n.kind}: {n.reason}" for n in done.noted]

    def bury(self, *items: Item) -> None:
        """Put dead letters into the first run."""
        Queue(self.client).enqueue(self.org, run="first", items=items, call=new_id())

    def issued(self) -> Counter[int]:
        """Count what the vendor issued, by customer."""
        return Counter(issue.customer_id for issue in self.vendor.vendor.ledger().issues)


@pytest.fixture
def here(empty: Connection, client: redis.Redis) -> Iterator[Here]:
    """An empty server."""
    unknown = SandboxSettings(unknown_badges=frozenset({OTHER_BADGE}))
    with SandboxServer(settings=unknown) as vendor:
        own = {"redis_url": empty.url, "broker_url": empty.broker_url, "api_base_url": vendor.url}
        env = environment(**own, rate_limit="1000/second", batch_linger_s=0)
        yield Here(client, env, vendor, configured(api_base_url=vendor.url))


def dead(n: int, kind: str, *, code: str = "1054", badge_id: str = OTHER_BADGE) -> Item:
    """Return a dead letter."""
    it = item(n, badge_id=badge_id)
    return Item(it.id, str(n), {**it.fields, "code": code, "message": "so it is"}, kind=kind)


def written(rows: list[list[Any]], form: str, more: str) -> str:
    """Write a file to import, with a line at its end that can't be read."""
    if form == "csv":
        text = "".join(",".join(map(str, row)) + "\n" for row in rows)
        return ",".join(INPUT) + "\n" + text + more + "\n"
    items = [{name: value for name, value in zip(INPUT, row, strict=True) if value != ""} for row in rows]
    return "".join(json.dumps(one) + "\n" for one in items) + more


def saved(rows: Report, form: str) -> str:
    """Write a report as a person's program saves it: a spreadsheet has its own delimiter and quotes."""
    if form == "jsonl":
        return "".join(json.dumps(row) + "\n" for row in rows)
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), delimiter=";", quoting=csv.QUOTE_ALL)
    writer.writeheader()
    writer.writerows(rows)
    return "\ufeff" + out.getvalue()


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_what_was_mended_is_issued_and_nothing_else(here: Here, tmp_path: Path, form: ResultForm) -> None:
    """In any order, with rows left out; imported twice it issues nothing twice, and the counts are true."""
    original = written(list(ROWS.values()), form, UNREADABLE[form])
    with process(worker_command(), env=here.env, log=tmp_path / "worker.log"):
        here.bring("first", original)
        here.bury(dead(99, "in_doubt", code="timeout"))
        here.wait_for("first")
        assert here.issued() == {1: 2}
        names = dict(zip([*ROWS, "unreadable", "in doubt"], here.report(form, run="first"), strict=True))
        for name, changes in MENDED.items():
            names[name] |= changes
        mended = [row for name, row in names.items() if "deleted" not in name]
        seed = random.randrange(1000)
        print(f"shuffled by {seed}")
        random.Random(seed).shuffle(mended)

        accepted, duplicates, invalid, notes = here.bring("mended", saved(mended, form))
        assert (accepted, duplicates, invalid) == (7, 6, 2)
        kinds = Counter(note.partition(":")[0] for note in notes)
        assert kinds == {"invalid": 2, "dead": 2, "conflict": 2, "in doubt": 1}
        run = here.wait_for("mended")
        assert here.issued() == EXPECTED
        assert (run.total, run.issued, run.duplicates) == (7, 7, 6)

        for again in ("again", "mended"):
            assert here.bring(again, saved(mended, form))[:3] == (0, 13, 2)
            here.wait_for(again)
        assert here.bring("original", original)[:3] == (0, len(ROWS) + 1, 0)
        here.wait_for("original")
    assert here.issued() == EXPECTED
    replaced = [row for row in here.report("jsonl", run="first") if "took its place" in (row["reason"] or "")]
    assert len(replaced) == 7
    still_dead = sum(len(Probe(here.client).listed(kind)) for kind in DeadKind)
    assert still_dead == sum(row["state"] == "dead" for row in names.values()) - 7


def test_a_report_says_what_a_person_needs(here: Here) -> None:
    """The contract's columns first, in their order; then row, reason and the input as it came in."""
    here.bring("first", written(list(ROWS.values()), "csv", UNREADABLE["csv"]))
    here.bury(dead(99, "rejected"))
    lines = here.report("jsonl", run="first")
    assert [list(row) for row in lines] == [CONTRACT + ADDED] * len(lines)
    flat = [name for name in CONTRACT if name != "error"] + [
        f"error_{n}" for n in ("kind", "code", "message")
    ]
    table = here.report("csv", run="first")
    assert [list(row) for row in table] == [flat + ADDED + UNDONE] * len(lines)
    assert [row["row"] for row in lines] == [*range(2, len(lines) + 1), 99]
    names = dict(zip([*ROWS, "unreadable", "rejected by hand"], zip(lines, table, strict=True), strict=True))
    good, cells = names["good"]
    assert (good["reason"], good["earnEventDate"], cells["earnEventDate"]) == (None, 1674292011, "1674292011")
    rejected, _ = names["rejected by hand"]
    assert (
        "(1054); mend the row and import this file again, or: badges dead replay --job " in rejected["reason"]
    )
    invalid, cells = names["invalid"]
    assert invalid["reason"].startswith("customerId: must be a whole number, not “C-7”; mend the cell")
    assert [invalid[name] for name in ("badgeMetaId", "customerId", "earnExpiresOn", "raw")] == [
        BADGE,
        "C-7",
        "1705828011",
        None,
    ]
    unreadable, _ = names["unreadable"]
    assert unreadable["raw"] == UNREADABLE["csv"]
    assert "fill in the cells from raw" in unreadable["reason"]
    # What a spreadsheet would take for a formula, or round.
    assert [
        names[name][1]["customerId"] for name in ("rejected, large", "invalid, own id", "invalid, left")
    ] == [
        f"'{LARGE}",
        "'=8",
        "'-9",
    ]
    reports = JobReader(client=here.client, orgs={"default": here.org})
    chosen = list(deadlist.rows(reports, Filter(kind=DeadKind.INVALID, code="customerId")))
    assert [list(row) for row in chosen] == [CONTRACT + ADDED] * 4


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_a_report_that_lost_columns_is_refused(here: Here, form: str) -> None:
    """Without the expiry a mended badge would never expire; without ids none could tell what was issued."""
    here.bury(dead(2, "rejected"))
    (row,) = here.report(form)
    row["badgeMetaId"] = BADGE
    for column in ("customerId", "earnExpiresOn", "earnEventDateISO", "job_id"):
        less = saved([{name: cell for name, cell in row.items() if name != column}], form)
        if form == "csv":
            with pytest.raises(FileError) as refused:
                here.bring(column, less)
            said = str(refused.value)
        else:
            accepted, duplicates, invalid, (said,) = here.bring(column, less)
            assert (accepted, duplicates, invalid) == (0, 0, 1)
        assert f"keep its {column}" in said or f"no column {column}" in said
    assert here.client.llen(keys.key("default", "queue")) == 0


def test_what_cannot_be_told_is_not_sent(here: Here) -> None:
    """A job that nobody knows any more, a row of another org, a state that is none: said, and not sent."""
    here.bury(dead(2, "rejected"))
    (row,) = here.report("jsonl")
    row["badgeMetaId"] = BADGE
    for change, said in (
        ({"job_id": "unknown"}, "no such job is known any more"),
        ({"job_id": None}, "its cell job_id is empty"),
        ({"org": "eu"}, "import it with --org eu"),
        ({"state": "issued"}, "only dead jobs can be mended; it is dead, and its cell state is “issued”"),
        ({"state": ""}, "it is dead, and its cell state is “”"),
    ):
        accepted, duplicates, invalid, (note,) = here.bring("told", saved([row | change], "jsonl"))
        assert (accepted, duplicates, invalid) == (0, 1, 0)
        assert said in note
    # A file of a person's own with such a column is no report.
    own = f"badgeMetaId,customerId,state\n{BADGE},77,CA\n"
    assert here.bring("own", own)[:3] == (1, 0, 0)
    assert here.client.llen(keys.key("default", "queue")) == 1


def test_the_real_commands(here: Here, tmp_path: Path) -> None:
    """A report without any job can be imported; one that was mended is, and the run can be followed."""
    file = tmp_path / "report.csv"
    badges("results", "--format", "csv", "-o", file, env=here.env)
    assert file.read_text("utf-8-sig").split(",")[:3] == CONTRACT[:3]
    assert badges_json("import", file, env=here.env)["accepted"] == 0
    here.bury(dead(2, "rejected"), dead(3, "exhausted"), dead(4, "rejected"))
    badges("results", "--format", "csv", "--kind", "rejected", "-o", file, env=here.env)
    file.write_text(file.read_text().replace(OTHER_BADGE, BADGE, 1))
    said = badges_json("import", file, "--run", "mended", env=here.env)
    counted = {"accepted": 1, "duplicates": 1, "invalid": 0, "near_duplicates": 0, "held": 0}
    assert said == {"run": "mended", "warnings": []} | counted
    assert badges_json("run", "show", "mended", env=here.env)["queued"] == 1
    rest = badges("results", "--run", "first", "--state", "dead", env=here.env).stdout.splitlines()
    assert [json.loads(line)["row"] for line in rest] == [4, 3]  # what was mended is done with
    shown = badges("run", "show", "first", env=here.env).stdout.decode()
    assert "1 of the dead was mended" in shown
    assert "why: badges dead groups --run first" in shown


def test_a_workbook_goes_round_as_a_report_of_one(here: Here, tmp_path: Path) -> None:
    """Rows have Excel's numbers, no cell is a formula, and what was mended in it is sent once."""
    book = workbooks.saved([["Campaign"], [], ["badgeMetaId", "customerId", "Who"], [BADGE, 7, "=1+1"]])
    book["Members"].append([BADGE, 10**17, "@SUM(A1)"])
    book["Members"].append(["no id", "0042", "'0042"])
    book["Members"]["C4"].data_type = "s"
    file, report = tmp_path / "members.csv", tmp_path / "report.xlsx"  # whatever the name says
    book.save(file)
    said = badges_json("import", file, "--map", "Who=", "--run", "first", env=here.env)
    assert (said["accepted"], said["invalid"]) == (1, 2)
    badges("results", "--state", "dead", "--format", "xlsx", "-o", report, env=here.env)
    piped = badges("results", "--state", "dead", "--format", "xlsx", env=here.env).stdout
    sheet = load_workbook(report).active
    assert sheet is not None
    assert list(load_workbook(io.BytesIO(piped)).active.values) == list(sheet.values)  # type: ignore[union-attr]
    assert {cell.data_type for row in sheet.iter_rows() for cell in row} == {"s", "n"}
    names = [cell.value for cell in sheet[1]]
    at = {name: names.index(name) + 1 for name in names}
    rows = {sheet.cell(n, at["row"]).value: n for n in (2, 3)}
    assert sorted(rows) == [5, 6]
    assert sheet.cell(rows[5], at["Who"]).value == "@SUM(A1)"
    assert sheet.cell(rows[5], at["customerId"]).value == "rounded 1E+17"
    assert (sheet.cell(rows[6], at["customerId"]).value, sheet.cell(rows[6], at["Who"]).value) == (
        "0042",
        "''0042",
    )
    sheet.cell(rows[5], at["customerId"]).value = "100000000000000001"  # as text, with all its digits
    sheet.parent.save(report)
    for accepted in (1, 0):
        said = badges_json("import", report, "--run", "mended", env=here.env)
        assert (said["accepted"], said["invalid"]) == (accepted, 0), said


def test_a_report_in_a_file(here: Here, tmp_path: Path) -> None:
    """In UTF-8 whatever the locale, for its owner alone; what can't be written leaves the old one alone."""
    here.bring("first", f"badgeMetaId,customerId\n{BADGE},Jürgen\n")
    old = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    file = tmp_path / "report.csv"
    only = ("results", "--format", "csv", "--kind")
    badges(*only, "invalid", "-o", file, env=here.env | old)
    assert "Jürgen" in file.read_text("utf-8-sig")
    assert file.read_bytes().startswith(b"\xef\xbb\xbf")  # tells Excel the encoding
    assert file.stat().st_mode & 0o777 == 0o600
    before = file.read_bytes()
    assert before.removeprefix(b"\xef\xbb\xbf") == badges(*only, "invalid", env=here.env | old).stdout
    badges(*only, "invalid", "--run", "none", "-o", file, env=here.env, expect=1)
    badges(*only, "invalid", "--state", "issued", "-o", file, env=here.env, expect=2)
    badges(*only, "invalid", "-o", "/dev/null", env=here.env)
    assert Path("/dev/null").is_char_device()
    here.client.set(keys.key("default", "sending"), "no hash")
    badges("results", "-o", file, env=here.env, expect=1)
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("job_id", ["x;touch${IFS}/tmp/PWNED;", "$(id)", "--help", "own-1"])
@pytest.mark.parametrize("kind", ["in_doubt", "rejected", "exhausted"])
@pytest.mark.parametrize("own", [{}, {"fingerprint": "f"}], ids=["by content", "own id"])
def test_a_command_to_copy_is_safe(job_id: str, kind: str, own: dict[str, str]) -> None:
    """Whatever a producer's id holds, a shell hands it on as it is, and it means no other org's job."""
    said = reason("eu", job_id, {"state": "d", "kind": kind, "code": "x"} | own)
    command = str(said).rpartition("badges dead ")[2].removesuffix(" (or --not-issued)")
    shell = ["sh", "-c", f"printf '%s\\n' {command}"]
    verb, *words = subprocess.run(shell, capture_output=True, check=True).stdout.decode().splitlines()
    if own:
        assert "--org eu" in " ".join(words)
        words = [word for word in words if word not in ("--org", "eu")]
    option = "--issued" if verb == "resolve" else "--job"
    as_it_is = {"resolve": ["--issued", "--", job_id], "replay": [f"--job={job_id}"]}
    assert words == (as_it_is[verb] if job_id.startswith("-") else [option, job_id])


@given(st.text(alphabet="'=+-@\t0123456789eEab/.:\uff1d\uff0b ", max_size=20) | st.text())
def test_what_is_guarded_comes_back(text: str) -> None:
    """Whatever a cell holds, it is read back as it was; and no guarded cell begins like a formula."""
    assert unguarded(guarded(text)) == text
    assert guarded(text)[:1] not in set("=+-@\t\r\uff1d\uff0b\uff0d\uff20")


def test_what_a_spreadsheet_takes_for_a_date_is_guarded() -> None:
    """An id that it would write anew as a date would be another job's; whole instants it leaves alone."""
    for text in ("1-2", "3/4", "2026-01-02", "1.2", "10:30", "01/02/2026", "1767225600000", "500000000001"):
        assert guarded(text) == f"'{text}", text
    for text in ("2026-01-02T00:00:00+01:00", "696f0fd40772ad476ecf74ac", "555567088", "a-1", "1-2-3-4"):
        assert guarded(text) == text


def test_a_mended_report_can_be_held(here: Here, tmp_path: Path) -> None:
    """Like any other file: nothing of it is sent before its start, and where it came from is known."""
    with process(worker_command(), env=here.env, log=tmp_path / "worker.log"):
        here.bring("first", written([ROWS["rejected"]], "csv", ""))
        here.wait_for("first")
    (row,) = here.report("csv", run="first")
    (file := tmp_path / "mended.csv").write_text(saved([row | {"badgeMetaId": BADGE}], "csv"))
    badges("import", file, "--run", "mended", "--hold", env=here.env)
    run = here.run("mended")
    assert (run.on_hold, run.later, run.queued, run.source.file) == (True, True, 1, str(file))
    assert not Probe(here.client).queued()
    with process(worker_command(), env=here.env, log=tmp_path / "worker2.log"):
        badges("run", "start", "mended", env=here.env)
        here.wait_for("mended")
    assert here.issued() == {ROWS["rejected"][1]: 1}

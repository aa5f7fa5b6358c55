"""What keeps the tree readable: names, headers and the files that are named are true."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
from conventions import headers, log_events, nodes

from worker.domain.outcome import Signal
from worker.store.protocol import Verb

ROOT = Path(__file__).parents[2]
WORKER = ROOT / "worker"
MODULES = sorted(WORKER.rglob("*.py"))
LUA = sorted((WORKER / "store/lua").glob("*.lua"))
SCRIPTS = [path for path in LUA if not path.name.startswith("_")]

# One letter that is no code of the record: a type's name, a unit, a mode of open(), a separator in a date.
OTHER_LETTERS = {"s", "m", "h", "d", "w", "T", "Z"}
MAY_HOLD_OTHERS = {
    "async_badge_queue.py",
    "badge_queue.py", "cli/jobs.py", "cli/demo_life.py", "cli/output.py", "cli/results.py", "cli/start.py",
    "cli/tables.py", "delivery.py", "domain/badge.py",
    "domain/dates.py",
    "domain/text.py", "domain/org.py", "process/arguments.py", "sandbox/issued.py", "server/valkey.py",
    "vendor/client.py", "web/metrics.py",
}  # fmt: skip

DATE_LETTERS = {"Y", "y", "m", "d", "H", "I", "M", "S", "p"}  # as strptime has them
XML_LETTERS = set("Qbcdefhmnrstvwy")  # of a workbook's cells and formats
# Files of other people's that a text may name.
THEIR_FILES = {"worker.py"}


def within(path: Path) -> str:
    """Return a module's path below ``worker``."""
    return path.relative_to(WORKER).as_posix()


@cache
def literals(path: Path) -> set[str]:
    """Return the strings of a module, but for how numbers are formatted."""
    formats = {
        id(part)
        for node in nodes(path)
        if isinstance(node, ast.FormattedValue) and node.format_spec
        for part in ast.walk(node.format_spec)
    }
    constants = (node for node in nodes(path) if isinstance(node, ast.Constant) and id(node) not in formats)
    return {node.value for node in constants if isinstance(node.value, str)}


def test_no_letter_of_the_record_stands_outside_it() -> None:
    """A field, a state or an answer has a name (``store/record.py``), and is written by it everywhere."""
    found = []
    for path in MODULES:
        if within(path) in {"store/record.py", "domain/spellings.py"}:  # the latter's are parts of dates
            continue
        letters = {one for one in literals(path) if re.fullmatch("[A-Za-z]", one)}
        if within(path) in MAY_HOLD_OTHERS:
            letters -= OTHER_LETTERS
        if within(path) in ("domain/localdates.py", "domain/spellings.py"):
            letters -= DATE_LETTERS | {"A", "D", "Z", "h"}
        if within(path).startswith("files/xlsx_"):
            letters -= XML_LETTERS
        if within(path) == "domain/seen.py":
            letters -= {"q"}  # the type of an array
        found += [f"{within(path)}: {letter}" for letter in sorted(letters)]
    assert not found, f"use its name from store/record.py; if it is no code, say so in OTHER_LETTERS: {found}"


@pytest.mark.parametrize("path", LUA, ids=lambda path: path.stem)
def test_no_letter_of_the_record_stands_in_a_script(path: Path) -> None:
    """The tables FIELD, STATE, ANSWER and VERB have the names there."""
    code = re.sub(r"--.*", "", path.read_text())
    letters = set(re.findall(r"'[A-Za-z]'", code))
    assert letters <= ({"'n'"} if path.stem == "_gate" else set())  # the gate's number of sends


def test_a_script_knows_what_to_do_at_each_word_that_it_may_get() -> None:
    """A signal or a verb without its branch would fail when a batch was sent: its jobs would end in doubt."""
    text = (WORKER / "store/lua/settle.lua").read_text()
    acts = text.partition("  act = {\n")[2].partition("\n  }\n")[0]
    heard = set(re.findall(r"^    (\w+) = function", acts, re.MULTILINE))
    assert heard - {"none"} == set(Signal), "each Signal has a function in act, at the end of settle.lua"
    branches = set(re.findall(r"VERB\.(\w+)", text))
    assert branches == set(Verb), "each Verb has a function in apply, in settle.lua"


def test_a_counter_reads_what_a_script_counts() -> None:
    """One that nobody counts would be 0 for ever, and look well."""
    counted = set(re.findall(r"\bstat\('(\w+)'", "".join(path.read_text() for path in LUA)))
    read = {
        name
        for path in MODULES
        for name in re.findall(r'\b(?:_counter|stats\.get)\("(\w+)"', path.read_text())
    }
    assert read, "they are read in worker/web/metrics.py"
    assert read <= counted, "nobody counts it: stat('name', n) in a script of store/lua"


def test_redis_and_its_keys_are_of_store_and_server_alone() -> None:
    """Every other wing asks them by method."""
    reach = set()
    for path in MODULES:
        if within(path).startswith(("store/", "server/")):
            continue
        text = path.read_text()
        names = any("{badges" in literal for literal in literals(path))
        if (
            names
            or re.search(r"^\s*(import redis|from redis)\b", text, re.MULTILINE)
            or re.search(r"\bkeys\.[A-Za-z]+", text)
        ):
            reach.add(within(path))
    assert not reach, f"give store/ or server/ a method, and call that: {reach}"


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_scripts_header_names_its_keys_and_arguments(path: Path) -> None:
    """Each that it uses, and none that it doesn't; and what it returns, and what a repetition does."""
    said = headers(path)
    body = re.sub(r"^--.*", "", path.read_text(), flags=re.MULTILINE)
    uses = re.search(r"^-- Uses +(.*)", path.read_text(), re.MULTILINE)
    shared = {1} if re.search(r"\bK\.", body) or "record" in (uses[1] if uses else "") else set()
    for kind in ("KEYS", "ARGV"):
        used = {int(n) for n in re.findall(rf"\b{kind}\[(\d+)\]", body)}
        used |= shared if kind == "KEYS" else set()
        assert said[kind] == used, kind
    assert said["rest"] == ("#ARGV" in body or "unpack(ARGV" in body)
    assert said["Returns"], "it must say what it returns"
    assert said["Repeated"], "it must say what a repetition does"


def test_every_file_that_is_named_exists() -> None:
    """In docstrings, comments and the README: a name that leads nowhere costs more than none."""
    there = {path.name for folder in (WORKER, ROOT / "tests", ROOT / "deploy") for path in folder.rglob("*")}
    there |= {path.name for path in ROOT.iterdir()} | THEIR_FILES
    lost = []
    for path in [*MODULES, *LUA, ROOT / "README.md", *(ROOT / "deploy/docs").glob("*.md")]:
        for name in re.findall(r"(?<![\w./-])([\w-][\w/-]*\.(?:py|lua))\b", path.read_text()):
            relative = [WORKER / name, ROOT / name, path.parent / name, WORKER / "store" / name]
            if name == "worker.py":  # a file of somebody else's
                continue
            if not (any(one.exists() for one in relative) or ("/" not in name and name in there)):
                lost.append(f"{path.relative_to(ROOT)}: {name}")
    assert not lost, f"these name a file that isn't there: {lost}"


def test_log_events_are_dotted_and_known() -> None:
    """The catalogue is made from the code, so that it can't drift (``conventions.log_events``)."""
    events = log_events(MODULES)
    assert {"batch.settled", "job.dead", "org.paused"} <= set(events)
    assert not [event for event in events if not re.fullmatch(r"[a-z]+\.[a-z_]+", event)]


@pytest.mark.parametrize("path", [*sorted((ROOT / "deploy/docs").glob("**/*.md")), ROOT / "README.md"])
def test_lines_of_the_docs_fit_a_screen(path: Path) -> None:
    """120 characters at most."""
    assert not [n for n, line in enumerate(path.read_text().splitlines(), 1) if len(line) > 120]


def test_who_runs_a_module_of_ours_takes_none_from_where_its_user_stands() -> None:
    """``python -m`` looks there first, where a service may have a worker.py of its own; -P doesn't."""
    runs = [path for path in WORKER.rglob("*.py") if '"-m"' in path.read_text()]
    assert runs == [WORKER / "beside.py"]
    assert 'sys.executable, "-P", "-m", module' in runs[0].read_text()


NOUNS = (
    *(
        "badges",
        "bytes",
        "calls",
        "cells",
        "characters",
        "columns",
        "customers",
        "days",
        "duplicates",
        "faults",
    ),
    *(
        "files",
        "groups",
        "invalids",
        "items",
        "jobs",
        "keys",
        "letters",
        "lines",
        "messages",
        "minutes",
        "orgs",
    ),
    *("others", "pages", "places", "profiles", "requests", "results", "rows", "runs", "seconds", "sheets"),
    *("values", "workers", "entries", "arguments", "attempts", "batches", "tokens"),
)
VERBS = ("are", "were", "have", "wait", "need", "speak", "name", "look", "lose", "remain", "fit", "go")
OF_MANY = re.compile(rf" ?(?:of them |dead |good |more |other )?({'|'.join((*NOUNS, *VERBS))})\b")
OF_MANY_IN_PAGE = re.compile(rf"\}}\}}(?:</\w+>)?(?: <small>)?{OF_MANY.pattern}")


# What is never one where it is said, or is no number.
NEVER_ONE = {
    "cli/showcheck.py: {check.good} rows",
    "cli/showcheck.py: {check.invalid} are",
    "cli/showcheck.py: {len(asked.badges)} badges",
    "cli/workers.py: {tables.safe(where)} badges",
    "files/csv_rows.py: {csv.field_size_limit()} characters",
    "files/header.py: {found[name]} columns",
    "files/text.py: {len(head)} bytes",
    "operate/orgcheck.py: {per_s * org.batch_size} badges",
    "operate/runs.py: {len(found)} runs",
    "operate/verdicts.py: {len(jobs)} jobs",
    "process/arguments.py: {counted(len(given), 'argument')} are",
    "server/health.py: {fit} jobs",
    "web/callers.py: {org.name} have",
    "web/intake_app.py: {most} bytes",
}


def _is_bound(value: ast.expr) -> bool:
    """Say whether a value is a bound of the program's own, which is never one."""
    return all(node.id.lstrip("_").isupper() for node in ast.walk(value) if isinstance(node, ast.Name))


def _of_many(path: Path) -> Iterator[str]:
    """Yield what a module says of a number as of many, whatever that number is."""
    for node in nodes(path):
        parts = node.values if isinstance(node, ast.JoinedStr) else []
        for value, text in pairwise(parts):
            if not (isinstance(value, ast.FormattedValue) and isinstance(text, ast.Constant)):
                continue
            if (found := OF_MANY.match(str(text.value))) and not _is_bound(value.value):
                yield f"{within(path)}: {{{ast.unparse(value.value)}}} {found[1]}"


def test_one_is_never_told_as_many() -> None:
    """``1 job``, ``2 jobs``: a noun or verb behind a number has its form by the number (``text.counted``)."""
    found = [one for path in MODULES for one in _of_many(path)]
    for page in sorted(WORKER.rglob("*.html")):
        found += [f"{page.name}: {one[0]}" for one in OF_MANY_IN_PAGE.finditer(page.read_text())]
    new = "use domain.text.counted, or add it to NEVER_ONE if it is never one"
    assert set(found) == NEVER_ONE, f"{new}: {sorted(set(found) ^ NEVER_ONE)}"


@pytest.mark.parametrize(
    "wing", sorted(path.parent for path in WORKER.glob("*/__init__.py")), ids=lambda p: p.name
)
def test_each_wing_says_what_lives_there_and_what_to_read_first(wing: Path) -> None:
    """In its own words; that the files exist which it names is tested above."""
    said = ast.get_docstring(ast.parse((wing / "__init__.py").read_text())) or ""
    assert re.search(r"``[\w/]+\.py``", said), said
    assert f"{wing.name}/" in (WORKER / "__init__.py").read_text(), "the map names it"


# Two subjects have two files. These have one, or wait for a hand: none is added, and none grows by a tenth.
LONG_FILES = {
    "cli/shapes.py": 365, "config.py": 410, "enqueue.py": 417, "operate/deadlist.py": 334,
    "operate/staging.py": 314, "sandbox/vendor.py": 334,
    "store/queue.py": 464, "store/record.py": 398, "web/intake_app.py": 361, "web/metrics.py": 309,
}  # fmt: skip


def test_a_file_is_short_enough_to_be_read() -> None:
    """300 lines at most."""
    sizes = {within(path): len(path.read_text().splitlines()) for path in MODULES}
    long = {name: n for name, n in sizes.items() if n > max(300, LONG_FILES.get(name, 0) * 1.1)}
    assert not long, f"give what is a subject of its own a file of its own: {long}"
    assert not [name for name in LONG_FILES if sizes.get(name, 0) <= 300], "no longer long: take it off"


def test_words_are_those_that_everybody_reads() -> None:
    """What comments and texts are not to say, since people everywhere read them."""
    hard = re.compile(r"\b(whoever|anew|till|since ever|of ours|is no more|in one with)\b", re.IGNORECASE)
    found = [
        f"{path.relative_to(ROOT)}:{n}: “{its[0]}”"
        for path in [*MODULES, *LUA]
        for n, line in enumerate(path.read_text().replace("demo.till", "").splitlines(), 1)
        if (its := hard.search(line))
    ]
    assert not found, f"say it in plainer words: {found}"

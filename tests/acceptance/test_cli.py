"""The command line as a person meets it: help, one sentence for every failure, and the right exit status."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import pytest
from pages import commands
from support import BADGE, PROGRAMS, badges, badges_process, environment, process, wait_for

from worker.server.connection import Connection

NOWHERE = "redis://:redis-marker@127.0.0.1:1"

COMMANDS = [name for name, _ in commands()]


@pytest.fixture
def env(empty: Connection) -> dict[str, str]:
    """An empty database."""
    return environment(redis_url=empty.url)


@pytest.fixture
def orgs(tmp_path: Path) -> Path:
    """A file with two further orgs."""
    file = tmp_path / "orgs.toml"
    tables = (f'[{name}]\napi_base_url = "https://{name}.example.com"\n' for name in ("apac", "eu-2"))
    file.write_text("\n".join(tables))
    return file


def failure(*arguments: object, env: dict[str, str], expect: int) -> str:
    """Run a command that fails; return its one sentence, without the program's name."""
    done = badges(*arguments, env=env, expect=expect)
    said = done.stderr.decode()
    assert "Traceback" not in said
    last = said.strip().splitlines()[-1]
    assert last.startswith("badges: "), said
    return last.removeprefix("badges: ")


# Help


@pytest.fixture(scope="module")
def helped() -> dict[str, str]:
    """Read every command's help."""
    env = environment() | {"COLUMNS": "200", "TERM": "dumb"}
    return {name: badges(*name.split(), "--help", env=env).stdout.decode() for name in ("", *COMMANDS)}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_that_helps(helped: dict[str, str], command: str) -> None:
    """A sentence on what it does, and one on every option."""
    said = helped[command]
    sentences = said.partition("Usage:")[2].splitlines()[1:]
    first = next(line.strip() for line in sentences if line.strip())
    assert len(first.split()) >= 5
    for line in (one.strip("│ ") for one in said.splitlines()):
        if line.startswith("--") and not line.startswith("--help"):
            words = [word for word in line.split() if word[0] not in "-<[" and not word.isupper()]
            assert len(words) >= 2, f"an option without help: {line}"


def test_listings_speak_json_and_take_an_org(helped: dict[str, str]) -> None:
    """The contract: every listing has ``--json``, and commands take ``--org``."""
    listings = ("run list", "run show", "job show", "dead list", "dead groups", "status", "import")
    assert [name for name in listings if "--json" not in helped[name]] == []
    orgs = (*listings, "results", "dead replay", "pause", "resume", "run follow")
    assert [name for name in orgs if "--org" not in helped[name]] == []
    listed = [words[1] for line in helped[""].splitlines() if len(words := line.split()) > 1]
    assert {name.split()[0] for name in COMMANDS} <= set(listed)
    assert listed.index("import") < listed.index("status") < listed.index("up") < listed.index("demo")


def test_help_on_the_real_command(env: dict[str, str]) -> None:
    """``--help`` and ``-h`` exit 0; a command without its arguments, or one that doesn't exist, exits 2."""
    assert b"import" in badges("--help", env=env).stdout
    assert badges("--version", env=env).stdout.decode().strip() == version("badge-import-worker")
    assert b"--dry-run" in badges("import", "-h", env=env).stdout
    for wrong in ((), ("run",), ("import",), ("colour",), ("results", "--state", "lost"), ("job", "show")):
        done = badges(*wrong, env=env, expect=2)
        assert b"Traceback" not in done.stderr
        assert done.stderr or done.stdout


# Settings


def test_an_unknown_org_is_refused_with_the_list(env: dict[str, str], orgs: Path) -> None:
    """Whatever the command: exit 2, and the names there are."""
    env |= {"BADGES_ORGS_FILE": str(orgs)}
    for command in (
        ("import", "-"), ("results",), ("run", "list"), ("job", "show", "x"), ("dead", "groups"), ("pause",),
    ):  # fmt: skip
        said = failure(*command, "--org", "nobody", env=env, expect=2)
        assert "no org 'nobody'" in said
        assert "apac, default, eu-2" in said


def test_a_mistyped_setting_is_warned_of(env: dict[str, str], tmp_path: Path) -> None:
    """It would otherwise do nothing, in silence; the warning names the setting that was meant."""
    env |= {"BADGES_RATELIMIT": "5/second", "BADGES_API_BASEURL": "https://x.example.com"}
    (tmp_path / "x.csv").write_text(f"badgeMetaId,customerId\n{BADGE},1\n")
    for command in (("status",), ("import", tmp_path / "x.csv", "--dry-run"), ("results",)):
        done = badges(*command, env=env)
        assert b"BADGES_RATELIMIT is no setting; did you mean BADGES_RATE_LIMIT?" in done.stderr
    done = badges("worker", env=env, expect=2)  # which then fails for want of what was mistyped
    assert b"BADGES_API_BASEURL is no setting; did you mean BADGES_API_BASE_URL?" in done.stderr


@pytest.mark.parametrize("command", ["worker", "up"])
def test_a_worker_needs_the_vendors_host(env: dict[str, str], command: str) -> None:
    """Without it, exit 2 and its name; nothing is started."""
    said = failure(command, env=env, expect=2)
    assert "BADGES_API_BASE_URL is missing" in said


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"BATCH_SIZE": "many"}, "BADGES_BATCH_SIZE"),
        ({"RATE_LIMIT": "fast"}, "BADGES_RATE_LIMIT"),
        ({"API_BASE_URL": "http://vendor.example.com"}, "BADGES_API_BASE_URL: must be https://"),
        ({"AUTH": "basic"}, "BASIC_USERNAME"),
        ({"AUTH": "oauth", "OAUTH_KEY": "k"}, "OAUTH_SECRET"),
        ({"ORGS_FILE": "/nowhere.toml"}, "BADGES_ORGS_FILE"),
        ({"BASIC_PASSWORD_FILE": "/nowhere"}, "/nowhere"),
    ],
)
def test_a_wrong_setting_is_named(env: dict[str, str], settings: dict[str, str], named: str) -> None:
    """Exit 2, the setting's name, and what it should be."""
    env |= {f"BADGES_{name}": value for name, value in settings.items()}
    assert named in failure("status", env=env, expect=2)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("demo --items 5", "'--items': must be at least 100"),
        ("run list --limit 0", "'--limit': must be at least 1"),
        ("run list --limit abc", "'--limit': must be a whole number"),
        ("sandbox --port 99999", "'--port': must be at most 65535"),
        ("dead check --share 2", "'--share': must be at most 1"),
        ("dead list --kind none", "'--kind': 'none' is not one of 'rejected', "),
        ("import x --fail-on often", "'--fail-on': 'often' is not one of 'never', "),
    ],
)
def test_a_wrong_option_is_named(env: dict[str, str], command: str, words: str) -> None:
    """Exit 2, the option's name, and what it must be, in no library's words."""
    said = badges(*command.split(), env=env, expect=2).stderr.decode()
    said = " ".join(said.replace("│", " ").split())
    assert f"Invalid value for {words}" in said
    assert "Input" not in said


@pytest.mark.parametrize(
    ("its", "words"),
    [
        ({"HTTP_TIMEOUT_S": "-1"}, "must be a number of seconds above 0, at most 600"),
        ({"RESULT_TTL_DAYS": "0"}, "must be a number of days above 0, at most 36500"),
        ({"MAX_QUEUED": "1"}, "must be a whole number of jobs from 1000 to 1000000000000"),
        ({"CONSOLE_UPLOAD_MAX": "1 GB"}, "must be a whole number of bytes from 1 to 1099511627776"),
        ({"CONSOLE_PUBLIC_URL": "badges"}, "must be a URL such as https://"),
        ({"REQUEST_ID_HEADER": "X CAP"}, "must be the name of a header"),
        ({"ORGS_FILE": "/nowhere.toml"}, "/nowhere.toml can't be read: No such file or directory"),
    ],
)
def test_a_range_says_of_what(env: dict[str, str], its: dict[str, str], words: str) -> None:
    """Seconds, days, jobs or bytes; and what form a text must have."""
    said = failure("status", env=env | {f"BADGES_{name}": value for name, value in its.items()}, expect=2)
    assert words in " ".join(said.split())


# Failures


@pytest.mark.parametrize("command", [("run", "list"), ("status",), ("results",), ("import", "x.csv")])
def test_redis_out_of_reach(tmp_path: Path, command: tuple[str, ...]) -> None:
    """One sentence, exit 1, and that without waiting for ever; and never the password that is in the URL."""
    (tmp_path / "x.csv").write_text(f"badgeMetaId,customerId\n{BADGE},1\n")
    began = time.monotonic()
    done = badges(*command, env=environment(redis_url=NOWHERE), expect=1, cwd=tmp_path)
    assert time.monotonic() - began < 60
    said = done.stderr.decode()
    assert "Traceback" not in said
    assert "127.0.0.1:1" in said.splitlines()[-1]
    assert "marker" not in said


def test_what_is_not_there(env: dict[str, str]) -> None:
    """No such run or job: exit 1, its name, and where to look."""
    assert failure("run", "show", "x", env=env, expect=1) == "there is no run 'x'; see: badges run list"
    assert "no run 'x'" in failure("run", "follow", "x", env=env, expect=1)
    assert "no run 'x'" in failure("results", "--run", "x", env=env, expect=1)
    assert "no job 'x'" in failure("job", "show", "x", env=env, expect=1)


def test_an_argument_that_is_no_text(env: dict[str, str]) -> None:
    """Bytes that aren't UTF-8: exit 2 and which it was, wherever they stand."""
    for command in (("job", "show", "\udcff"), ("pause", "--reason", "x\udcff"), ("results", "-o", "\udcff")):
        assert "no text in UTF-8: '" in failure(*command, env=env, expect=2)


def test_ctrl_c_while_a_worker_starts(env: dict[str, str]) -> None:
    """Before Celery listens to it, its Click makes an exception of its own of it: exit 130 all the same."""
    env |= {"BADGES_API_BASE_URL": "https://eu.example.com"}
    command = [sys.executable, PROGRAMS / "interrupted_up.py"]
    done = subprocess.run(command, env=env, capture_output=True, timeout=60, check=False)
    assert (done.returncode, b"Traceback" in done.stderr) == (130, False)


def test_the_sandbox_says_how_to_use_it(env: dict[str, str], tmp_path: Path) -> None:
    """Where its own door is, and at the end what it saw."""
    log = tmp_path / "sandbox.log"
    command = [sys.executable, "-m", "worker.cli", "sandbox", "--port", "0"]
    with process(command, env=env | {"COLUMNS": "200"}, log=log):
        wait_for(lambda: "/faults -d" in log.read_text())
        fault = next(line for line in log.read_text().splitlines() if "/faults" in line)
        _, url, _, body = shlex.split(fault.partition(": ")[2])
        assert httpx.post(url, content=body).status_code == 204
    assert "0 requests, 0 badges issued, 0 of them twice" in log.read_text()


def test_a_file_that_cannot_be_written(env: dict[str, str], tmp_path: Path) -> None:
    """``-o`` into a directory that isn't there: exit 1, and its name."""
    assert "nowhere" in failure("results", "-o", tmp_path / "nowhere" / "x.csv", env=env, expect=1)


def test_foreign_text_is_safe_to_show(env: dict[str, str]) -> None:
    """Neither terminal escapes nor markup in a file's cells reach the screen as such."""
    rows = f"badgeMetaId,customerId\n{BADGE},\x1b[31mred[bold]\n\x1b]0;title\x07[/],7\n"
    done = badges("import", "-", "--run", "[red]r[/]", env=env, stdin=rows.encode(), expect=3)
    shown = done.stdout + badges("dead", "list", env=env).stdout + badges("run", "list", env=env).stdout
    assert b"\x1b" not in shown
    assert b"\x07" not in shown
    assert b"[red]r[/]" in done.stdout


def test_a_reader_that_goes_away(env: dict[str, str]) -> None:
    """``badges results | head -1`` ends without a word."""
    rows = "badgeMetaId,customerId\n" + "".join(f"{BADGE},{n}\n" for n in range(1, 5001))
    badges("import", "-", env=env, stdin=rows.encode())
    script = f"{sys.executable} -m worker.cli results | head -1"
    done = subprocess.run(["bash", "-c", script], env=env, capture_output=True, timeout=60, check=False)
    assert json.loads(done.stdout)["state"] == "queued"
    assert done.stderr == b""


def test_the_embedded_server_is_as_good(tmp_path: Path) -> None:
    """Without any URL: the data directory holds what was imported, and no process stays."""
    env = environment(data_dir=tmp_path / "data") | {"TMPDIR": str(tmp_path)}
    row = f"{BADGE},1,1674292011,1905828011\n"
    rows = f"badgeMetaId,customerId,earnEventDate,earnExpiresOn\n{row}{row}"
    done = badges_process("import", "-", "--run", "one", "--json", env=env, stdin=rows.encode())
    assert json.loads(done.stdout) == {
        "run": "one",
        "accepted": 1,
        "duplicates": 1,
        "invalid": 0,
        "near_duplicates": 0,
        "held": 0,
        "warnings": [],
    }
    shown: dict[str, Any] = json.loads(badges_process("run", "show", "one", "--json", env=env).stdout)
    assert (shown["total"], shown["queued"]) == (1, 1)
    assert not list(tmp_path.glob("badges-*"))
    assert not [process for process in Path("/proc").glob("[0-9]*") if serves(process, tmp_path / "data")]


def serves(process: Path, data: Path) -> bool:
    """Say whether a process works in this directory, as an embedded server does."""
    try:
        return (process / "cwd").readlink() == data
    except OSError:
        return False

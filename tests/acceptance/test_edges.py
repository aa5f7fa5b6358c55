"""The edges of a command line: closed or narrow streams, a full disk, Ctrl-C while it starts."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support import (
    BADGE,
    badges,
    badges_json,
    badges_process,
    environment,
    in_process,
    process,
    some,
    wait_for,
)

from worker.server import valkey
from worker.server.connection import Connection

COMMAND = f"{shlex.quote(sys.executable)} -m worker.cli"
GOOD = f"badgeMetaId,customerId\n{BADGE},7\n"


@pytest.fixture
def env(empty: Connection) -> dict[str, str]:
    """An empty database."""
    return environment(redis_url=empty.url)


def shell(line: str, env: dict[str, str], folder: Path) -> subprocess.CompletedProcess[bytes]:
    """Run the command with what a shell does to its streams."""
    line = line.replace("badges", COMMAND, 1)
    return subprocess.run(
        ["bash", "-c", line], env=env, cwd=folder, capture_output=True, timeout=60, check=False
    )


@pytest.mark.parametrize(
    ("line", "status", "said"),
    some(
        [
            ("badges import bad.csv --run r 2>&-", 3, ""),
            ("badges import - --run r <&-", 1, "standard input is closed"),
            ("badges status <&- >&- 2>&-", 0, ""),
            ("badges status 2>&-", 0, ""),
            ("badges status >&-", 0, ""),
            ("badges import good.csv --run r 2>&-", 0, ""),
            ("badges import good.csv --run r >&-", 0, ""),
            ("badges import - --run r --allow-duplicates <&-", 2, "add --yes"),
            ("badges dead discard --kind invalid <&-", 0, ""),
            ("badges run show none 2>&-", 1, ""),
        ],
        3,
    ),
)
def test_a_stream_that_is_closed(
    env: dict[str, str], tmp_path: Path, line: str, status: int, said: str
) -> None:
    """Nothing breaks: the exit status is as ever, and what goes in is in."""
    (tmp_path / "good.csv").write_text(GOOD)
    (tmp_path / "bad.csv").write_text(GOOD + f"{BADGE},x\n")
    done = shell(line, env, tmp_path)
    assert done.returncode == status, done
    assert said in done.stderr.decode()
    assert b"Traceback" not in done.stderr + done.stdout
    if ".csv" in line:
        assert badges_json("run", "show", "r", env=env)["queued"] == 1


@pytest.mark.parametrize("form", some(["", "--json"], 1))
def test_a_disk_that_is_full_for_the_result_alone(env: dict[str, str], tmp_path: Path, form: str) -> None:
    """The rows are in, which is said on standard error; exit 1, since whoever reads the result lacks it."""
    (tmp_path / "good.csv").write_text(GOOD)
    done = shell(f"badges import good.csv --run r {form} > /dev/full", env, tmp_path)
    assert done.returncode == 1
    told = done.stderr.decode()
    assert ('"accepted": 1' if form else "1 accepted") in told
    assert "standard output can't be written (No space left on device)" in told
    assert "Traceback" not in told
    assert badges_json("run", "show", "r", env=env)["queued"] == 1


@pytest.mark.parametrize("command", some(["status --json", "run list --json", "--version", "help doubt"], 2))
def test_a_disk_that_is_full_for_what_is_asked(env: dict[str, str], tmp_path: Path, command: str) -> None:
    """One sentence, in no library's words; exit 1."""
    done = shell(f"badges {command} > /dev/full", env, tmp_path)
    said = "badges: standard output can't be written (No space left on device)\n"
    assert (done.returncode, done.stderr.decode()) == (1, said)


@pytest.mark.parametrize("encoding", some(["ascii:strict", "ascii", "latin-1"], 1))
def test_an_output_that_knows_few_letters(env: dict[str, str], encoding: str) -> None:
    """What it can't show is shown by its number; the command does what it does, and says how many."""
    rows = f"{GOOD}{BADGE},Jürgen\n" + "".join(f"{BADGE},{chr(0x4E00 + n)}\n" for n in range(30))
    env |= {"PYTHONIOENCODING": encoding}
    done = badges_process("import", "-", "--run", "r", env=env, stdin=rows.encode(), expect=3)
    assert b"1 accepted" in done.stdout
    assert b"Traceback" not in done.stderr
    for command in (("dead", "list"), ("dead", "groups"), ("status",), ("results",), ("import", "--help")):
        assert b"Traceback" not in badges_process(*command, env=env).stderr
    dead = json.loads(badges_process("dead", "list", "--json", env=env).stdout)
    assert "Jürgen" in {row["customerId"] for row in dead}


def test_no_file_at_all(env: dict[str, str]) -> None:
    """``badges import ""`` is a usage error that says what is wanted."""
    done = in_process("import", "", env=env)
    assert done.status == 2
    assert "name a file, or - for standard input" in done.err


def test_what_the_embedded_server_died_of(tmp_path: Path) -> None:
    """The error tells it, so that nobody has to look for a log."""
    env = environment(data_dir=tmp_path / "data")
    badges("import", "-", env=env, stdin=GOOD.encode())
    log = tmp_path / "data" / "server.log"
    assert valkey.last_words(tmp_path / "data") is None
    ended = (
        "1:M 26 Nov 2026 21:45:24.127 # Short write while writing to the AOF file: No space left on device\n"
    )
    log.write_text(log.read_text() + ended)
    assert "No space left on device" in str(valkey.last_words(tmp_path / "data"))
    assert valkey.last_words(tmp_path / "nowhere") is None
    badges("status", env=env)  # which starts it again: what it died of then is over
    assert valkey.last_words(tmp_path / "data") is None


def test_a_server_that_dies_of_a_full_disk(tmp_path: Path) -> None:
    """From outside, on a disk of two megabytes, where one may be had."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", tmp_path], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a small disk can't be mounted here")
    try:
        rows = GOOD + "".join(f"{BADGE},{n}\n" for n in range(100, 20_000))
        env = environment(data_dir=tmp_path / "data")
        done = badges("import", "-", env=env, stdin=rows.encode(), expect=1)
        told = done.stderr.decode()
        assert "writing to the AOF file" in told
        assert "KiB left" in told
        assert "until then: at least" in told
    finally:
        subprocess.run(["umount", "-l", tmp_path], check=True)


def test_ctrl_c_while_it_starts(env: dict[str, str]) -> None:
    """While modules are loaded, which takes longest, it ends without a traceback."""
    command = [sys.executable, "-X", "importtime", "-m", "worker.cli", "status"]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stderr
        for line in running.stderr:
            if line.split()[-1].startswith(b"typer."):  # the first that is loaded, after our own start
                break
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=60)
    assert running.returncode in (-signal.SIGINT, 130)
    assert (out, b"Traceback" in err) == (b"", False)


def test_up_says_what_comes_next(tmp_path: Path) -> None:
    """That it is ready, and the command that imports; nothing of Celery's warning about root, in JSON."""
    env = environment(data_dir=tmp_path / "data", api_base_url="http://127.0.0.1:9")
    log = tmp_path / "up.log"
    with process([sys.executable, "-m", "worker.cli", "up"], env=env | {"COLUMNS": "300"}, log=log):
        wait_for(lambda: "badges import FILE --follow" in log.read_text(), within_s=60)
    assert "now import, in another terminal: " in log.read_text()
    assert "superuser" not in log.read_text()

"""The demonstration: the whole on one machine in under a minute, and nothing of it is left."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from support import environment, some, wait_for

from worker.cli.demo import interruptions

DEMO = [sys.executable, "-P", "-m", "worker.cli", "demo", "--items"]


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory for temporary files, whose short name lets a socket stand in it; empty in the end."""
    yield (path := tmp_path_factory.mktemp("d"))
    assert list(path.iterdir()) == []
    # The server's watcher looks every second, and then ends by itself.
    wait_for(lambda: not processes(path), what="a process of the demonstration goes on")


def processes(folder: Path) -> list[str]:
    """Return the command lines of all processes whose environment has this folder as ``TMPDIR``."""
    mark = f"TMPDIR={folder}".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (process / "environ").read_bytes().split(b"\0"):
                found.append((process / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue  # it has ended
    return found


def own(folder: Path) -> dict[str, str]:
    """Return the environment of a demonstration in this folder; a user's settings are there, and wrong."""
    others = environment(
        batch_size="1", redis_url="redis://127.0.0.1:1", auth="oauth", oauth_key="x", oauth_secret="x"
    )
    return {name: value for name, value in others.items() if name != "XDG_RUNTIME_DIR"} | {
        "TMPDIR": str(folder)
    }


def test_it_tells_the_whole_story_and_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    """Issued, dead by kind and code, duplicates, invalid, requests, fill, groups, a replay; exit 0, soon."""
    (tmp_path / "worker.py").write_text("mine = 1")  # a service's own, where its owner stands
    done = subprocess.run(
        [*DEMO, "2000"], env=own(folder), capture_output=True, timeout=100, check=False, cwd=tmp_path
    )
    said, progress = done.stdout.decode(), done.stderr.decode()
    assert done.returncode == 0, (said, progress)
    for words in (
        " issued", " dead", "51 rejected by the vendor, 10 invalid (never sent)", "jobs in all",
        "21 rows beside them", "requests made", "jobs in each on average", "Dead letters", "1054",
        "customerId", "Mending", "51 issued, 0 dead",
        "refused 0 for their rate", "issued 0 badges twice", "nothing of it is left",
    ):  # fmt: skip
        assert words in said, words
    assert "Traceback" not in said + progress
    assert "2,000/2,000 rows" in progress
    assert [one.name for one in tmp_path.iterdir()] == ["worker.py"]  # nor where it was called


MOMENTS = [2.0, 0.3, 1.0, 4.0]


@pytest.mark.parametrize(
    "moment_s", some([random.Random(7).uniform(0.8, 1.2) * moment_s for moment_s in MOMENTS], 1)
)
def test_ctrl_c_at_any_moment_leaves_nothing(folder: Path, tmp_path: Path, moment_s: float) -> None:
    """SIGINT to the whole foreground group, as a terminal sends it; once more if somebody is impatient."""
    with (tmp_path / "demo.log").open("wb") as log:
        demo = subprocess.Popen(
            [*DEMO, "20000"], env=own(folder), stdout=log, stderr=log, start_new_session=True, cwd=tmp_path
        )
    time.sleep(moment_s)  # the moment is the case
    os.killpg(demo.pid, signal.SIGINT)
    if moment_s > 1.5:
        time.sleep(0.2)  # a person's second press, while the first is being heeded
        os.killpg(demo.pid, signal.SIGINT)
    assert demo.wait(40) in (130, -signal.SIGINT, 1), (tmp_path / "demo.log").read_text()
    wait_for(lambda: not processes(folder), what=f"{processes(folder)}")
    assert list(folder.iterdir()) == []


def test_an_interruption_that_a_library_swallows_comes_again() -> None:
    """It may fall into a callback whose caller takes every error for one of the rows."""

    def library() -> None:
        with suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        signal.sigtimedwait([], 20)  # until the next signal

    with interruptions() as interruptible, pytest.raises(KeyboardInterrupt), interruptible():
        library()
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_sigterm_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    """Neither does the end that a supervisor makes of it."""
    with (tmp_path / "demo.log").open("wb") as log:
        demo = subprocess.Popen([*DEMO, "20000"], env=own(folder), stdout=log, stderr=log, cwd=tmp_path)
    wait_for(lambda: "Importing" in (tmp_path / "demo.log").read_text())
    demo.terminate()
    assert demo.wait(40) == 130
    assert "Traceback" not in (tmp_path / "demo.log").read_text()

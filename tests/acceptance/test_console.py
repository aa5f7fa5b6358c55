"""The console as a program: what its terminal says, and how it ends."""

from __future__ import annotations

import re
import signal
import sys
from pathlib import Path

import httpx
from support import environment, process, wait_for

from worker.server.connection import Connection


def test_it_ends_at_once_and_in_silence_while_a_page_is_open(connection: Connection, tmp_path: Path) -> None:
    """Ctrl-C ends what is kept fresh; the terminal has the links, and nothing else."""
    command = (sys.executable, "-m", "worker.cli", "console", "--port", "0")
    log = tmp_path / "console.log"
    with process(command, env=environment(redis_url=connection.url), log=log) as running:
        (link,) = wait_for(
            lambda: re.findall(r"^http://127\.0\.0\.1:\d+/\?token=\S+$", log.read_text(), re.MULTILINE)
        )
        with httpx.Client(trust_env=False, timeout=30) as http:
            assert http.get(link).status_code == 303
            with http.stream("GET", link.partition("?")[0] + "live?of=now") as page:
                lines = page.iter_lines()
                assert next(lines).startswith("data: ")
                running.send_signal(signal.SIGINT)
                for _ in lines:  # it comes to its end, and isn't broken off
                    pass
        assert running.wait(10) == 0
    said = log.read_text().splitlines()
    assert [line.partition("token=")[0] for line in said if line] == [
        link.partition("token=")[0],
        "opened; for another browser, or when that session has ended:",
        link.partition("token=")[0],
    ]

"""Other projects' programs, each run for a test: on loopback, from files of its own, ended by its pid."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from subprocess import Popen

from support import process, wait_for


@contextmanager
def serving(
    command: Sequence[object], *, env: dict[str, str], log: Path, says: str
) -> Iterator[tuple[str, Popen[bytes]]]:
    """Run one of our own servers; yields the URL that it says, and its process."""
    ours = [sys.executable, "-m", "worker.cli", *command]
    with process(ours, env=env | {"PYTHONUNBUFFERED": "1"}, log=log) as running:

        def ready() -> re.Match[str] | None:
            assert running.poll() is None, log.read_text()
            return re.search(says + r" on (http://[^\s/]+)", log.read_text())

        yield wait_for(ready, what=says)[1], running

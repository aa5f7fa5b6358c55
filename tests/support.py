"""What the tests share: badges, processes, and waiting for a condition instead of sleeping."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from worker.domain.badge import Badge, BadgeIssue
from worker.domain.batch import Item
from worker.domain.job import badge_fields, content_hash
from worker.domain.org import Org

BADGE = "696f0fd40772ad476ecf74ac"
OTHER_BADGE = "697a16140772ad476ecfe51c"
FIRST_CUSTOMER = 500_000_000


def badge(n: int = 0, *, badge_id: str = BADGE, **values: Any) -> Badge:
    """Return the n-th of many different badges."""
    return Badge(badge_id, FIRST_CUSTOMER + n, earn_event_date=1674292011, **values)


def issue(n: int = 0) -> BadgeIssue:
    """Return the same badge as a producer makes it in Python."""
    return BadgeIssue(badge_meta_id=BADGE, customer_id=FIRST_CUSTOMER + n, earn_event_date=1674292011)


def item(n: int = 0, *, org: str = "default", badge_id: str = BADGE) -> Item:
    """Return the n-th of many different jobs, as the queue takes it."""
    it = badge(n, badge_id=badge_id)
    return Item(content_hash(org, it), str(n), badge_fields(it))


def wait_for(condition: Callable[[], Any], *, within_s: float = 20, what: str = "") -> Any:
    """Poll until the condition holds and return its value; fail with ``what`` after ``within_s``."""
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError(f"not within {within_s} s: {what or condition}")


def environment(**settings: object) -> dict[str, str]:
    """Return an environment with just these ``BADGES_*`` settings."""
    others = {name: value for name, value in os.environ.items() if not name.startswith("BADGES_")}
    return others | {f"BADGES_{name.upper()}": str(value) for name, value in settings.items()}


def badges(
    *arguments: object,
    env: dict[str, str],
    stdin: bytes = b"",
    expect: int | None = 0,
    cwd: Path | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """Run the real command; ``expect`` is its exit status, ``None`` for any."""
    command = [sys.executable, "-m", "worker.cli", *map(str, arguments)]
    done = subprocess.run(
        command, env=env, input=stdin, capture_output=True, timeout=110, check=False, cwd=cwd
    )
    if expect is not None:
        assert done.returncode == expect, (command, done.returncode, done.stdout, done.stderr)
    return done


def badges_json(*arguments: object, env: dict[str, str], stdin: bytes = b"") -> Any:
    """Run the real command with ``--json`` and return what it prints; some rows may be bad (exit 3)."""
    done = badges(*arguments, "--json", env=env, stdin=stdin, expect=None)
    assert done.returncode in (0, 3), (arguments, done.returncode, done.stdout, done.stderr)
    return json.loads(done.stdout)


@contextmanager
def process(
    command: Sequence[object], *, env: dict[str, str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process while the block lasts; its output goes to ``log``, and it is stopped by its pid."""
    with log.open("ab") as out:
        running = subprocess.Popen(
            [str(part) for part in command], env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=out
        )
    try:
        yield running
    finally:
        if running.poll() is None:
            running.send_signal(signal.SIGTERM)
            try:
                running.wait(20)
            except subprocess.TimeoutExpired:
                running.kill()
                running.wait()


def worker_command(*options: object) -> list[object]:
    """Return the command of a real worker."""
    return [sys.executable, "-m", "worker.cli", "worker", *options]


def configured(**settings: Any) -> Org:
    """Return an org that is fast enough not to hold a test up."""
    return Org(**{"rate_limit": "1000/second", "batch_linger_s": 0, "max_in_flight": 100} | settings)

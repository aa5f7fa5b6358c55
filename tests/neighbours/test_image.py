"""The image as an engine runs it: not as root, on a read-only root, found well or not, drained by SIGTERM.

``.ci/image`` builds it from ``deploy/Dockerfile`` without Docker and ``.ci/run`` says where, in
``BADGES_CI_IMAGE``. What an engine does with it is done here by ``tests/programs/contained.sh``.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support import BADGE, PROGRAMS, absent, badges, badges_json, environment, process, wait_for
from topology import APPEND_ONLY, servers

from worker.sandbox.issued import SandboxSettings
from worker.sandbox.server import SandboxServer

AGE = 'touch --date "2 minutes ago" "$BADGES_HEARTBEAT_FILE"'  # older than a sign of life may be
READ_ONLY = ("/", "/opt/badges", "/etc", "/var", "/home")


@dataclass(frozen=True, slots=True)
class Image:
    """The image's root file system, and what it says about itself."""

    root: Path
    config: dict[str, Any]

    def command(self, *command: str, **settings: object) -> list[str]:
        """Return what runs a command in it, by default its own."""
        return [
            *("unshare", "--mount", str(PROGRAMS / "contained.sh"), str(self.root), self.config["User"]),
            *(self.config["WorkingDir"], "-i", *self.environment(**settings)),
            *(command or self.config["Cmd"]),
        ]

    def environment(self, **settings: object) -> list[str]:
        """Return its own variables and these settings."""
        return [*self.config["Env"], *(f"BADGES_{name.upper()}={value}" for name, value in settings.items())]

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in it to its end."""
        return subprocess.run(
            self.command(*command), capture_output=True, text=True, timeout=110, check=False
        )

    def inside(self, pid: int, *command: str) -> bool:
        """Run a command beside a process that runs in it; say whether it succeeded."""
        user, _, group = self.config["User"].partition(":")
        enter = ["nsenter", "--target", str(pid), "--mount", "--root", "--setuid", user, "--setgid", group]
        done = subprocess.run(
            [*enter, "env", "-i", *self.environment(), *command], capture_output=True, timeout=60, check=False
        )
        return done.returncode == 0

    def is_well(self, pid: int) -> bool:
        """Run its health check."""
        kind, *check = self.config["Healthcheck"]["Test"]
        assert kind == "CMD"
        return self.inside(pid, *check)


@pytest.fixture
def image() -> Image:
    """The image that was built for this run."""
    built = os.environ.get("BADGES_CI_IMAGE")
    if not built or os.geteuid():
        absent("no image is here: as root, .ci/image FOLDER builds one; name it in BADGES_CI_IMAGE")
    config = json.loads(Path(built, "image.json").read_text())["Docker"]["config"]
    return Image(Path(built, "rootfs").resolve(), config)


@pytest.fixture
def redis_url(tmp_path: Path) -> Iterator[str]:
    """A server that a container reaches."""
    with servers(tmp_path, APPEND_ONLY) as (server,):
        yield f"redis://{server.address}"


def test_it_is_nobody_and_writes_nowhere(image: Image) -> None:
    """Not root, nor of root's group; only ``/tmp`` can be written to."""
    assert image.run("id").stdout.startswith("uid=10001 gid=10001 groups=10001")
    for folder in READ_ONLY:
        assert "Read-only file system" in image.run("touch", f"{folder}/there").stderr
    assert image.run("touch", "there").returncode == 0


def test_the_demonstration_runs_in_it(image: Image) -> None:
    """The whole story, its server and worker too, with no more than ``/tmp`` to write to."""
    done = image.run("badges", "demo", "--items", "2000")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "issued 0 badges twice" in done.stdout


def test_sigterm_drains_it(image: Image, redis_url: str, tmp_path: Path) -> None:
    """As process 1 it hears SIGTERM itself: what is being sent is settled, what waits is kept; exit 0."""
    with SandboxServer(settings=SandboxSettings(latency_s=(2, 2))) as vendor:
        settings = {"redis_url": redis_url, "api_base_url": vendor.url, "rate_limit": "1000/second"}
        env, log = environment(**settings), tmp_path / "log"
        rows = "badgeMetaId,customerId\n" + "".join(f"{BADGE},{n}\n" for n in range(1, 2001))
        with process(image.command(**settings), env={"PATH": os.environ["PATH"]}, log=log) as worker:
            badges("import", "-", env=env, stdin=rows.encode())
            wait_for(lambda: vendor.vendor.ledger().exchanges, within_s=60, what=log.read_text())
            worker.send_signal(getattr(signal, image.config["StopSignal"]))
            assert worker.wait(30) == 0, log.read_text()
        (org,) = badges_json("status", env=env)
        assert org["in_flight"] == 0
        assert org["queued"] == 2000 - len(vendor.vendor.ledger().issues)
        assert not org["dead"]


def test_its_health_check(image: Image, redis_url: str, sandbox: SandboxServer, tmp_path: Path) -> None:
    """It succeeds beside a worker that gives its sign of life, and fails once that is old."""
    command = image.command(redis_url=redis_url, api_base_url=sandbox.url)
    with process(command, env={"PATH": os.environ["PATH"]}, log=tmp_path / "log") as worker:
        wait_for(lambda: image.is_well(worker.pid), within_s=60, what="the first sign of life")
        worker.send_signal(signal.SIGSTOP)
        try:
            assert image.inside(worker.pid, "sh", "-c", AGE)
            assert not image.is_well(worker.pid)
        finally:
            worker.send_signal(signal.SIGCONT)
        wait_for(lambda: image.is_well(worker.pid), within_s=60, what="another sign of life")

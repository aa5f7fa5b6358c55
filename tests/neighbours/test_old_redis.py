"""A Redis too old to keep the promises is refused by all that would rely on it, with its version."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator

import pytest
import redis
from support import BADGE, badges_process, environment, needs, process, wait_for
from topology import free_port

ROWS = f"badgeMetaId,customerId\n{BADGE},1\n".encode()
OLDEST = (7, 2)

pytestmark = pytest.mark.neighbour("redis-server")


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Debian's Redis, where it is older than what we ask for."""
    folder, port = tmp_path_factory.mktemp("old"), free_port()
    said = subprocess.run([needs("redis-server"), "--version"], capture_output=True, text=True, check=True)
    version = said.stdout.partition("v=")[2].split()[0]
    if tuple(map(int, version.split(".")[:2])) >= OLDEST:
        pytest.skip(f"redis-server {version} is new enough")
    own = ("--bind", "127.0.0.1", "--port", port, "--dir", folder, "--appendonly", "yes", "--save", "")
    with process([needs("redis-server"), *own], env={}, log=folder / "log"):
        client = redis.Redis(port=port)
        wait_for(lambda: _answers(client), what="redis-server")
        yield environment(redis_url=f"redis://127.0.0.1:{port}/0", api_base_url="http://127.0.0.1:9")
        client.close()


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False


@pytest.mark.parametrize(
    "command", [("worker",), ("import", "-"), ("intake", "--no-auth", "--port", 0), ("metrics", "--port", 0)]
)
def test_it_is_refused_at_start(env: dict[str, str], command: tuple[object, ...]) -> None:
    """With exit status 2, its version and what is wanted; nothing was accepted by it."""
    done = badges_process(*command, env=env, stdin=ROWS, expect=2)
    said = (done.stdout + done.stderr).decode()
    assert "7.0" in said
    assert "7.2" in said
    assert "Traceback" not in said
    with redis.Redis.from_url(env["BADGES_REDIS_URL"]) as client:
        assert not client.keys("*queue*")


def test_the_doctor_says_the_same(env: dict[str, str]) -> None:
    """As a finding with its cure."""
    findings = json.loads(badges_process("doctor", "--json", env=env, expect=1).stdout)
    (found,) = [finding for finding in findings if finding["check"] == "redis"]
    assert found["result"] == "fail"
    assert "7.0" in found["detail"]
    assert "7.2" in found["cure"]

"""Uses the embedded server of a data directory: does what it reads, and answers each line with one line."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import redis

from worker.server.embedded import EmbeddedServer

warnings.simplefilter("error")
server = EmbeddedServer(data_dir=Path(sys.argv[1]))


def _forked(work: Callable[[], object]) -> int:
    child = os.fork()
    if not child:
        work()
        os._exit(0)
    return child


def _stop_as_orphan(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.01)
    server.stop()


def _rounds(seed: str, count: str) -> None:
    chance = random.Random(seed)
    for _ in range(int(count)):
        with server, redis.Redis.from_url(server.url) as client:
            client.incr("rounds")
            time.sleep(chance.uniform(0, 0.02))
        time.sleep(chance.uniform(0, 0.02))


def _done(words: list[str]) -> object:  # noqa: PLR0911 - what each of its words does
    match words:
        case ["start"]:
            server.start()
            return Path(sys.argv[1], "server.pid").read_text().strip()
        case ["stop"]:
            server.stop()
        case ["fork", "stop"]:
            return os.waitpid(_forked(server.stop), 0)[1]
        case ["fork", "exit"]:
            return os.waitpid(_forked(lambda: None), 0)[1]
        case ["fork", "pause"]:
            return _forked(signal.pause)
        case ["fork", "orphan"]:
            parent = os.getpid()
            return _forked(lambda: _stop_as_orphan(parent))
        case ["exec"]:
            return subprocess.Popen(["sleep", "50"], close_fds=False, stdout=subprocess.DEVNULL).pid
        case ["rounds", seed, count]:
            _rounds(seed, count)
    return "done"


for line in sys.stdin:
    print(_done(line.split()), flush=True)

"""The contenders: how each one is started, what it needs, and where its results are counted."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import payload
import redis

HERE = Path(__file__).parent
PROGRAMS = HERE / "contenders"
INSTALL_LIMIT_S = 300


@dataclass(frozen=True, slots=True)
class Contender:
    """One way to deliver the items; commands without their interpreter.

    In them ``{n}`` is the worker's number, ``{calls}`` how many calls it may have under way at once.
    """

    name: str
    words: str
    produce: list[str]
    work: list[str] | None = None  # None: the producer does it all
    workers: int = payload.PROCESSES
    ready: str = " ready"  # what the logs say, once for each in ``readies``
    readies: int = payload.PROCESSES
    share: float = 1.0  # of the items: who is slow gets fewer
    modules: tuple[str, ...] = ()  # what it imports beyond the project's own
    own_venv: tuple[str, ...] = ()  # packages that must not be installed beside the project's
    node: tuple[str, ...] = ()  # packages of npm
    done: Callable[[redis.Redis], int] = lambda _: 0  # results stored so far

    def worker(self, n: int, calls: int = payload.CONCURRENCY) -> list[str]:
        """Return the command of the n-th worker, without its interpreter."""
        return [part.replace("{n}", str(n)).replace("{calls}", str(calls)) for part in self.work or []]


def _results(client: redis.Redis) -> int:
    """Count the keys of the results' database."""
    keyspace = client.info("keyspace")
    return int(keyspace.get(f"db{payload.RESULTS}", {}).get("keys", 0))


def _issued(client: redis.Redis) -> int:
    return int(client.hget("{badges:default}/run/bench", "issued") or 0)


def _completed(client: redis.Redis) -> int:
    return int(client.zcard("bull:bench:completed"))


def _celery(app: str, *more: str) -> list[str]:
    # fmt: off
    return [
        "-m", "celery", "-A", app, "worker", "--pool", "threads", "--concurrency", "{calls}",
        "--hostname", "bench{n}@%h", "--without-gossip", "--without-mingle", *more,
    ]
    # fmt: on


def _badges(pool: str, concurrency: str) -> list[str]:
    return ["-m", "worker.cli", "worker", "--pool", pool, "--concurrency", concurrency]


_ALL = payload.PROCESSES * payload.CONCURRENCY
_PER_ITEM = 0.05

# fmt: off
CONTENDERS = (
    Contender("badges", "this project", ["badges.py"], _badges("threads", "{calls}"), done=_issued),
    Contender("badges-prefork", "this project, prefork", ["badges.py"], _badges("prefork", str(_ALL)),
              workers=1, readies=1, done=_issued),
    Contender("celery-batch", "plain Celery, one task per pre-made batch", ["celery_batch.py"],
              _celery("celery_batch", "--loglevel", "INFO"), done=_results),
    Contender("celery-item", "plain Celery, one task per item", ["celery_item.py"],
              _celery("celery_item", "--loglevel", "INFO"), share=_PER_ITEM, done=_results),
    Contender("celery-batches", "celery-batches", ["celery_batches_.py"],
              _celery("celery_batches_", "--loglevel", "INFO"), share=_PER_ITEM, done=_results,
              own_venv=("celery-batches>=0.11", "celery[redis]>=5.6", "httpx>=0.28,<0.29", "packaging")),
    Contender("dramatiq", "dramatiq, one message per item", ["dramatiq_item.py"],
              ["-m", "dramatiq", "dramatiq_item", "--processes", str(payload.PROCESSES), "--threads",
               "{calls}"],
              workers=1, ready="Worker process is ready", share=_PER_ITEM, modules=("dramatiq",),
              done=_results),
    Contender("taskiq", "taskiq, one message per item", ["taskiq_item.py"],
              ["-m", "taskiq", "worker", "taskiq_item:broker", "--workers", str(payload.PROCESSES),
               "--max-async-tasks", "{calls}"],
              workers=1, ready="Listening started", share=_PER_ITEM, modules=("taskiq_redis",),
              done=_results),
    Contender("bullmq", "BullMQ, one job per item", ["bullmq.mjs"], ["bullmq.mjs", "work"], ready="ready",
              share=_PER_ITEM, node=("bullmq@5",), done=_completed),
    Contender("httpx", "the ceiling: bare httpx, threads, no queue, no results", ["httpx_bare.py"]),
    Contender("httpx-async", "the ceiling: bare httpx, asyncio, no queue, no results",
              ["httpx_bare.py", "asyncio"]),
)
# fmt: on


class NotHereError(Exception):
    """A contender can't be run on this machine."""


def interpreter(contender: Contender, folder: Path) -> list[str]:
    """Return what its programs are run with, installing what mustn't lie beside the project's packages.

    Raises:
        NotHereError: it can't be had; the text says why.
    """
    if contender.node:
        return [_node(contender, folder / "node")]
    if contender.own_venv:
        return [_venv(contender, folder / "venvs" / contender.name)]
    missing = [module for module in contender.modules if importlib.util.find_spec(module) is None]
    if missing:
        raise NotHereError(f"{', '.join(missing)} is not installed: pip install '.[bench]'")
    return [sys.executable]


def _venv(contender: Contender, folder: Path) -> str:
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        _install([sys.executable, "-m", "venv", "--clear", str(folder)])
        _install([str(python), "-m", "pip", "install", "-q", *contender.own_venv])
        (folder / "complete").touch()
    return str(python)


def _node(contender: Contender, folder: Path) -> str:
    node, npm = shutil.which("node"), shutil.which("npm")
    if not node or not npm:
        raise NotHereError("there is no node and npm")
    if not (folder / "complete").exists():
        folder.mkdir(parents=True, exist_ok=True)
        _install([npm, "install", "--no-fund", "--no-audit", "--prefix", str(folder), *contender.node])
        (folder / "complete").touch()
    return node


def _install(command: list[str]) -> None:
    try:
        subprocess.run(command, check=True, timeout=INSTALL_LIMIT_S, capture_output=True, text=True)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        words = str(getattr(error, "stderr", "") or error).strip().splitlines()
        raise NotHereError(f"can't be installed: {words[-1] if words else error}") from error

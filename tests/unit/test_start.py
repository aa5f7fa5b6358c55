"""What starts quickly loads little: which modules are loaded, not how long that takes on this machine.

And from then on an interrupt is heard.
"""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest
import typer
from support import PROGRAMS
from typer.core import TyperGroup

import worker
from worker.cli.root import OVERVIEW, cli

STARTED = "import time:"


def loaded(*arguments: str, expect: int = 0) -> set[str]:
    """Return the packages and modules that a run of the interpreter imports."""
    command = [sys.executable, "-X", "importtime", "-m", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == expect, done.stderr
    lines = (line for line in done.stderr.splitlines() if line.startswith(STARTED))
    return {line.rpartition("|")[2].strip() for line in lines}


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["-h"]], ids=" ".join)
def test_the_overview_loads_the_command_line_alone(arguments: list[str]) -> None:
    """No module of a command, no client of Redis, no Celery, no validation, no logging."""
    modules = loaded("worker.cli", *arguments)
    its = {f"worker.cli{name}" for name in ("", ".start", ".root", ".exits")}
    assert {name for name in modules if name.startswith("worker.")} <= its
    assert not modules & {"redis", "celery", "kombu", "pydantic", "structlog", "httpx", "asyncio", "ssl"}


def test_a_usage_error_loads_the_command_line_alone() -> None:
    """A command that doesn't exist is told as quickly."""
    assert not loaded("worker.cli", "statsu", expect=2) & {"redis", "celery", "worker.config"}


def test_a_worker_loads_no_web_server() -> None:
    """FastAPI is an extra, and the intake's alone."""
    assert not loaded("worker.app") & {"fastapi", "starlette", "uvicorn"}


def test_the_library_loads_nothing_before_it_is_used() -> None:
    """``from worker import BadgeQueue``: neither Celery nor Typer, nor even Redis' client and Pydantic."""
    modules = loaded("worker.badge_queue")
    assert "worker" in modules
    assert not modules & {"celery", "kombu", "typer", "rich", "redis", "pydantic", "structlog", "asyncio"}


def test_an_interrupt_that_meets_a_finalizer_is_not_lost() -> None:
    """Python drops what a finalizer raises, or a callback of its own, of which each import has one."""
    program = [sys.executable, PROGRAMS / "interrupted_finalizer.py"]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGINT
    assert "ignored" not in done.stderr


@pytest.mark.parametrize("name", worker.__all__)
def test_every_public_name_is_there(name: str) -> None:
    """Each that ``worker`` promises is loaded from where it lives."""
    assert getattr(worker, name).__name__ == name


def test_a_name_that_is_not_there() -> None:
    """It is said as of every module."""
    with pytest.raises(AttributeError, match="module 'worker' has no attribute 'Queue'"):
        _ = worker.Queue  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", OVERVIEW)
def test_the_overview_says_what_each_command_says_of_itself(name: str) -> None:
    """Its line is the first sentence of the command's own help, which isn't loaded for it."""
    group = typer.main.get_command(cli)
    assert isinstance(group, TyperGroup)
    command = group.commands[name]
    assert command.name == name
    assert " ".join((command.help or "").partition("\n\n")[0].split()) == OVERVIEW[name].line, (
        "OVERVIEW in worker/cli/root.py"
    )

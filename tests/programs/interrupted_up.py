"""``badges up`` that is interrupted before Celery listens: its Click makes an exception of its own of it."""

from __future__ import annotations

import sys
from typing import NoReturn

import click

from worker.app import app
from worker.cli import main


def _interrupted(_arguments: list[str]) -> NoReturn:
    raise click.Abort


app.worker_main = _interrupted  # type: ignore[method-assign]
sys.argv = ["badges", "up"]
main()

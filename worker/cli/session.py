"""What every command works with: settings, Redis, and the options that many commands share."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Annotated, Any

import typer

from worker.cli import tables
from worker.config import Settings, unknown_settings
from worker.domain.job import DeadKind
from worker.operate.deadlist import Filter
from worker.operate.operator import Operator, this_user
from worker.operate.runs import JobReader
from worker.process.arguments import since_ms
from worker.server.connection import Connection
from worker.server.health import faults, refuse_unusable
from worker.store.queue import Queue

Port = Annotated[int, typer.Option(metavar="PORT", min=0, max=65535, help="0 takes a free one.")]
Host = Annotated[
    str, typer.Option(metavar="ADDRESS", help="The address to listen at; 0.0.0.0 is all there are.")
]
AnyOrg = Annotated[str | None, typer.Option("--org", help="Only this org. [default: all]")]
ItsOrg = Annotated[str | None, typer.Option("--org", help="Its org, where several have one of that name.")]
OneOrg = Annotated[str, typer.Option("--org", help="The org.")]
RunOption = Annotated[
    str | None, typer.Option("--run", help="Only of this run: its name, a beginning of it, or last.")
]
Follow = Annotated[bool, typer.Option("--follow", help="Stay until every job has ended.")]
RunName = Annotated[
    str, typer.Argument(metavar="RUN", help="Its name, a beginning of it, or last; see: badges run list.")
]
JobId = Annotated[str, typer.Argument(metavar="ID", help="The job's, as results and dead list have it.")]
CodeOption = Annotated[str | None, typer.Option("--code", help="Only with this error code.")]
BadgeOption = Annotated[str | None, typer.Option("--badge", help="Only of this badgeMetaId.")]
CustomerOption = Annotated[int | None, typer.Option("--customer", min=1, help="Only of this customerId.")]
JobOption = Annotated[str | None, typer.Option("--job", help="Only this job.")]
Note = Annotated[str, typer.Option(help="Why, for the audit trail.")]


@dataclass(frozen=True, slots=True)
class Session:
    """An open connection, and what reads and writes over it."""

    settings: Settings
    queue: Queue
    reports: JobReader
    connection: Connection

    def chosen(self, which: Filter) -> Filter:
        """Return the filter with its run by its whole name.

        Raises:
            NotFound: there is no such run.
            Ambiguous: several runs, or jobs of several orgs, can be meant.
        """
        return self.reports.meant(which)

    def operator(self, note: str = "") -> Operator:
        """Return the user of this command, at work."""
        return Operator(self.queue, self.reports, self.settings.orgs(), this_user(), note)


def load_settings() -> Settings:
    """Read the settings, and warn of variables that look like settings but aren't.

    Raises:
        ConfigError: a setting is wrong.
    """
    for warning in unknown_settings(os.environ):
        tables.err.print(f"[yellow]{tables.safe(warning)}[/]")
    return Settings.load()


def see_to_server(here: Session) -> None:
    """Say in the doctor's words what the server lacks, before anything is handed in.

    Raises:
        ConfigError: it is one that no promise can be kept with.
        StoreError: it can't be reached.
    """
    refuse_unusable(here.queue.client)
    for fault in faults(here.queue.client):
        tables.err.print(f"[yellow]warning:[/] {tables.safe(fault)}")


@contextmanager
def session(*, hurried: bool = False) -> Iterator[Session]:
    """Open the configured Redis, or the embedded server, for as long as the block lasts.

    ``hurried`` where somebody waits who would rather hear soon that Redis is away; see ``Connection.client``.
    """
    settings = load_settings()
    with Connection.open(settings) as connection, connection.client(hurried=hurried) as client:
        queue = Queue(client, replicas=settings.replicas)
        yield Session(settings, queue, JobReader(client=client, orgs=settings.orgs()), connection)


_FILTER = {
    "org": AnyOrg,
    "kind": Annotated[DeadKind | None, typer.Option(help="Only this kind.")],
    "run": RunOption,
    "code": CodeOption,
    "badge": BadgeOption,
    "customer": CustomerOption,
    "job": JobOption,
    "since": Annotated[
        str | None, typer.Option(help="Only those that died since: 90m, 12h, 7d, or a date with offset.")
    ],
}


def filtered(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of a filter in place of its parameter ``which``."""

    @wraps(command)
    def with_options(**given: Any) -> None:
        its = {name: given.pop(name) for name in _FILTER}
        its["since_ms"] = since_option(its.pop("since"))
        command(which=Filter(**its), **given)

    own = [p for p in inspect.signature(command, eval_str=True).parameters.values() if p.name != "which"]
    options = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=option)
        for name, option in _FILTER.items()
    ]
    own = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
    with_options.__signature__ = inspect.Signature([*options, *own])  # type: ignore[attr-defined]
    with_options.__annotations__ = {p.name: p.annotation for p in [*options, *own]}
    return with_options


def since_option(text: str | None) -> int | None:
    """Read ``--since``."""
    try:
        return None if text is None else since_ms(text)
    except ValueError as error:
        raise typer.BadParameter(f"--since {error}") from None

"""The commands about orgs: how they are, what is wrong, their gates, and who did what."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Annotated, Any

import typer

from worker.cli import tables
from worker.cli.output import AsJson, AsJsonLines, Limit, form_of, say_json, say_listing
from worker.cli.session import AnyOrg, Note, OneOrg, session
from worker.config import Settings
from worker.domain.org import DEFAULT_ORG
from worker.operate.survey import Survey
from worker.server.brokerkeys import broker_faults
from worker.server.health import faults, is_full
from worker.store import audit

orgs_cli = typer.Typer()


@orgs_cli.command()
def status(
    org: AnyOrg = None,
    as_json: AsJson = False,
    as_lines: AsJsonLines = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Refresh every second, until Ctrl-C; for programs with --jsonl.")
    ] = False,
) -> None:
    """Show, per org, what waits, what is in flight, what died, and whether the gate is open.

    With --json an array of orgs, with --jsonl an org a line; with --watch --jsonl such an array a line.
    """
    form = form_of(as_json=as_json, as_lines=as_lines)
    if watch and form == "json":
        raise typer.BadParameter("--watch prints a value a second: say --jsonl instead of --json")
    with session(hurried=not watch) as here:
        survey, orgs = Survey(here.queue.client), here.settings.orgs()
        chosen = {name: orgs.get(name) for name in here.reports.org_names(org)}
        queue = here.queue

        def snapshot() -> list[dict[str, Any]]:
            more, server = queue.workers.differences_by_org(), faults(queue.client)
            server += [f"broker: {one}" for one in broker_faults(here.connection, queue.client, orgs)]
            return [
                state.as_json() | {"differs": more.get(state.org, []), "server": server}
                for state in survey.states(chosen)
            ]

        snapshots = (snapshot() for _ in _seconds(endless=watch))
        if form == "words" and watch:
            tables.watch_status(snapshots)
        elif watch:
            with suppress(KeyboardInterrupt):
                for shown in snapshots:
                    say_json(shown)
        else:
            now = next(snapshots)
            say_listing(now, form=form, limit=len(now), show=tables.show_status, count=lambda: len(now))
            if form == "words":
                _say_more(now)
            if form == "words" and not any(one["standstill"] for one in now) and is_full(here.queue.client):
                words = "Redis is full: nothing is accepted or sent; give it more memory (badges doctor)"
                tables.out.print(f"[bold red]{words}[/]")


def _say_more(shown: list[dict[str, Any]]) -> None:
    """Say what a table of orgs has no room for: where workers differ, what is wrong with the server."""
    for org in shown:
        for line in org["differs"]:
            tables.out.print(tables.safe(f"workers differ for {org['org']}: {line}"))
    for line in shown[0]["server"] if shown else ():
        tables.out.print(f"[bold red]{tables.safe(line)}[/]")


def _seconds(*, endless: bool) -> Iterator[None]:
    yield
    while endless:
        time.sleep(1)
        yield


@orgs_cli.command()
def doctor(org: AnyOrg = None, as_json: AsJson = False) -> None:
    """Check Redis, broker, workers, clocks, settings, and each org's vendor; say how to cure what isn't well.

    A call to each vendor tells whether the credentials are good; it is paid from the org's limit. Exit
    status: 1 if any check failed, 0 if all are well or there are only warnings.
    """
    from worker.operate.doctor import examine  # noqa: PLC0415 - brokers are loaded only where they are needed

    settings = Settings.load()
    with tables.err.status("looking at everything"):
        findings = list(examine(settings, os.environ, org))
    if as_json:
        say_json([found.as_json() for found in findings])
    else:
        tables.show_findings(findings)
    if any(found.result == "fail" for found in findings):
        raise typer.Exit(1)


@orgs_cli.command()
def pause(
    org: OneOrg = DEFAULT_ORG,
    reason: Annotated[
        str, typer.Option("--reason", "--note", help="Why, for status and the audit trail.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Let no further batch of an org start; what is in flight is settled, and jobs can still come in."""
    with session() as here:
        was_open = here.operator(reason).pause(here.settings.org(org).name)
    if as_json:
        say_json({"org": org, "now": "paused", "was": "open" if was_open else "paused"})
    else:
        tables.out.print(f"{org} is paused" if was_open else f"{org} was paused already")


@orgs_cli.command()
def resume(org: OneOrg = DEFAULT_ORG, note: Note = "", as_json: AsJson = False) -> None:
    """Let batches of an org start again, with credentials read again."""
    with session() as here:
        was = here.operator(note).resume(here.settings.org(org).name)
    if as_json:
        say_json({"org": org, "now": "open", "was": was or "open"})
        return
    one = "; one job is tried now" if was else ""
    tables.out.print(f"{org} goes on" if was == "paused" else f"{org} was not paused{one}")


@orgs_cli.command("audit")
def audit_(
    org: AnyOrg = None, limit: Limit = None, as_json: AsJson = False, as_lines: AsJsonLines = False
) -> None:
    """Show who paused, resumed, cancelled, replayed, resolved and discarded what, newest first.

    The newest 10,000 actions of each org are kept. Each is written down before it begins; its count is what
    it has done so far.
    """
    form = form_of(as_json=as_json, as_lines=as_lines)
    with session() as here:
        names = here.reports.org_names(org)
        entries = sorted(
            (entry for name in names for entry in audit.entries(here.queue.client, name)),
            key=lambda entry: entry.at or "",
            reverse=True,
        )
    say_listing(entries, form=form, limit=limit, show=tables.show_audit, count=lambda: len(entries))

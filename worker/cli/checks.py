"""Opening and reading a file of badges, and the dry run of an import, which only checks it."""

from __future__ import annotations

import hashlib
import math
import os
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from worker.cli import exits, tables
from worker.cli.exits import FailOn
from worker.cli.output import say_json
from worker.cli.progress import progress_bar
from worker.cli.showcheck import show_badges, show_check
from worker.config import Settings
from worker.domain.item import Remarks, Source
from worker.domain.org import Org
from worker.domain.text import counted
from worker.errors import BadgesError, ConfigError, EmbeddedServerError, FileError, StoreError
from worker.files.dated import UndeclaredDates
from worker.files.described import Described
from worker.operate.badgecheck import AskedBadges, ask_badges
from worker.operate.checking import Checking, check_rows
from worker.operate.past import NoPast, StoredPast
from worker.server.connection import Connection
from worker.store.lookup import Asked
from worker.store.queue import Queue
from worker.vendor.lookups import looking_up


@dataclass(frozen=True, slots=True)
class Input(Described):
    """A file of badges, and what is said of it."""

    file: str = field(kw_only=True)

    @property
    def is_read_once(self) -> bool:
        """Whether what was read of it is gone: standard input, also by another name, and any other pipe."""
        return self.file == "-" or self._mode() not in {0, stat.S_IFREG}

    def sha256(self) -> str:
        """Return the digest of the file's bytes; "" for what can be read only once, or not at all."""
        if self.file == "-" or self._mode() != stat.S_IFREG:
            return ""
        with Path(self.file).open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()

    def _mode(self) -> int:
        """Return what kind of file it is; 0 where there is none, or a name that opening it will refuse."""
        try:
            return stat.S_IFMT(Path(self.file).stat().st_mode)
        except OSError:
            return 0


@dataclass(frozen=True, slots=True)
class Watched:
    """A file that is being read: its rows, what shows how far that is, and what to say of it at last."""

    rows: Iterator[Source]
    move: Callable[..., None]
    remarks: Remarks


@contextmanager
def reading(given: Input, what: str) -> Iterator[Watched]:
    """Open the file; while the block lasts, show how much of it is read, and how many rows that were.

    Raises:
        FileError: it isn't there, or can't be read as a whole.
        ConfigError: it has dates that nobody mapped, and ``without_dates`` isn't said; or several sheets.
    """
    with _open(given.file) as stream:
        size = os.fstat(stream.fileno()).st_size or None
        # First, so that a refused file leaves no bar behind.
        rows, remarks = given.opened(stream, given.file)
        with progress_bar(what, size, unit=None) as bar:

            def move(count: int, doing: str = what) -> None:
                bar(stream.tell() if size else 0, what=f"{doing}, {counted(count, 'row')}")

            yield Watched(rows, move, remarks)


def columns_of(given: Input) -> tuple[str, ...]:
    """Return the columns of a file that is a table.

    Raises:
        FileError: it isn't there, or can't be read as a whole.
        ConfigError: several sheets could be meant.
    """
    with _open(given.file) as stream:
        return given.as_written(stream, given.file).remarks.columns


def undeclared_dates(given: Input) -> UndeclaredDates | None:
    """Return which dates of a file nobody said how to read; what else is wrong is told when it is read."""
    try:
        with _open(given.file) as stream:
            given.opened(stream, given.file)
    except UndeclaredDates as found:
        return found
    except BadgesError:
        return None
    return None


def _open(file: str) -> AbstractContextManager[BinaryIO]:
    if file == "-":
        if sys.stdin is None:
            raise FileError("standard input is closed: name a file, or pipe one in")
        return nullcontext(sys.stdin.buffer)
    return open_file(file)


def open_file(file: str) -> BinaryIO:
    """Open a file that is named.

    Raises:
        FileError: it isn't there, is no file, or can't be read.
    """
    path = Path(file)
    try:
        return path.open("rb")
    except FileNotFoundError:
        here = "" if path.is_absolute() else f" here ({Path.cwd()})"
        raise FileError(f"there is no file {file}{here}") from None
    except IsADirectoryError:
        raise FileError(f"{file} is a directory, not a file") from None
    except OSError as error:
        raise FileError(f"{file} can't be read: {error.strerror}") from None


def count_good(org: Org, given: Input) -> int:
    """Count the rows of a file that are valid.

    Raises:
        FileError: it isn't there, or can't be read.
    """
    return _checked(Checking(org, names=given.names), given).good


def check_file(  # noqa: PLR0913 - what, how, and how to say it
    settings: Settings,
    org: str,
    given: Input,
    *,
    hold_repeats: bool,
    check_badges: bool,
    again: bool,
    fail_on: FailOn,
    as_json: bool,
) -> None:
    """Check every row of a file, say what is wrong, and accept none; end with 3 as ``fail_on`` says.

    With ``check_badges`` the vendor is asked whether it has each badge; with ``again``, rows whose badge was
    undone count as new.

    Raises:
        FileError: it isn't there, or can't be read to its end; what could be read is told.
    """
    target, cut_off = settings.org(org), None
    with _past_of(settings, target, again=again) as past:
        checking = Checking(target, past, names=given.names, hold_repeats=hold_repeats)
        try:
            _checked(checking, given)
        except FileError as error:
            if not checking.rows:
                raise
            cut_off, checking.incomplete = error, str(error)
        asked = _ask_badges(settings, target, checking) if check_badges else None
        check = checking.result(past.state() if past else None, asked.badges if asked else None)
    if as_json:
        say_json(check)
    else:
        show_check(check)
        if asked:
            show_badges(asked, tables.out)
    if cut_off:
        raise cut_off
    exits.end(fail_on, dead=check.invalid, invalid=check.invalid)


def _ask_badges(settings: Settings, org: Org, checking: Checking) -> AskedBadges:
    with Connection.open(settings) as connection, connection.client() as client:
        return asked_badges(Queue(client), org, checking)


def asked_badges(queue: Queue, org: Org, checking: Checking) -> AskedBadges:
    """Ask the vendor about the badges of rows that were checked, and show how far that is."""
    customers = checking.customers
    with (
        looking_up(queue, wait_s=math.inf) as lookups,
        progress_bar("asking the vendor", len(customers), unit="badge") as move,
    ):
        return ask_badges(lookups, org, checking.badges(), customers, on_progress=move)


def asked_of_file(queue: Queue, org: Org, given: Input) -> AskedBadges:
    """Ask the vendor about the badges of a file that is to be imported.

    Raises:
        ConfigError: it can be read only once.
        FileError: it isn't there, or can't be read.
    """
    if given.is_read_once:
        raise ConfigError(
            "--check-badges reads the rows before the first goes out: name a file, no pipe or standard input"
        )
    return asked_badges(queue, org, _checked(Checking(org, names=given.names), given))


def _checked(checking: Checking, given: Input) -> Checking:
    with reading(given, "checking") as opened:
        for so_far in check_rows(checking, opened.rows):
            opened.move(so_far.rows)
    checking.remark(opened.remarks)
    return checking


@contextmanager
def _past_of(settings: Settings, org: Org, *, again: bool) -> Iterator[StoredPast | NoPast | None]:
    """Give what knows the org's jobs; ``None`` where they can't be looked at, which is said."""
    if not settings.redis_url and not settings.data_dir.exists():  # nothing was ever imported here
        yield NoPast(org)
        return
    with ExitStack() as stack:
        past = None
        try:
            connection = stack.enter_context(Connection.open(settings))
            past = StoredPast(Queue(stack.enter_context(connection.client())), org, again=again)
            past.look_up((), [Asked(org.name)])  # only to see whether it answers
        except (StoreError, EmbeddedServerError) as error:
            tables.err.print(f"[yellow]what was imported before isn't looked at:[/] {tables.safe(error)}")
            past = None
        yield past

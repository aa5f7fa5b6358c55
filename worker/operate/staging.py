"""Files that wait on disk to be imported: uploaded in pieces, looked at, and then imported by a worker.

An import goes on slice by slice, each by a message of its own, and begins where the last one ended: so it
outlives who asked for it, and a worker that dies. What console and worker share of a file is in
``store/staged.py``; importing itself is in ``importing.py``.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice, permutations
from pathlib import Path
from typing import BinaryIO, Final, Literal

from worker.config import Settings
from worker.domain.badge import Invalid, parse_item
from worker.domain.item import Source
from worker.enqueue import EnqueueOptions
from worker.errors import BadgesError, ColumnsUnclear, ConfigError, FileError, NoRoom, NotFound, StoreError
from worker.files.columns import NEEDED, Names
from worker.files.reader import read_rows
from worker.operate.importing import import_rows
from worker.store import staged
from worker.store.queue import Queue, new_id

SLICE_S = 10.0  # a delivery waits no longer than that for a place
SILENT_S = 90.0  # after which an import that should go on is asked for again
SPARE_BYTES = 256 << 20
SAMPLE, GUESSES = 5, 40
_ID: Final = re.compile(r"[a-z2-7]{26}")
_GOES_ON = ("asked", "importing", "no room")


@dataclass(frozen=True, slots=True)
class Staged:
    """A file on disk, and how far it is.

    ``state``: uploading, there, asked, importing, no room (it waits for some), done, failed, cancelled.
    """

    id: str
    name: str
    org: str
    size: int
    state: str
    run: str = ""
    rows: int = 0
    accepted: int = 0
    duplicates: int = 0
    invalid: int = 0
    problem: str = ""
    maps: str = "[]"
    without_dates: bool = False
    alive_at: float = 0.0
    stop: bool = False  # a person wants no more of it

    @property
    def names(self) -> Names:
        """What its columns stand for, as a person said."""
        return Names.parse(json.loads(self.maps))

    @property
    def goes_on(self) -> bool:
        """Whether a worker is to go on with it."""
        return self.state in _GOES_ON


@dataclass(frozen=True, slots=True)
class Look:
    """The first rows of a file, what may be said of its columns, and what is wrong with them."""

    rows: list[Source]
    columns: dict[str, str | None]
    problem: str = ""


class Staging:
    """The files of one folder."""

    def __init__(self, queue: Queue, settings: Settings) -> None:
        self._queue, self._settings = queue, settings
        self._client, self._folder = queue.client, settings.uploads

    def begin(self, name: str, size: int, org: str) -> Staged:
        """Make room for a file.

        Raises:
            ConfigError: it is too large, there is no such org, or the disk has no room for it.
        """
        most = self._settings.console_upload_max
        if not 0 < size <= most:
            raise ConfigError(f"{name} has {size:,} bytes; at most {most:,} (BADGES_CONSOLE_UPLOAD_MAX) fit")
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        free = shutil.disk_usage(self._folder).free
        if free < size + SPARE_BYTES:
            raise ConfigError(
                f"the disk has {free:,} bytes left, too few for {name}: make room, or import it there"
            )
        made = Staged(
            new_id(), Path(name).name[:200] or "upload", self._settings.org(org).name, size, "uploading"
        )
        os.close(os.open(self._path(made.id), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        about: dict[str, str | int] = {"name": made.name, "org": made.org, "size": size, "state": made.state}
        staged.put(self._client, made.id, about)
        return made

    def append(self, staged_id: str, offset: int, piece: bytes) -> int:
        """Write a piece behind so many bytes, and return how many are there; one that was written is left so.

        Raises:
            NotFound: there is no such file.
            ConfigError: there would be a gap, or more than was said.
        """
        about = self.get(staged_id)
        with self._open(staged_id, "r+b") as file:
            there = file.seek(0, os.SEEK_END)
            if about.state != "uploading" or offset < there:
                return there
            if offset > there or there + len(piece) > about.size:
                raise ConfigError(f"{there:,} bytes are there: go on behind them, up to {about.size:,}")
            file.write(piece)
            there += len(piece)
        if there == about.size:
            staged.put(self._client, staged_id, {"state": "there"})
        return there

    def size(self, staged_id: str) -> int:
        """Return how many bytes of a file are there."""
        with self._open(staged_id, "rb") as file:
            return file.seek(0, os.SEEK_END)

    def get(self, staged_id: str) -> Staged:
        """Return what is known of a file.

        Raises:
            NotFound: it isn't there, or its day is over.
        """
        found = staged.get(self._client, staged_id) if _ID.fullmatch(staged_id) else {}
        if not found:
            raise NotFound("this file isn't there any more: an upload is kept for a day; upload it again")
        return _of(staged_id, found)

    def all(self) -> list[Staged]:
        """Return the files there are, the newest first."""
        found = ((name, staged.get(self._client, name)) for name, _ in staged.newest(self._client))
        return [_of(name, values) for name, values in found if values]

    def change(self, staged_id: str, **values: str | int) -> None:
        """Write what is said of a file."""
        staged.put(self._client, staged_id, values)

    def remove(self, staged_id: str) -> None:
        """Take a file away, and what is known of it."""
        self._path(self.get(staged_id).id).unlink(missing_ok=True)
        staged.forget(self._client, staged_id)

    def look(self, about: Staged) -> Look:
        """Read the first rows; columns that nobody knows are read as they probably are meant."""
        said, problem = dict(about.names.said), ""
        try:
            return Look(self._first(about, said), said)
        except ColumnsUnclear as unclear:
            said, problem = unclear.proposed | said, str(unclear)
        except (FileError, ConfigError) as error:
            return Look([], said, str(error))
        there = set(said.values())
        open_ = [column for column, field in said.items() if field is None and column not in about.names.said]
        found = Look([], said, problem)
        # Which of them are the badge and the customer, the rows tell: those that make the most badges.
        for chosen in islice(permutations(open_, len([it for it in NEEDED if it not in there])), GUESSES):
            guess = said | dict(zip(chosen, [it for it in NEEDED if it not in there], strict=True))
            with suppress(FileError, ConfigError, ValueError):
                rows = self._first(about, guess)
                if not found.rows or _badges(rows) > _badges(found.rows):
                    found = Look(rows, guess, problem)
        return found

    def _first(self, about: Staged, said: Mapping[str, str | None]) -> list[Source]:
        with self._rows(about, Names(said), without_dates=True) as rows:
            return list(islice(rows, SAMPLE))

    def rows(self, about: Staged) -> _Reading:
        """Open a file to be read as a person said."""
        return self._rows(about, about.names, without_dates=about.without_dates)

    def _rows(self, about: Staged, names: Names, *, without_dates: bool) -> _Reading:
        return _Reading(self._path(about.id), about.name, names, without_dates)

    def stalled(self) -> list[Staged]:
        """Return the imports that should go on, and of which nothing was heard for a while."""
        return [it for it in self.all() if it.goes_on and time.time() - it.alive_at > SILENT_S]

    def sweep(self) -> None:
        """Take away what lies there for more than a day, but for what is being imported."""
        before_ms = (time.time() - staged.KEPT_S) * 1000
        for staged_id, at_ms in staged.newest(self._client):
            if at_ms < before_ms:
                with suppress(NotFound):
                    if self.get(staged_id).goes_on:
                        continue
                self._path(staged_id).unlink(missing_ok=True)
                staged.forget(self._client, staged_id)
        for path in self._folder.glob("*.upload") if self._folder.is_dir() else ():
            with suppress(OSError):
                if path.stat().st_mtime * 1000 < before_ms and not staged.get(self._client, path.stem):
                    path.unlink()

    def go_on(self, staged_id: str, *, for_s: float = SLICE_S) -> bool:
        """Import the next slice; answers whether there is more to be done.

        Rows that were accepted before are passed over; those that were accepted and not counted are met
        again by their run and row, so that nothing comes in twice.
        """
        about = self.get(staged_id)
        if not about.goes_on or not staged.take(self._client, staged_id, me := new_id()):
            return False
        try:
            return self._import(about, me, time.monotonic() + for_s)
        finally:
            staged.give_back(self._client, staged_id)

    def _import(self, about: Staged, me: str, until: float) -> bool:
        counts = {
            "rows": about.rows,
            "accepted": about.accepted,
            "duplicates": about.duplicates,
            "invalid": about.invalid,
        }
        options = EnqueueOptions(about.run, f"{about.id[:12]}.{about.rows}")
        org = self._settings.org(about.org)
        try:
            with self.rows(about) as rows:
                for done in import_rows(self._queue, org, islice(rows, about.rows, None), options):
                    counts["accepted"] += done.accepted
                    counts["duplicates"] += done.duplicates
                    counts["invalid"] += done.invalid
                    counts["rows"] += done.accepted + done.duplicates + done.invalid
                    state = "cancelled" if self.get(about.id).stop else "importing"
                    self.change(about.id, state=state, alive_at=int(time.time()), **counts)
                    if state == "cancelled":
                        return False
                    if time.monotonic() > until or not staged.take(self._client, about.id, me):
                        return True
        except NoRoom as error:
            self.change(about.id, state="no room", problem=error.reason, alive_at=int(time.time()))
            return True
        except StoreError:
            raise
        except (BadgesError, OSError) as error:
            self.change(about.id, state="failed", problem=str(error))
            return False
        self.change(about.id, state="done", problem="")
        self._path(about.id).unlink(missing_ok=True)
        return False

    def _path(self, staged_id: str) -> Path:
        return self._folder / f"{staged_id}.upload"

    def _open(self, staged_id: str, mode: Literal["rb", "r+b"]) -> BinaryIO:
        about = self.get(staged_id)
        try:
            return self._path(about.id).open(mode)
        except OSError as error:
            raise NotFound(f"{about.name} can't be opened: {error.strerror}; upload it again") from None


class _Reading:
    """A file that is open as long as its rows are read."""

    def __init__(self, path: Path, name: str, names: Names, without_dates: bool) -> None:  # noqa: FBT001
        self._path, self._name, self._names, self._without_dates = path, name, names, without_dates

    def __enter__(self) -> Iterator[Source]:
        try:
            self._file = self._path.open("rb")
        except OSError as error:
            raise FileError(
                f"this worker can't read the uploaded file ({error.strerror}): it must see the console's "
                "BADGES_CONSOLE_UPLOAD_DIR"
            ) from None
        try:
            return read_rows(
                self._file, name=self._name, names=self._names, without_dates=self._without_dates
            )
        except BaseException:
            self._file.close()
            raise

    def __exit__(self, *_: object) -> None:
        self._file.close()


def _badges(rows: list[Source]) -> int:
    """Count the rows that are badges."""
    read = [row.problem or parse_item(row.item) for row in rows]
    return sum(not isinstance(it, Invalid) for it in read)


def _of(staged_id: str, found: Mapping[str, str]) -> Staged:
    counts = {name: int(found.get(name, 0)) for name in ("size", "rows", "accepted", "duplicates", "invalid")}
    return Staged(
        id=staged_id,
        name=found.get("name", ""),
        org=found.get("org", ""),
        state=found.get("state", "failed"),
        run=found.get("run", ""),
        problem=found.get("problem", ""),
        maps=found.get("maps", "[]"),
        without_dates=found.get("without_dates") == "1",
        stop=found.get("stop") == "1",
        alive_at=float(found.get("alive_at", 0)),
        **counts,
    )

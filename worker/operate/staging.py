"""Files that wait on disk to be imported: uploaded in pieces, looked at, and then imported by a worker.

An import goes on slice by slice, each by a message of its own, and begins where the last one ended: so it
outlives who asked for it, and a worker that dies. What console and worker share of a file is in
``store/staged.py``, how a file is read in ``stagedfile.py``; importing itself is in ``importing.py``.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import shutil
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal

from worker.config import Settings
from worker.domain.org import Org
from worker.domain.provenance import Provenance
from worker.domain.text import counted, plain
from worker.enqueue import EnqueueOptions
from worker.errors import BadgesError, ConfigError, NoRoom, NotFound, StoreError
from worker.files.described import Opened
from worker.operate.importing import import_rows
from worker.operate.stagedfile import How, Look, look, opened
from worker.store import staged
from worker.store.queue import Queue, Repeats, new_id

SLICE_S = 10.0  # a delivery waits no longer than that for a place
SILENT_S = 90.0  # after which an import that should go on is asked for again
SPARE_BYTES = 256 << 20
_ID: Final = re.compile(r"[a-z2-7]{26}")
_GOES_ON = ("asked", "importing", "no room")
_COUNTS = ("rows", "accepted", "duplicates", "invalid")


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
    said: str = ""
    by: str = ""
    note: str = ""
    sha256: str = ""
    came_at: float = 0.0
    alive_at: float = 0.0
    stop: bool = False  # a person cancelled it
    hold: bool = False  # nothing of it is sent before somebody starts the run

    @property
    def how(self) -> How:
        """How it is read, as a person said."""
        return How.read(self.said)

    @property
    def source(self) -> Provenance:
        """Where its run comes from."""
        said = [*self.how.options(), *(["--hold"] if self.hold else [])]
        return Provenance(self.by, self.name, self.sha256, " ".join(said), self.note)

    @property
    def goes_on(self) -> bool:
        """Whether a worker is to go on with it."""
        return self.state in _GOES_ON


class Staging:
    """The files of one folder."""

    def __init__(self, queue: Queue, settings: Settings, *, clock: Callable[[], float] = time.time) -> None:
        self._queue, self._settings, self._clock = queue, settings, clock
        self._client, self._folder = queue.client, settings.uploads.resolve()

    def refuse_foreign(self) -> None:
        """See that nobody else can write to the folder, and swap a file between its check and its import.

        Raises:
            ConfigError: somebody can.
        """
        with suppress(FileNotFoundError):  # it is made when the first file comes
            found = self._folder.stat()
            by_all = found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX
            # Root may anyway; and a group is let in on purpose, as a volume's of a container is.
            if by_all or found.st_uid not in (os.geteuid(), 0):
                raise ConfigError(
                    f"{self._folder} is {stat.filemode(found.st_mode)} of user {found.st_uid}: others might "
                    "swap an uploaded file. Use it as its owner, 'chmod o-w' it, or name one in "
                    "BADGES_CONSOLE_UPLOAD_DIR that isn't there yet: it is made"
                )

    def begin(self, name: str, size: int, org: str) -> Staged:
        """Make room for a file.

        Raises:
            ConfigError: it is too large, there is no such org, the disk has no room for it, or others can
                write to the folder.
        """
        most = self._settings.console_upload_max
        if size <= 0:
            raise ConfigError(f"{name} is empty: save or export it once more, and choose that file")
        if size > most:
            raise ConfigError(
                f"{name} has {counted(size, 'byte')}; at most {most:,} (BADGES_CONSOLE_UPLOAD_MAX) fit"
            )
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.refuse_foreign()
        self._see_to_room(name, size)
        made = Staged(
            new_id(), plain(Path(name).name, 200) or "upload", self._settings.org(org).name, size, "uploading"
        )
        os.close(os.open(self._path(made.id), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        came_at = int(self._clock())
        about: dict[str, str | int] = {"name": made.name, "org": made.org, "size": size, "state": made.state}
        staged.put(self._client, made.id, about | {"came_at": came_at})
        staged.list_it(self._client, made.id, came_at)
        return made

    def append(self, staged_id: str, offset: int, piece: bytes) -> int:
        """Write a piece at this offset, and return how many are there; one that was written is left so.

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
                raise ConfigError(
                    f"{counted(there, 'byte')} arrived before: go on behind, up to {about.size:,}"
                )
            self._see_to_room(about.name, len(piece))  # others may have filled it since
            file.write(piece)
            there += len(piece)
        if there == about.size:
            staged.put(self._client, staged_id, {"state": "there"})
        return there

    def _see_to_room(self, name: str, size: int) -> None:
        free = shutil.disk_usage(self._folder).free
        if free < size + SPARE_BYTES:
            raise ConfigError(
                f"the disk has {counted(free, 'byte')} left, too few for {name}: make room, "
                "or import it there"
            )

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

    @contextmanager
    def alone(self, staged_id: str, holder: str) -> Iterator[Staged]:
        """Give what is known of a file; while the block lasts, nobody else begins with its import.

        Raises:
            ConfigError: somebody else does.
        """
        if not staged.take(self._client, self.get(staged_id).id, holder):
            raise ConfigError("nothing was done: somebody else has just begun with this file; load its page")
        try:
            yield self.get(staged_id)
        finally:
            staged.give_back(self._client, staged_id, holder)

    def stop(self, staged_id: str) -> None:
        """Stop an import: at once, or behind the rows that a worker is taking in just now."""
        self.change(staged_id, stop=1)
        with suppress(ConfigError), self.alone(staged_id, new_id()) as about:
            if about.goes_on:
                self.change(staged_id, state="cancelled")

    def look(self, about: Staged) -> Look:
        """Read the first rows of a file, and what may be said of its columns."""
        return look(self._own(about.id), about.name, about.how)

    def opened(self, about: Staged) -> AbstractContextManager[Opened]:
        """Open a file to be read as a person said."""
        return opened(self._own(about.id), about.name, about.how)

    def stalled(self) -> list[Staged]:
        """Return the imports that should go on, and of which nothing was heard for a while."""
        return [it for it in self.all() if it.goes_on and self._clock() - it.alive_at > SILENT_S]

    def sweep(self) -> None:
        """Take away what lies there for more than a day, but for what is being imported."""
        before_ms = (self._clock() - staged.KEPT_S) * 1000
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
        if not staged.take(self._client, self.get(staged_id).id, me := new_id()):
            return False
        try:
            about = self.get(staged_id)
            return about.goes_on and self._import(about, me, time.monotonic() + for_s)
        finally:
            staged.give_back(self._client, staged_id, me)

    def _import(self, about: Staged, me: str, until: float) -> bool:
        try:
            org = self._settings.org(about.org)
            if about.stop:  # since the slice before
                self.change(about.id, state="cancelled")
                return False
            if not about.sha256:
                about = self._with_digest(about)
            how_it_ended = self._take_in(about, org, me, until)
        except NoRoom as error:
            self.change(about.id, state="no room", problem=error.reason, alive_at=int(self._clock()))
            return True
        except StoreError:
            raise
        except (BadgesError, OSError) as error:
            self.change(about.id, state="failed", problem=str(error))
            return False
        if how_it_ended == "done":
            self.change(about.id, state="done", problem="")
            self._path(about.id).unlink(missing_ok=True)
        return how_it_ended == "goes on"

    def _take_in(
        self, about: Staged, org: Org, me: str, until: float
    ) -> Literal["done", "cancelled", "goes on"]:
        """Take in rows behind those that were, until all are, the time is over, or somebody says stop."""
        counts = {name: getattr(about, name) for name in _COUNTS}
        repeats: Repeats = "hold" if about.how.hold_repeats else "count"
        options = EnqueueOptions(
            about.run,
            f"{about.id[:12]}.{about.rows}",
            repeats=repeats,
            again=about.how.again,
            source=about.source,
            starts_ms=math.inf if about.hold else None,
        )
        with self.opened(about) as given:
            rows = islice(given.rows, about.rows, None)
            for done in import_rows(self._queue, org, rows, options):
                counts["accepted"] += done.accepted
                counts["duplicates"] += done.duplicates
                counts["invalid"] += done.invalid
                counts["rows"] += done.rows
                state = "cancelled" if self.get(about.id).stop else "importing"
                self.change(about.id, state=state, alive_at=int(self._clock()), **counts)
                if state == "cancelled":
                    return "cancelled"
                if time.monotonic() > until or not staged.take(self._client, about.id, me):
                    return "goes on"
        return "done"

    def _with_digest(self, about: Staged) -> Staged:
        with self._own(about.id).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        self.change(about.id, sha256=digest)
        return replace(about, sha256=digest)

    def _path(self, staged_id: str) -> Path:
        return self._folder / f"{staged_id}.upload"

    def _own(self, staged_id: str) -> Path:
        self.refuse_foreign()
        return self._path(staged_id)

    def _open(self, staged_id: str, mode: Literal["rb", "r+b"]) -> BinaryIO:
        about = self.get(staged_id)
        try:
            return self._own(about.id).open(mode)
        except OSError as error:
            raise NotFound(f"{about.name} can't be opened: {error.strerror}; upload it again") from None


def _of(staged_id: str, found: Mapping[str, str]) -> Staged:
    texts, numbers = ("name", "org", "run", "problem", "said", "by", "note", "sha256"), ("size", *_COUNTS)
    its: dict[str, Any] = {name: found.get(name, "") for name in texts}
    return Staged(
        id=staged_id,
        state=found.get("state", "failed"),
        stop=found.get("stop") == "1",
        hold=found.get("hold") == "1",
        came_at=float(found.get("came_at", 0)),
        alive_at=float(found.get("alive_at", 0)),
        **its | {name: int(found.get(name, 0)) for name in numbers},
    )

"""Near-duplicates: the same badge of the same customer with other dates is told, or held back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import redis
from hands import issue_next
from support import BADGE, Outcome, badges_json, configured, environment, in_process

from worker.server.connection import Connection
from worker.store import keys
from worker.store.queue import Queue

ORG = configured(batch_size=10)
FIRST, OTHER = 1674292011, 1705828011


class Place:
    """A server, and files to import."""

    def __init__(self, queue: Queue, url: str, folder: Path) -> None:
        self.queue, self.env, self._folder = queue, environment(redis_url=url), folder

    def file(self, *rows: tuple[int, int]) -> Path:
        """Write a file of customers and dates."""
        file = self._folder / "rows.csv"
        lines = [f"{BADGE},{customer},{date},{date + 10**8}" for customer, date in rows]
        file.write_text("\n".join(["badgeMetaId,customerId,earnEventDate,earnExpiresOn", *lines, ""]))
        return file

    def run(self, *command: object) -> Outcome:
        """Run a command."""
        return in_process(*command, env=self.env)

    def json(self, *command: object) -> Any:
        """Run a command for a program."""
        return badges_json(*command, env=self.env)


@pytest.fixture
def place(queue: Queue, connection: Connection, tmp_path: Path) -> Place:
    """An empty server."""
    return Place(queue, connection.url, tmp_path)


def test_an_import_tells_them_and_sends_them(place: Place) -> None:
    """In the file and against the past; the run counts them, and they change no exit status."""
    place.run("import", place.file((1, FIRST)), "--run", "before")
    file = place.file((1, OTHER), (2, FIRST), (2, OTHER), (2, OTHER), (3, FIRST))
    done = place.json("import", file, "--run", "spring")
    counted = {name: done[name] for name in ("accepted", "duplicates", "near_duplicates", "held")}
    assert counted == {"accepted": 4, "duplicates": 1, "near_duplicates": 2, "held": 0}
    (warning,) = done["warnings"]
    assert (warning["count"], warning["rows"]) == (2, ["2", "4"])
    assert "other dates" in warning["reason"]
    assert place.json("run", "show", "spring")["near_duplicates"] == 2
    assert "2 jobs with the badge and customer of an earlier job" in place.run("run", "show", "spring").out
    again = place.json("import", file, "--run", "spring")
    assert (again["near_duplicates"], place.json("run", "show", "spring")["near_duplicates"]) == (0, 2)


def test_they_are_held_back_and_a_person_decides(place: Place) -> None:
    """As dead letters: a replay of all leaves them out, of their kind sends them, a discard drops them."""
    place.run("import", place.file((1, FIRST)), "--run", "before")
    assert issue_next(place.queue, ORG) == 1
    file = place.file((1, OTHER), (2, FIRST), (2, OTHER), (3, FIRST))
    check = place.json("import", file, "--hold-repeats", "--dry-run")
    assert check["would"] == {"accepted": 2, "duplicates": 0, "invalid": 0, "held": 2, "again": 0}
    done = place.json("import", file, "--run", "spring", "--hold-repeats")
    assert (done["accepted"], done["held"], done["near_duplicates"]) == (2, 2, 2)
    run = place.json("run", "show", "spring")
    assert (run["total"], run["queued"], run["dead_kinds"]) == (4, 2, {"repeat": 2})
    assert issue_next(place.queue, ORG) == 2
    left = place.run("dead", "replay", "--run", "spring")
    assert "left out: 2 held back as repeats" in left.out
    groups = place.run("dead", "groups").out
    assert "repeats sent all the same: badges dead replay --kind repeat" in groups
    assert "--set" not in groups  # that leaves them out
    none = place.run("dead", "list", "--customer", 99).out
    assert "badges forget --customer 99 --dry-run counts them" in " ".join(none.split())
    listed = place.json("dead", "list", "--customer", 1)
    assert [(row["error"]["kind"], row["row"]) for row in listed] == [("repeat", 2)]
    assert "badges dead replay --kind repeat --job" in listed[0]["reason"]
    replayed = place.json("dead", "replay", "--kind", "repeat", "--customer", 1)
    assert replayed["replayed"] == 1
    assert issue_next(place.queue, ORG) == 1
    assert place.json("dead", "discard", "--kind", "repeat", "--yes")["discarded"] == 1


def test_one_held_back_is_remembered_until_it_is_discarded(place: Place, client: redis.Redis) -> None:
    """So that it isn't issued again, once it was sent and its result has expired."""
    place.run("import", place.file((1, FIRST), (1, OTHER)), "--run", "spring", "--hold-repeats")
    (held,) = place.json("dead", "list")
    again = place.json("import", place.file((1, OTHER)), "--hold-repeats")
    assert (again["duplicates"], again["held"]) == (1, 0)
    same = place.json("import", place.file((1, FIRST), (1, OTHER)), "--run", "spring", "--hold-repeats")
    assert (same["accepted"], same["held"], same["near_duplicates"]) == (1, 1, 1)
    client.delete(keys.key("default", "job", held["job_id"]))
    assert place.json("import", place.file((1, OTHER)))["duplicates"] == 1


def test_both_at_once_are_refused(place: Place) -> None:
    """Rows that are meant to be issued again aren't held back for it."""
    file = place.file((1, FIRST))
    done = place.run("import", file, "--run", "x", "--allow-duplicates", "--hold-repeats", "--yes")
    assert (done.status, "doesn't go with" in done.err) == (2, True)

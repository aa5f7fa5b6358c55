"""Dead letters as the person on call needs them: the commands, from outside."""

from __future__ import annotations

import json
import os
import pwd
import signal
import sys
from pathlib import Path

import pytest
import redis
from hands import bury, issue_next
from support import (
    BADGE,
    OTHER_BADGE,
    Probe,
    badges,
    badges_json,
    badges_process,
    configured,
    environment,
    item,
    process,
    wait_for,
)
from terminal import terminal

from worker.domain.batch import Item
from worker.server.connection import Connection
from worker.store.queue import Queue, new_id

ORG = configured(batch_size=10)
EU = '[eu]\napi_base_url = "https://eu.example.com"\n'
ME = pwd.getpwuid(os.getuid()).pw_name
COMMAND = [sys.executable, "-m", "worker.cli", "dead"]


@pytest.fixture
def env(empty: Connection, tmp_path: Path) -> dict[str, str]:
    """Two orgs."""
    (tmp_path / "orgs.toml").write_text(EU)
    return environment(redis_url=empty.url, orgs_file=tmp_path / "orgs.toml", batch_linger_s=0) | {
        "COLUMNS": "250"
    }


def lines(*arguments: object, env: dict[str, str]) -> list[dict[str, object]]:
    """Return what a command prints, one JSON value a line."""
    done = badges(*arguments, "--jsonl", env=env, expect=None)
    assert done.returncode in (0, 3), done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_what_there_is(env: dict[str, str], queue: Queue) -> None:
    """Groups with count, first, last and sample; the list with time and reason; for people and programs."""
    ids = bury(queue, ORG, range(3))
    (eu,) = bury(queue, configured(name="eu"), range(1), kind="exhausted")
    groups = badges_json("dead", "groups", env=env)
    assert [(g["org"], g["kind"], g["code"], g["count"]) for g in groups] == [
        ("default", "rejected", "812", 3),
        ("eu", "exhausted", "812", 1),
    ]
    assert groups[0]["first_at"] <= groups[0]["last_at"]
    assert (groups[0]["sample"] in ids, groups[0]["badgeMetaId"]) == (True, BADGE)
    assert {row["job_id"] for row in lines("dead", "list", env=env)} == {*ids, eu}
    table = badges("dead", "groups", env=env).stdout.decode()
    assert groups[0]["first_at"][5:19].replace("T", " ") in table
    listed = badges("dead", "list", "--org", "eu", env=env).stdout.decode()
    assert [part in listed for part in (eu, "eu", "exhausted", "no good")] == [True] * 4
    for command in ("list", "groups"):
        assert badges("dead", command, "--code", "1", env=env).stdout == b"no dead letters that fit\n"
    said = badges("results", "-o", Path.cwd(), env=env, expect=1).stderr.decode()
    assert said.strip() == f"badges: {Path.cwd()} is a directory, not a file"


def test_what_is_wrong_with_a_field_has_groups_of_its_own(env: dict[str, str], queue: Queue) -> None:
    """Whatever the value that a reason quotes; and what is to be copied isn't cut on a narrow terminal."""
    reasons = ("is missing", "must be a whole number, not “x”", "must be a whole number, not “y”")
    items = [
        Item(
            f"an-id-of-their-own-which-is-rather-long-{n}",
            str(n),
            {"code": "customerId", "message": m},
            kind="invalid",
        )
        for n, m in enumerate(reasons)
    ]
    queue.enqueue(ORG, run="spring", items=items, call=new_id())
    groups = badges_json("dead", "groups", env=env)
    assert [(g["count"], g["message"]) for g in groups] == [(2, reasons[1]), (1, reasons[0])]
    for command in ("groups", "list"):
        shown = badges("dead", command, env=env | {"COLUMNS": "40"}).stdout.decode()
        assert all(it.id in shown for it in items[:2])
    assert "row 1" in shown
    assert "not “x” and others" in badges("dead", "groups", env=env).stdout.decode()


def test_a_dry_run_says_it_all_and_does_nothing(
    env: dict[str, str], queue: Queue, client: redis.Redis
) -> None:
    """What would be replayed, in groups, but what can't be; and no entry in the trail."""
    bury(queue, ORG, range(4))
    bury(queue, ORG, range(10, 12), kind="in_doubt")
    bury(queue, ORG, range(20, 21), kind="invalid")
    before = client.dbsize()
    said = badges_json("dead", "replay", "--dry-run", "--limit", "3", env=env)
    assert (said["replayed"], said["replay"], said["dry_run"]) == (3, None, True)
    shown = badges("dead", "replay", "--dry-run", env=env).stdout.decode()
    assert "4 would be replayed" in shown
    assert "left out: 1 invalid, never sent: mend them" in shown
    assert "left out: 2 in doubt: look them up" in shown
    assert said["left_out"] == {"invalid": 1, "in_doubt": 2}
    assert [line.split()[:2] for line in shown.splitlines() if "  812  " in line] == [["4", "rejected"]]
    nothing = badges("dead", "replay", "--dry-run", "--code", "none", env=env).stdout.decode()
    assert nothing.splitlines()[1:] == ["  nothing fits that can be replayed"]
    assert client.dbsize() == before


def test_a_replay_is_followed_and_taken_back(env: dict[str, str], queue: Queue, tmp_path: Path) -> None:
    """It says how to; Ctrl-C while following ends neither it nor its jobs; what was issued stays so."""
    bury(queue, ORG, range(15))
    log = tmp_path / "follow.log"
    command = [*COMMAND, "replay", "--code", "812", "--follow"]
    with process(command, env=env, log=log) as running:
        replay = (
            wait_for(lambda: log.exists() and "dead cancel replay-" in log.read_text())
            and (log.read_text().partition("dead follow ")[2].split()[0])
        )
        running.send_signal(signal.SIGINT)
        assert running.wait(10) != 0
    assert log.read_text().count(f"badges dead cancel {replay}") == 2
    assert "Traceback" not in log.read_text()
    assert issue_next(queue, ORG) == 10
    assert badges_json("dead", "cancel", replay, "--yes", "--note", "too early", env=env)["cancelled"] == 5
    (last,) = lines("dead", "follow", replay, env=env)
    assert (last["total"], last["issued"], last["dead_kinds"]) == (15, 10, {"cancelled": 5})
    shown = badges("dead", "follow", replay, env=env, expect=3).stdout.decode()
    assert ("10 issued" in shown, "5 dead 5 cancelled" in shown) == (True, True)
    assert badges_json("dead", "groups", env=env)[0]["kind"] == "cancelled"
    trail = [(e["action"], e["count"], e["which"], e["note"]) for e in lines("audit", env=env)]
    assert trail == [("cancel", 5, {"replay": replay}, "too early"), ("replay", 15, {"code": "812"}, "")]
    badges("dead", "follow", "replay-none", env=env, expect=1)


def test_following_to_the_end(env: dict[str, str], queue: Queue, tmp_path: Path) -> None:
    """It ends by itself when the last job has ended, and says what became of them."""
    bury(queue, ORG, range(5))
    log = tmp_path / "follow.log"
    command = [*COMMAND, "replay", "--follow", "--set", f"badgeMetaId={OTHER_BADGE}", "--json"]
    with process(command, env=env, log=log) as running:
        wait_for(lambda: issue_next(queue, ORG) == 5)
        assert running.wait(10) == 0
    (said,) = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    assert (said["replayed"], said["run"]) == (5, said["replay"])
    assert (said["followed"]["total"], said["followed"]["issued"]) == (5, 5)
    assert badges_json("run", "show", said["run"], env=env)["issued"] == 5


def test_in_doubt_is_asked_about_at_a_terminal(env: dict[str, str], queue: Queue) -> None:
    """No leaves all as it is, yes replays, and so does the option; the warning comes always."""
    bury(queue, ORG, range(2), kind="in_doubt")
    which = ("replay", "--kind", "in_doubt")
    with terminal("dead", *which, env=env) as screen:
        screen.until("second time", "[y/N]")
        screen.type("n")
        assert screen.end() == 1
    assert len(lines("dead", "list", env=env)) == 2
    with terminal("dead", *which, "--limit", "1", env=env) as screen:
        screen.until("[y/N]")
        screen.type("y")
        assert (screen.end(), "1 replayed" in screen.shown) == (0, True)
    with terminal("dead", *which, "--may-issue-twice", env=env) as screen:
        assert (screen.end(), "1 replayed" in screen.shown, "[y/N]" in screen.shown) == (0, True, False)
    bury(queue, ORG, range(9, 10), kind="in_doubt")
    done = badges("dead", *which, "--may-issue-twice", "--json", env=env)
    assert (json.loads(done.stdout)["replayed"], b"second time" in done.stderr) == (1, True)


def test_what_can_not_be_replayed_is_said(env: dict[str, str], queue: Queue, tmp_path: Path) -> None:
    """An org that is configured no more: its letters stay, all others are replayed; exit 1, one sentence."""
    bury(queue, ORG, range(2))
    bury(queue, configured(name="eu"), range(3))
    (tmp_path / "orgs.toml").write_text("")
    done = badges("dead", "replay", "--json", env=env, expect=1)
    assert json.loads(done.stdout)["unconfigured"] == {"eu": 3}
    assert json.loads(done.stdout)["replayed"] == 2
    assert "org eu isn't configured" in " ".join(done.stderr.decode().split())
    assert badges_json("dead", "discard", "--org", "eu", "--kind", "rejected", "--yes", env=env) == {
        "discarded": 3
    }
    for wrong in (["--kind", "invalid"], ["--set", "badge=x"], ["--set", "badgeMetaId="], ["--limit", "0"]):
        badges("dead", "replay", *wrong, env=env, expect=2)
    said = badges("dead", "replay", "--set", "custmer=1", env=env, expect=2).stderr.decode()
    assert "no field “custmer” (did you mean customerId?)" in " ".join(said.replace("│", " ").split())


def test_the_trail_tells_who_did_what(env: dict[str, str], queue: Queue) -> None:
    """Whatever a person does: who, when, what, to which, to how many, and why; newest first."""
    doubt = bury(queue, ORG, range(2), kind="in_doubt")
    bury(queue, ORG, range(10, 12))
    queue.enqueue(ORG, run="bulk", items=[item(n) for n in range(20, 24)], call=new_id())
    badges("pause", "--reason", "lunch", env=env)
    badges("dead", "resolve", doubt[0], "--issued", "--note", "seen in the UI", env=env)
    badges("dead", "resolve", doubt[1], "--not-issued", "--note", "ticket 7", env=env)
    badges("dead", "replay", "--code", "812", "--limit", "1", "--note", "try one", env=env)
    badges("dead", "discard", "--code", "812", "--yes", "--note", "left us", env=env)
    badges("run", "cancel", "bulk", "--yes", "--note", "wrong file", env=env)
    badges("resume", env=env)
    trail = lines("audit", env=env)
    found = [(e["action"], e["which"], e["count"], e["note"]) for e in reversed(trail)]
    assert found == [
        ("pause", {}, None, "lunch"),
        ("resolve", {"job": doubt[0], "found": "issued"}, 1, "seen in the UI"),
        ("resolve", {"job": doubt[1], "found": "not issued"}, 1, "ticket 7"),
        ("replay", {"code": "812", "limit": 1}, 1, "try one"),
        ("discard", {"code": "812"}, 1, "left us"),
        ("cancel", {"run": "bulk"}, 4, "wrong file"),
        ("resume", {}, None, ""),
    ]
    assert {e["by"] for e in trail} == {ME}
    assert all(str(e["at"]).endswith("Z") for e in trail)
    table = badges_process("audit", "--org", "default", env=env).stdout.decode()
    assert [part in table for part in (ME, "code=812 limit=1", "wrong file", "run=bulk")] == [True] * 4
    assert badges_json("audit", "--org", "eu", env=env) == []


def test_lineage(env: dict[str, str], queue: Queue, client: redis.Redis) -> None:
    """The old one says what took its place, the new one whose it took; else id and history stay."""
    old, plain = bury(queue, ORG, range(2))
    Probe(client).change(plain, history="1700000000000 b1 200 - 812")
    new_badge = f"badgeMetaId={OTHER_BADGE}"
    said = badges_json("dead", "replay", "--job", old, "--set", new_badge, env=env)
    gone = badges_json("job", "show", old, env=env)
    new = badges_json("job", "show", gone["replayed_as"], env=env)
    assert (gone["state"], new["replay_of"], new["run"]) == ("dead", old, said["run"])
    assert (new["badgeMetaId"], gone["badgeMetaId"]) == (OTHER_BADGE, BADGE)
    badges("dead", "replay", "--job", plain, env=env)
    again = badges_json("job", "show", plain, env=env)
    assert (again["state"], again["attempts"], again["run"]) == ("queued", 0, "spring")
    assert [attempt["code"] for attempt in again["history"]] == ["812"]
    shown = badges("job", "show", plain, env=env).stdout.decode()
    assert "2023-11-14T22:13:20.000Z b1 200 812" in shown
    assert "{" not in shown

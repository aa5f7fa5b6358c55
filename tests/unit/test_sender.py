"""Who sent a message, in words: the audit trail is read by people."""

from __future__ import annotations

from typing import Any

import pytest

from worker.errors import ConfigError
from worker.operate.deadlist import Filter
from worker.operate.which import Which
from worker.process.arguments import ReplayArguments, UndoArguments
from worker.process.operator_tasks import sender


@pytest.mark.parametrize(
    ("origin", "by", "words"),
    [
        ("gen11441@web1", None, "a program on web1 (process 11441)"),
        ("gen11441@web1", "ann", "ann, by a program on web1 (process 11441)"),
        ("Flower@web1", None, "Flower on web1"),
        ("Flower@web1", "ann\x1b[31m", "ann [31m, by Flower on web1"),
        ("a-service", None, "a-service"),
        ("None", None, "None"),
    ],
)
def test_who_sent_it(origin: str, by: str | None, words: str) -> None:
    """A process by its number and machine, Flower by its name; a person only if the message says so."""
    assert sender(origin, by) == words


def test_the_arguments_of_a_replay() -> None:
    """A second badge is allowed in so many words; anything but true or false is refused by name."""
    assert ReplayArguments.read({"kind": "in_doubt"}).may_issue_twice is False
    assert ReplayArguments.read({"kind": "in_doubt", "may_issue_twice": True, "by": "ann"}).may_issue_twice
    with pytest.raises(ConfigError, match="may_issue_twice"):
        ReplayArguments.read({"may_issue_twice": "perhaps"})


@pytest.mark.parametrize(
    ("named", "given", "words"),
    [
        ({"limit": "many"}, (), "limit: must be a whole number"),
        ({"customer": []}, (), "customer: must be a whole number"),
        ({"dry_run": "perhaps"}, (), "dry_run: must be true or false"),
        ({"set": "x"}, (), "set: must be a table of names and values"),
        ({"run": ["a"]}, (), "run: must be text"),
        ({"run": ""}, (), "run: must have at least 1 character"),
        ({"org": ""}, (), "org: must have at least 1 character"),
        ({"org": "a"}, ("b",), "org: is given twice"),
        ({}, tuple("abcdefghijklmnopq"), "17 arguments are too many"),
    ],
)
def test_a_wrong_argument_has_words_of_ours(
    named: dict[str, Any], given: tuple[Any, ...], words: str
) -> None:
    """Each names the argument, and what it may be."""
    with pytest.raises(ConfigError, match=words):
        ReplayArguments.read(named, given)


@pytest.mark.parametrize("kind", [Which, Filter])
def test_an_org_alone_says_not_which_of_its_jobs(kind: type[Which]) -> None:
    """An act on all of them is nobody's wish; customer 0 is said, though there is none."""
    assert not kind().is_said
    assert not kind(org="cinema").is_said
    assert kind(org="cinema", customer=0).is_said
    assert not Filter(org="cinema", until_ms=1).is_said
    told = UndoArguments.read({"run": "spring", "since": "2026-11-01T00:00Z"}).which(kind)
    assert told.as_json() == {"run": "spring", "since": "2026-11-01T00:00:00.000Z"}

"""The suite about itself: what isn't installed is skipped by name, and a failure where the gate runs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from support import NEIGHBOURS, needs


def test_a_neighbour_that_is_missing_is_skipped_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason names the program and where the packages are listed."""
    monkeypatch.delenv("BADGES_CI_NEIGHBOURS", raising=False)
    with pytest.raises(pytest.skip.Exception, match=r"no-such-program isn't here: .*debian\.txt"):
        needs("no-such-program")


def test_the_gate_skips_nothing_for_want_of_a_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """There its absence fails the test."""
    monkeypatch.setenv("BADGES_CI_NEIGHBOURS", "1")
    with pytest.raises(pytest.fail.Exception, match="no-such-program isn't here"):
        needs("no-such-program")


def test_a_neighbour_that_is_there_is_found() -> None:
    """Wherever the shell finds it."""
    assert needs("sh") == Path(shutil.which("sh") or "")


def test_the_lists_of_packages_are_there() -> None:
    """Both that the reason names."""
    assert {"debian.txt", "package.json"} <= {file.name for file in NEIGHBOURS.iterdir()}

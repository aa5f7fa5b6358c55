"""The suite about itself: what isn't installed is skipped by name, and a failure where the gate runs."""

from __future__ import annotations

import ast
import shutil
from collections.abc import Iterator
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


# -- what makes a test red by the machine's mood, or passes while the program is broken

TESTS = sorted(Path(__file__).parents[1].rglob("test_*.py"))


def calls(tree: ast.AST, name: str) -> Iterator[ast.Call]:
    """Yield the calls of what is written so, such as ``time.sleep``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == name:
            yield node


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_a_sleep_has_a_condition_or_says_why(path: Path) -> None:
    """It polls in a loop, or time itself is the case, as the comment beside it says."""
    text = path.read_text()
    tree, lines = ast.parse(text), text.splitlines()
    loops = [node for node in ast.walk(tree) if isinstance(node, ast.While | ast.For)]
    polling = {id(call) for loop in loops for call in calls(loop, "time.sleep")}
    unexplained = [
        call.lineno
        for call in calls(tree, "time.sleep")
        if id(call) not in polling and "#" not in lines[call.lineno - 1]
    ]
    assert not unexplained, f"wait for what is awaited, or say why time itself is: lines {unexplained}"


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_nothing_private_is_replaced(path: Path) -> None:
    """Timings and doubles are handed in: a name with an underscore may go at any time."""
    tree, private = ast.parse(path.read_text()), []
    for call in calls(tree, "monkeypatch.setattr"):
        words = [arg.value for arg in call.args if isinstance(arg, ast.Constant)]
        private += [word for word in words if isinstance(word, str) and word.rpartition(".")[2][:1] == "_"]
    assert not private, private


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_a_program_of_the_tests_is_a_file(path: Path) -> None:
    """What another interpreter is to run lies in ``programs/``, where linters and people read it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.List):
            words = [ast.unparse(element) for element in node.elts]
            assert words[:2] != ["sys.executable", "'-c'"], f"line {node.lineno}"

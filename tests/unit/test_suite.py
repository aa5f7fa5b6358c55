"""The suite about itself: what isn't installed is skipped by name, and a failure where the gate runs."""

from __future__ import annotations

import ast
import re
import shutil
from collections.abc import Iterator
from functools import cache
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
HELPERS = sorted(set(Path(__file__).parents[1].glob("*.py")))


@cache
def tree(path: Path) -> ast.Module:
    """Return what a file says."""
    return ast.parse(path.read_text())


def calls(within: ast.AST, name: str) -> Iterator[ast.Call]:
    """Yield the calls of what is written so, such as ``time.sleep``."""
    last = name.rpartition(".")[2]
    for node in ast.walk(within):
        attribute = node.func if isinstance(node, ast.Call) else None
        if isinstance(attribute, ast.Attribute) and attribute.attr == last and ast.unparse(attribute) == name:
            assert isinstance(node, ast.Call)
            yield node


def test_a_sleep_has_a_condition_or_says_why() -> None:
    """It polls in a loop, or time itself is the case, as the comment beside it says."""
    for path in TESTS:
        lines = path.read_text().splitlines()
        loops = [node for node in ast.walk(tree(path)) if isinstance(node, ast.While | ast.For)]
        polling = {id(call) for loop in loops for call in calls(loop, "time.sleep")}
        for call in calls(tree(path), "time.sleep"):
            where = f"{path}:{call.lineno}: wait for what is awaited, or say why time itself is"
            assert id(call) in polling or "#" in lines[call.lineno - 1], where


def private_words(call: ast.Call) -> list[str]:
    """Return the names with an underscore that a call replaces: as a text, or behind a module's name."""
    words = [arg.value for arg in call.args[:2] if isinstance(arg, ast.Constant)]
    return [word for word in words if isinstance(word, str) and word.rpartition(".")[2][:1] == "_"]


def test_nothing_private_is_replaced() -> None:
    """Timings and doubles are handed in: a name with an underscore may go at any time."""
    for path in (*TESTS, *HELPERS):
        for how in ("monkeypatch.setattr", "mock.patch", "mock.patch.object", "monkeypatch.delattr"):
            found = [word for call in calls(tree(path), how) for word in private_words(call)]
            assert not found, f"{path}: {found}"


def test_a_program_of_the_tests_is_a_file() -> None:
    """What another interpreter is to run lies in ``programs/``, where linters and people read it."""
    for path in (*TESTS, *HELPERS):
        for node in ast.walk(tree(path)):
            second = node.elts[1] if isinstance(node, ast.List) and len(node.elts) > 2 else None
            if isinstance(second, ast.Constant) and second.value == "-c":
                assert "executable" not in ast.unparse(node), f"{path}:{second.lineno}"
            # A text of several lines that is Python is a program, or a module, in hiding.
            assert not is_python(node), f"{path}: a program in a text: {ast.unparse(node)[:60]}"


def is_python(node: ast.AST) -> bool:
    """Say whether a text is a program: lines that import something, and that an interpreter takes."""
    if not (isinstance(node, ast.Constant) and isinstance(node.value, str)):
        return False
    if not re.search(r"(?m)^(import \w|from \w[\w.]* import )", node.value) or "\n" not in node.value:
        return False
    try:
        ast.parse(node.value)
    except SyntaxError:
        return False
    return True


def test_every_switch_of_the_tests_is_documented() -> None:
    """On the page about contributing: nobody finds a variable that only a test's code names."""
    folder = Path(__file__).parents[1]
    code = "".join(path.read_text() for path in folder.rglob("*.py"))
    switches = set(re.findall(r'environ\.get\(\s*"(BADGES_[A-Z_]+)"', code))
    page = (folder.parent / "deploy/docs/contributing.md").read_text()
    assert switches
    assert [name for name in sorted(switches) if name not in page] == []


def test_tests_look_into_redis_by_one_probe() -> None:
    """A record's form is known to the store and to ``Probe``: no other helper takes one apart."""
    for path in (*TESTS, *HELPERS):
        probes = [
            node for node in ast.walk(tree(path)) if isinstance(node, ast.ClassDef) and "Probe" in node.name
        ]
        assert len(probes) <= (path.name == "support.py"), path

"""The suite about itself: what isn't installed is skipped by name, and a failure where the gate runs."""

from __future__ import annotations

import ast
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from conventions import nodes
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


# How often a test waits for no condition: nothing is to happen meanwhile, or something is to grow old.
WAITS = {
    "test_chaos.py": 1,
    "test_console_pages.py": 1,
    "test_console_story.py": 1,
    "test_demo.py": 2,
    "test_liveness.py": 3,
    "test_orgs.py": 2,
    "test_retention.py": 1,
}


def calls(within: Iterable[ast.AST], *names: str) -> Iterator[ast.Call]:
    """Yield the calls of what is named so, whatever stands before the name."""
    for node in within:
        if isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in names:
            yield node


def test_a_sleep_has_a_condition_or_says_why() -> None:
    """It polls in a loop, or time itself is the case, as the comment beside it says."""
    for path in TESTS:
        lines = path.read_text().splitlines()
        loops = [node for node in nodes(path) if isinstance(node, ast.While | ast.For)]
        polling = {id(node) for loop in loops for node in ast.walk(loop)}
        waits = [
            call.lineno
            for call in calls(nodes(path), "sleep")
            if id(call) not in polling and ast.unparse(call.func) == "time.sleep"
        ]
        assert len(waits) <= WAITS.get(path.name, 0), f"{path}:{waits}: wait for what is awaited"
        assert all("#" in lines[n - 1] for n in waits), f"{path}:{waits}: say why time itself is"


def test_nothing_private_is_replaced() -> None:
    """Timings and doubles are handed in: a name with an underscore may go at any time."""
    for path in (*TESTS, *HELPERS):
        for call in calls(nodes(path), "setattr", "delattr", "patch", "object"):
            words = [str(its.value) for its in ast.walk(call) if isinstance(its, ast.Constant)]
            found = [word for word in words if re.fullmatch(r"([\w.]+\.)?_[A-Za-z]\w*", word)]
            assert not found, f"{path}:{call.lineno}: {found}"


def test_a_program_of_the_tests_is_a_file() -> None:
    """What another interpreter is to run lies in ``programs/``, where linters and people read it."""
    for path in (*TESTS, *HELPERS):
        for node in nodes(path):
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
        probes = [node for node in nodes(path) if isinstance(node, ast.ClassDef) and "Probe" in node.name]
        assert len(probes) <= (path.name == "support.py"), path

"""The documentation is true: made from the code where it can be, complete, and every command in it exists."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pages import DOCS, PAGES, ROOT, UNKNOWN, commands
from shell import RUN, blocks, calls, complaint

from worker.cli.help import INDEX, topics
from worker.cli.shapes import SHAPES
from worker.domain.job import KIND_WORDS, TERMINAL, DeadKind, State

# Where the words of a page that is made from the code are written.
WORDS_ARE = {
    "settings": "description= of the field",
    "commands": "the docstring of the command, help= of the option",
    "metrics": "help of the Family in worker/web/metrics.py",
    "log-events": "in the page itself, in place of the ?",
    "answer-codes": "SIGNALS in tests/pages.py",
    "json-shapes": "worker/cli/shapes.py",
    "guards": "tests/simulation/mutations.py",
}
TEXTS = [*sorted(DOCS.glob("*.md")), ROOT / "README.md"]


@pytest.mark.parametrize("name", PAGES)
def test_a_reference_page_is_what_the_code_says(name: str) -> None:
    """Settings, commands, metrics, log events and codes: nothing missing, and nothing else."""
    assert PAGES[name]() == (DOCS / f"{name}.md").read_text(), "run: .venv/bin/python tests/pages.py"


@pytest.mark.parametrize("name", PAGES)
def test_everything_has_a_meaning(name: str) -> None:
    """A new setting needs a description, a new event or meaning of a code a word in the catalogue."""
    lines = re.findall(rf"^.*: \{UNKNOWN}\.?$", (DOCS / f"{name}.md").read_text(), re.MULTILINE)
    assert not lines, f"say what they mean: {WORDS_ARE[name]}"


def test_every_kind_of_dead_letter_is_explained() -> None:
    """In the words of console and commands, on its page, and in the glossary."""
    page, glossary = ((DOCS / f"{name}.md").read_text() for name in ("dead-letters", "glossary"))
    row = next(line for line in glossary.splitlines() if line.startswith("| **dead letter** |"))
    assert set(KIND_WORDS) == set(DeadKind), "KIND_WORDS in worker/domain/job.py"
    assert set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)) == set(DeadKind), "first table"
    assert set(re.findall(r"`(\w+)`", row)) == set(DeadKind)


def test_every_state_of_a_job_is_explained() -> None:
    """On the page about its lifecycle, and which of them are its ends."""
    states = (DOCS / "lifecycle.md").read_text().partition("## States")[2].partition("\n## ")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", states, re.MULTILINE))
    assert set(rows) == set(State)
    assert {state for state, words in rows.items() if "(terminal)" in words} == TERMINAL


def test_the_version_is_the_newest_of_the_changelog() -> None:
    """What ``badges --version`` says is what somebody finds there, and what the images are called."""
    its = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    newest = re.search(r"^## \[([\d.]+)\]", (DOCS / "changelog.md").read_text(), re.MULTILINE)
    assert newest
    assert newest[1] == its, "a version has its entry, with what changed"
    for file in ("docker-compose.yml", "deploy/Dockerfile", "deploy/kubernetes/kustomization.yaml"):
        named = re.findall(
            r"(?:badge-import-worker:|VERSION:-|newTag: )(\d[\d.]*)", (ROOT / file).read_text()
        )
        assert named == [its], file


def options(command: Any) -> set[str]:
    """Return a command's options."""
    return {option for param in command.params for option in param.opts}


def test_every_command_that_prints_json_has_its_shape() -> None:
    """By which ``badges schema``, the page of shapes and the test of what is printed know it."""
    printing = {name for name, command in commands() if "--json" in options(command)}
    assert printing == set(SHAPES) - {"import --dry-run"}, "SHAPES in worker/cli/shapes.py"


def test_every_act_that_asks_is_listed() -> None:
    """With the option that names its danger: who writes a script looks there."""
    section = (DOCS / "dead-letters.md").read_text().partition("## What asks")[2].partition("\n## ")[0]
    listed = re.findall(r"^\| .*", section, re.MULTILINE)
    for name, command in commands():
        for option in {"--yes", "--may-issue-twice"} & options(command):
            assert any(f"`badges {name}" in row and f"`{option}`" in row for row in listed), (name, option)


def test_index_site_and_folder_have_the_same_pages() -> None:
    """No page that nobody finds, none that isn't there, and one order in both."""
    listed = [topic.name for topic in topics()]
    assert sorted([INDEX, *listed]) == sorted(page.stem for page in DOCS.glob("*.md"))
    site = tomllib.loads((ROOT / "deploy/zensical.toml").read_text())["project"]
    assert [f"{name}.md" for name in (INDEX, *listed)] == list(navigation(site["nav"]))


def navigation(entry: Any) -> Iterator[str]:
    """Yield the pages of the site, in their order."""
    if isinstance(entry, str):
        yield entry
    for one in entry if isinstance(entry, list) else entry.values() if isinstance(entry, dict) else ():
        yield from navigation(one)


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: page.stem)
def test_every_command_exists(page: Path) -> None:
    """In blocks and in the text: the command, and every option that it is given."""
    wrong = [said for arguments in calls(page) if (said := complaint(arguments))]
    assert not wrong


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: page.stem)
def test_every_block_is_shell_and_names_what_there_is(page: Path) -> None:
    """It reads as shell; files of this project, extras and services that it names exist."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for block in blocks(page):
        subprocess.run(["bash", "-n"], input=block.text.encode(), check=True)
        named = re.findall(r"(?<![\w/.-])(?:deploy|tests|worker)/[\w./-]*\w", block.text)
        assert not [path for path in named if not (ROOT / path).exists()]
        assert not [one for one in re.findall(r"'\.\[(\w+)\]'", block.text) if one not in extras]


def test_commands_for_tests_find_some() -> None:
    """With the variables that stand before them; pytest leaves out what is long, and says nothing else."""
    told = re.compile(r"^((?:\w+=\S+ )*)\.venv/bin/pytest (tests/.+)$", re.MULTILINE)
    found = [each for page in TEXTS for block in blocks(page) for each in told.findall(block.text)]
    usual = {name: value for name, value in os.environ.items() if name != "BADGES_LONG_TESTS"}
    assert found
    for variables, arguments in found:
        env = usual | dict(one.split("=", 1) for one in variables.split())
        command = [sys.executable, "-m", "pytest", "--collect-only", "-qq", "-p", "no:cacheprovider"]
        subprocess.run([*command, *arguments.split()], cwd=ROOT, env=env, check=True, capture_output=True)


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: page.stem)
def test_a_mark_stands_before_a_block(page: Path) -> None:
    """A mark that stands anywhere else would leave a block that is believed to be run unrun."""
    assert page.read_text().count(RUN + "\n") == sum(block.runs for block in blocks(page))


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        (["import", "members.csv", "--follow"], None),
        (["run", "show", "RUN"], None),
        (["--version"], None),
        (["improt", "members.csv"], "has no command 'improt'"),
        (["run", "shwo"], "has no command 'shwo'"),
        (["import", "members.csv", "--folow"], "--folow"),
    ],
)
def test_a_wrong_command_is_found(arguments: list[str], wrong: str | None) -> None:
    """A misspelt command, a misspelt option."""
    said = complaint(arguments)
    assert (wrong in said) if wrong and said else said == wrong


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: page.stem)
def test_python_in_the_text_is_python(page: Path) -> None:
    """Every block of it compiles."""
    for block in re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL):
        compile(block, page.name, "exec")

"""The documentation from outside: `badges help`, the site, and a page's commands as they are written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import launcher
import pytest
from shell import blocks
from support import badges, environment, process, some, wait_for, worker_command
from terminal import terminal

from worker.cli.help import found_places
from worker.sandbox.server import SandboxServer

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "deploy/docs"
RUN = [page for page in sorted(DOCS.glob("*.md")) if any(block.runs for block in blocks(page))]
PAGES = sorted(RUN, key=lambda page: page.stem != "start")
BIN = Path(sys.executable).parent
# Exit status 3 says that a command did what it was asked to, and that some rows need a person.
RUNNER = "trap 'code=$?; [ $code -eq 3 ] || exit $code' ERR\n"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", some(PAGES, 1), ids=lambda page: page.stem)
def test_the_marked_commands_of_a_page_work(page: Path, sandbox: SandboxServer, tmp_path: Path) -> None:
    """One after the other, as a reader types them, against the sandbox and a real worker."""
    env = environment(
        api_base_url=sandbox.url, rate_limit="1000/second", batch_linger_s=0, data_dir=tmp_path / "data"
    )
    launcher.for_shells(tmp_path)
    env["PATH"] = f"{tmp_path}{os.pathsep}{BIN}{os.pathsep}{env['PATH']}"
    script = RUNNER + "".join(block.text for block in blocks(page) if block.runs)
    with process(worker_command(), env=env, log=tmp_path / "worker.log"):
        wait_for(
            lambda: badges("doctor", env=env, expect=None).returncode == 0, within_s=120, what="a worker"
        )
        done = subprocess.run(
            ["bash", "-u", "-c", script], env=env, cwd=tmp_path, capture_output=True, timeout=280, check=False
        )
    assert done.returncode == 0, (done.stdout.decode(), done.stderr.decode())


def test_the_topics_are_listed_one_a_line() -> None:
    """Each page, with what it is about."""
    said = badges("help", env=environment()).stdout.decode()
    for page in DOCS.glob("*.md"):
        assert page.stem == "index" or f"\n  {page.stem} " in said, page.stem


def test_a_page_is_plain_text_for_a_program() -> None:
    """What a pipe gets is the page as it is written, without the marks that nobody reads."""
    said = badges("help", "start", env=environment() | {"LC_ALL": "C"}).stdout.decode()
    assert said.startswith("# First steps\n")
    assert "<!--" not in said
    assert "badges import members.csv" in said


def test_a_page_is_rendered_at_a_terminal() -> None:
    """Headings instead of signs, and links as what can be typed."""
    with terminal("help", "doubt", env=environment(), columns=70) as screen:
        assert screen.end() == 0
    said = screen.shown
    assert "## What happens by itself" not in said
    assert "What happens by itself" in said
    assert "\x1b[" in said
    assert "answers.md" not in said
    assert "badges help answers" in said


@pytest.mark.parametrize(
    ("topic", "hint"),
    [
        ("limit", "limits"),
        ("SETTINGS", "settings"),
        ("import", "badges import --help"),
        ("zzz", "badges help"),
    ],
)
def test_an_unknown_topic_names_the_nearest(topic: str, hint: str) -> None:
    """Exit status 2: it is a mistake in what was typed."""
    said = badges("help", topic, env=environment() | {"COLUMNS": "200"}, expect=2).stderr.decode()
    assert f"there is no topic '{topic}'" in said
    assert hint in said


def test_words_are_found_in_all_pages() -> None:
    """Each with its page and section, in whatever case; those with them in the heading come first."""
    said = badges(
        "help", "--search", "RETRY-AFTER 429", env=environment() | {"COLUMNS": "200"}
    ).stdout.decode()
    assert said.startswith("limits: What a 429 teaches\n")
    assert "answers: The token call" in said
    assert "Read one: badges help TOPIC" in said


@pytest.mark.parametrize(
    ("words", "page"),
    [
        ("rate limit", "limits"),
        ("DLQ", "glossary"),
        ("GDPR", "privacy"),
        ("retention", "privacy"),
        ("don't promise", "promises"),
        ("glossary", "glossary"),
        ("celery", "from-celery"),
        ("connect+", "from-connect"),
        ("priority", "glossary"),
    ],
)
def test_what_a_newcomer_looks_for_is_found(words: str, page: str) -> None:
    """In the words of the trade as well, and the page about it before all others."""
    assert found_places(words)[0].topic == page


@pytest.mark.parametrize(
    ("words", "hint"), [("nobody wrote thiz", "try fewer"), ("thiz", "try another"), ("", ""), ("  ", "")]
)
def test_words_that_stand_nowhere_are_said(words: str, hint: str) -> None:
    """Exit status 2, with the words, and what to do."""
    said = badges("help", "--search", words, env=environment() | {"COLUMNS": "200"}, expect=2).stderr.decode()
    assert "no page holds" in said
    assert repr(words) in said
    assert hint in said


def test_a_page_and_words_are_one_too_many() -> None:
    """One of both is meant."""
    said = badges("help", "limits", "--search", "429", env=environment() | {"COLUMNS": "200"}, expect=2)
    assert b"not both" in said.stderr

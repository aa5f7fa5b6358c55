"""What we depend on is used, explained, pinned, and in the image by its hash."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.metadata import distributions, packages_distributions
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from conventions import nodes
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
IN_THE_IMAGE = ("console", "flower", "intake", "tracing")
# What is needed without being imported by us, and where it is.
NOT_OURS = {
    "packaging": "kombu.transport.redis",
    "hiredis": "redis.utils",
    "flower": "flower.command",
    "tzdata": "zoneinfo",
}
PINNED = re.compile(r"^([\w.-]+)==(\S+)( .*)?$", re.MULTILINE)


@cache
def project() -> dict[str, Any]:
    """Return the project's table."""
    table: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return table


@cache
def asked_for() -> dict[str, Requirement]:
    """Return what runs need, without tests and benchmarks, by name."""
    table = project()
    lines = [*table["dependencies"]]
    for extra in IN_THE_IMAGE:
        lines += table["optional-dependencies"][extra]
    return {canonicalize_name(Requirement(line).name): Requirement(line) for line in lines}


def pins(name: str) -> dict[str, str]:
    """Return the versions that a file in ``deploy`` pins."""
    found = PINNED.finditer((DEPLOY / name).read_text())
    return {canonicalize_name(pin[1]): pin[2] for pin in found}


@cache
def imported() -> set[str]:
    """Return the top-level modules, none of them Python's own, that ``worker/`` imports."""
    modules = set()
    for file in (ROOT / "worker").rglob("*.py"):
        for node in nodes(file):
            if isinstance(node, ast.Import):
                modules |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                modules |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name for name in modules if name.partition(".")[0] not in {*sys.stdlib_module_names, "worker"}}


@cache
def _distributions() -> Mapping[str, list[str]]:
    return packages_distributions()


def of_distribution(module: str) -> set[str]:
    """Return which packages a top-level module may come from."""
    return {canonicalize_name(name) for name in _distributions().get(module.partition(".")[0], ())}


def test_every_dependency_is_used() -> None:
    """Each is imported, or is known to be needed where it isn't."""
    used = set().union(*map(of_distribution, imported()))
    assert asked_for().keys() - used - NOT_OURS.keys() == set()
    for name in ("packaging", "hiredis"):
        found = find_spec(NOT_OURS[name])
        assert found
        assert found.origin
        text = Path(found.origin).read_text()
        assert re.search(rf"^\s*(from|import) {name}\b", text, re.MULTILINE), name


def test_nothing_else_is_imported() -> None:
    """What is imported is asked for, or comes with what is: kombu and Click with Celery, Pydantic's core."""
    for module in imported():
        assert of_distribution(module) & {*asked_for(), "kombu", "click", "pydantic-core"}, module


def test_every_dependency_has_its_reason() -> None:
    """Beside it, or beside the extra that it belongs to."""
    text = (ROOT / "pyproject.toml").read_text()
    for line in re.findall(r"\ndependencies = \[\n(.*?)\n\]", text, re.DOTALL)[0].splitlines():
        assert re.fullmatch(r'  "[^"]+", +# .{4,}', line), line
    for extra in IN_THE_IMAGE:
        assert re.search(rf"^{extra} = \[.*# .{{10,}}", text, re.MULTILINE), extra


def test_the_image_is_built_from_what_is_asked_for() -> None:
    """All that is asked for is there, in a version that fits, and what builds the program."""
    held = pins("requirements.txt")
    for name, requirement in asked_for().items():
        assert name in held, f"{name}: run deploy/requirements.sh"
        assert held[name] in requirement.specifier, name
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    assert all(
        pins("requirements-build.txt")[Requirement(one).name] in Requirement(one).specifier for one in build
    )


def test_the_image_holds_what_the_tests_pass_with() -> None:
    """Every version is the one that ``constraints.txt`` pins."""
    tested = pins("constraints.txt")
    for file in ("requirements.txt", "requirements-build.txt"):
        held = pins(file)
        assert {name: tested.get(name) for name in held} == held, f"{file}: run deploy/requirements.sh"


def test_every_pinned_version_runs_on_the_first_python_that_we_name() -> None:
    """A system's own Python may be 3.11.2: one pin that wants a newer one, and nothing installs."""
    oldest = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"].strip(">=")
    pinned = pins("constraints.txt")
    here = {canonicalize_name(its.name): its for its in distributions()}
    wants = {
        name: its.metadata.get("Requires-Python") or ""
        for name, its in here.items()
        if its.version == pinned.get(name)
    }
    assert len(wants) > 50
    too_new = {name: its for name, its in wants.items() if f"{oldest}.0" not in SpecifierSet(its)}
    assert not too_new, f"choose older versions in deploy/constraints.txt: {too_new}"


def test_every_package_has_its_hashes_and_no_address() -> None:
    """No line is without one, and none says where from: that is the builder's to say."""
    for name in ("requirements.txt", "requirements-build.txt"):
        text = (DEPLOY / name).read_text()
        blocks = re.split(r"\n(?=\S)", text.strip())
        assert len(blocks) == len(pins(name)) > 5
        for block in blocks:
            assert re.fullmatch(r"[\w.-]+==\S+( \\\n +--hash=sha256:[0-9a-f]{64})+", block), block
        assert "://" not in text

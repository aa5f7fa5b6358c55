"""What the code says about itself, read from it: headers of scripts, events of the log."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

LEVELS = {"debug", "info", "warning", "error", "critical", "exception"}


def headers(path: Path) -> dict[str, Any]:
    """Return what a script's header documents: numbers of KEYS and ARGV, the texts of the rest."""
    lines = path.read_text().splitlines()[1:]
    head = "\n".join(line[2:] for line in _while_comment(lines))
    said: dict[str, Any] = {
        kind: {int(n) for n in re.findall(rf"\b{kind}\[(\d+)\]", head)} for kind in ("KEYS", "ARGV")
    }
    _, _, rest = head.partition("\n Returns")
    said["Returns"], _, said["Repeated"] = (part.strip() for part in rest.partition("\n Repeated:"))
    return said


def replies(path: Path) -> list[tuple[set[str], set[str]]]:
    """Return of each kind of JSON reply that a header documents what is always in it, and what may be."""
    _, _, said = headers(path)["Returns"].partition("JSON: ")
    kinds = re.match(r"(\{[^{}]*\})(?:,? or[^{]*(\{[^{}]*\}))*", said.replace("\n", " "))
    found = re.findall(r"\{([^{}]*)\}", kinds[0]) if kinds else []
    return [
        (set(re.findall(r"\w+", re.sub(r"\[[^]]*\]", "", kind))), set(re.findall(r"\w+", kind)))
        for kind in found
    ]


def log_events(modules: Iterable[Path]) -> dict[str, set[str]]:
    """Return every event that the code logs, and where from: the catalogue of the documentation."""
    found: dict[str, set[str]] = {}
    for path in modules:
        for node in ast.walk(ast.parse(path.read_text())):
            for event in _events(node):
                found.setdefault(event, set()).add(path.name)
    return dict(sorted(found.items()))


def _events(node: ast.AST) -> Iterable[str]:
    if not isinstance(node, ast.Call) or not node.args:
        return
    called = node.func
    logs = isinstance(called, ast.Attribute) and called.attr in LEVELS and "log" in ast.unparse(called.value)
    chosen = isinstance(called, ast.IfExp) and "log." in ast.unparse(called)
    first = node.args[0]
    if (logs or chosen) and isinstance(first, ast.Constant) and isinstance(first.value, str):
        yield first.value


def _while_comment(lines: Iterable[str]) -> Iterable[str]:
    for line in lines:
        if not line.startswith("--"):
            return
        yield line

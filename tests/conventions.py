"""What the code says about itself, read from it: headers of scripts, events of the log."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

LEVELS = ["debug", "info", "warning", "error", "exception", "critical"]
LOGS = re.compile(rf"log[\w.()]*\.({'|'.join(LEVELS)})\b")


@cache
def nodes(path: Path) -> list[ast.AST]:
    """Return all that a module says; it is read once, whoever asks."""
    return list(ast.walk(ast.parse(path.read_text())))


def headers(path: Path) -> dict[str, Any]:
    """Return what a script's header documents: numbers of KEYS and ARGV, the texts of the rest."""
    lines = path.read_text().splitlines()[1:]
    head = "\n".join(line[2:] for line in _while_comment(lines))
    said: dict[str, Any] = {
        kind: {int(n) for n in re.findall(rf"\b{kind}\[(\d+)\](?!…)", head)} for kind in ("KEYS", "ARGV")
    }
    said["rest"] = bool(re.search(r"\bARGV\[\d+\]…", head))  # as many as there are
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


@dataclass(frozen=True, slots=True)
class LogEvent:
    """An event of the log: at which levels it is logged, and with which fields."""

    levels: tuple[str, ...]
    fields: tuple[str, ...]


def log_events(modules: Iterable[Path]) -> dict[str, LogEvent]:
    """Return every event that the code logs, by its name: the catalogue of the documentation."""
    found: dict[str, tuple[set[str], set[str]]] = {}
    for path in modules:
        if not LOGS.search(path.read_text()):
            continue
        calls = list(_log_calls(path))
        # A function that logs the event it is given: its callers name the event.
        handed_on = {name: call for name, call in calls if name.isidentifier()}
        for call in (node for node in nodes(path) if isinstance(node, ast.Call)):
            name = call.func.id if isinstance(call.func, ast.Name) else ""
            if name in handed_on and (event := _literal(call)):
                calls.append((event, handed_on[name]))
        for event, (levels, fields) in calls:
            if "." in event:
                known = found.setdefault(event, (set(), set()))
                known[0].update(levels)
                known[1].update(fields)
    return {
        name: LogEvent(tuple(sorted(levels, key=LEVELS.index)), tuple(sorted(fields)))
        for name, (levels, fields) in sorted(found.items())
    }


def _log_calls(path: Path) -> Iterator[tuple[str, tuple[list[str], list[str]]]]:
    """Yield the event, or the function that is given it, of each call of a logger: levels and fields."""
    for function in nodes(path):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for call in (node for node in ast.walk(function) if isinstance(node, ast.Call) and node.args):
            if levels := _levels(call.func):
                said = (levels, [word.arg for word in call.keywords if word.arg])
                event = _literal(call)
                if event:
                    yield event, said
                elif isinstance(call.args[0], ast.Name):
                    yield function.name, said


def _levels(called: ast.expr) -> list[str]:
    if isinstance(called, ast.IfExp):
        return [*_levels(called.body), *_levels(called.orelse)]
    if not isinstance(called, ast.Attribute) or called.attr not in LEVELS:
        return []
    return [called.attr] if "log" in ast.unparse(called.value) else []


def _literal(call: ast.Call) -> str:
    first = call.args[0] if call.args else None
    return first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else ""


def _while_comment(lines: Iterable[str]) -> Iterable[str]:
    for line in lines:
        if not line.startswith("--"):
            return
        yield line

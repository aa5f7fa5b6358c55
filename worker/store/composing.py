"""The scripts as they are written, and as the server gets them.

A script is written in ``lua/<name>.lua``; its header says which of the shared files it uses. What stands
before its own text is run at each call, and what the server's Lua keeps it looks through for garbage again
and again: tables and functions that nobody uses cost a small call more than all of its commands. So the
server gets only what is used, without comments, and names that stand for one value (``FIELD.run``) as that.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import partial
from importlib import resources
from typing import Any

from worker.store import keys, record
from worker.store.protocol import Verb

_NAME = re.compile(r"\w+\.\w+|\w+")
# A function, a value or a block of functions; names declared ahead go with the block that sets them.
_PIECE = re.compile(r"^(?:local [\w, ]+\ndo$|\w).*(?:\n(?!local |function |\w+\.|do$).*)*", re.MULTILINE)
_DEFINES = re.compile(r"(?:local function |local |function )?(\w[\w., ]*)")
_INSIDE = re.compile(r"^  function (\w+\.\w+)", re.MULTILINE)


def written() -> dict[str, str]:
    """Return the scripts by name, each with what it uses of the shared files."""
    files = resources.files("worker.store").joinpath("lua").iterdir()
    names = [f.name.removesuffix(".lua") for f in files if f.name.endswith(".lua") and f.name[0] != "_"]
    return {name: _written(name) for name in names}


def _written(name: str) -> str:
    folder = resources.files("worker.store").joinpath("lua")
    flags, _, body = folder.joinpath(f"{name}.lua").read_text().partition("\n")
    used = next(line.split()[2:] for line in body.splitlines() if line.startswith("-- Uses "))
    shared = "".join(folder.joinpath(f"_{part}.lua").read_text() for part in used)
    return "\n".join([flags, *_used(_without_comments(shared), _without_comments(body))])


def _without_comments(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("--")]
    return "\n".join(re.sub(r" -- [^']*$", "", line) for line in lines)


def _used(shared: str, body: str) -> Iterator[str]:
    """Yield the shared definitions that a text needs, and the text."""
    pieces = _PIECE.findall(shared)
    needed, taken = _named(body), set[int]()
    while found := {n for n, piece in enumerate(pieces) if n not in taken and needed & _names(piece)}:
        taken |= found
        needed |= {name for n in found for name in _named(pieces[n])}
    yield from (piece for n, piece in enumerate(pieces) if n in taken)
    yield body


def _named(text: str) -> set[str]:
    """Return the names in a text; of what lies in a table, this as well."""
    names = set(_NAME.findall(text))
    return names | {name.partition(".")[0] for name in names}


def _names(piece: str) -> set[str]:
    """Return what a piece defines."""
    first = _DEFINES.match(piece)
    listed = first[1].split(",") if first else ()
    return ({name.strip() for name in listed} | set(_INSIDE.findall(piece))) - {"do"}


def program(text: str) -> str:
    """Return what the server gets of a script.

    Raises:
        KeyError: the script names a key, or another constant, that there isn't.
    """
    flags, _, body = text.partition("\n")
    tables = record.lua_tables() | {"VERB": {verb.value: verb.value for verb in Verb}}
    for name, values in tables.items():
        body = re.sub(rf"\b{name}(?:\.|\[')(\w+)(?:'\])?", partial(_of_table, values), body)
    for name, value in record.lua_values().items():
        body = re.sub(rf"\b{name}\b", _literal(value).replace("\\", r"\\"), body)
    kept = [_table(name, values) for name, values in tables.items() if re.search(rf"\b{name}\[", body)]
    its_keys = dict.fromkeys(re.findall(r"\bK\.(\w+)", body))
    entries = ", ".join(f"{name} = KEYS[1] .. '{keys.suffix(name)}'" for name in its_keys)
    return "\n".join([flags, f"local K = {{{entries}}}", *kept, body])


def _of_table(values: Mapping[str, Any], use: re.Match[str]) -> str:
    return _literal(values[use[1]])


def _table(name: str, values: Mapping[str, Any]) -> str:
    entries = ", ".join(f"['{key}'] = {_literal(value)}" for key, value in values.items())
    return f"local {name} = {{{entries}}}"


def _literal(value: Any) -> str:
    return str(value) if isinstance(value, int) else f"'{value}'".replace(record.SEPARATOR, "\\31")

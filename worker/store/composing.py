"""The scripts as they are written, and as the server gets them.

A script is written in ``lua/<name>.lua``; its header says which of the shared files it uses. What stands
before its own text is run at each call, and what the server's Lua keeps it looks through for garbage again
and again: tables and functions that nobody uses cost a small call more than all of its commands. So the
server gets only what is used, without comments, and names that stand for one value (``FIELD.run``) as that.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

from worker.store import keys, record
from worker.store.protocol import Verb

_FOLDER = resources.files("worker.store").joinpath("lua")
_NAME = re.compile(r"\w+\.\w+|\w+")
# A function, a value or a block of functions; names declared ahead go with the block that sets them.
_PIECE = re.compile(r"^(?:local [\w, ]+\ndo$|\w).*(?:\n(?!local |function |\w+\.|do$).*)*", re.MULTILINE)
_DEFINES = re.compile(r"(?:local function |local |function )?(\w[\w., ]*)")
_INSIDE = re.compile(r"^  function (\w+\.\w+)", re.MULTILINE)


class Texts(Mapping[str, str]):
    """The scripts by name, each with what it uses of the shared files; read when somebody asks for it."""

    def __getitem__(self, name: str) -> str:
        flags, _, body = _read(name).partition("\n")
        used = next(line.split()[2:] for line in body.splitlines() if line.startswith("-- Uses "))
        body = _without_comments(body)
        return "\n".join([flags, *_needed(body, [piece for part in used for piece in _pieces(part)]), body])

    def __iter__(self) -> Iterator[str]:
        names = (file.name.removesuffix(".lua") for file in _FOLDER.iterdir() if file.name.endswith(".lua"))
        return (name for name in names if name[0] != "_")

    def __len__(self) -> int:
        return sum(1 for _ in self)


class _Piece(NamedTuple):
    """A shared definition: its text, the names it defines, and those it needs."""

    text: str
    defines: set[str]
    needs: set[str]


def _read(name: str) -> str:
    return _FOLDER.joinpath(f"{name}.lua").read_text()


def _without_comments(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("--")]
    return "\n".join(re.sub(r" -- [^']*$", "", line) for line in lines)


@cache
def _pieces(part: str) -> list[_Piece]:
    texts = _PIECE.findall(_without_comments(_read(f"_{part}")))
    return [_Piece(text, _defined(text), _named(text)) for text in texts]


def _needed(body: str, pieces: list[_Piece]) -> Iterator[str]:
    """Yield the shared definitions that a text needs, in their order."""
    needed, taken = _named(body), set[int]()
    while found := {n for n, piece in enumerate(pieces) if n not in taken and needed & piece.defines}:
        taken |= found
        needed |= set[str]().union(*(pieces[n].needs for n in found))
    return (piece.text for n, piece in enumerate(pieces) if n in taken)


def _named(text: str) -> set[str]:
    """Return the names in a text; of what lies in a table, this as well."""
    names = set(_NAME.findall(text))
    return names | {name.partition(".")[0] for name in names}


def _defined(piece: str) -> set[str]:
    first = _DEFINES.match(piece)
    listed = first[1].split(",") if first else ()
    return ({name.strip() for name in listed} | set(_INSIDE.findall(piece))) - {"do"}


def program(text: str) -> str:
    """Return what the server gets of a script.

    Raises:
        KeyError: the script names a key, or another constant, that there isn't.
    """
    tables, values = _constants()
    by_name = rf"\b({'|'.join(tables)})(?:\.|\[')(\w+)(?:'\])?|\b({'|'.join(values)})\b"

    def in_place(use: re.Match[str]) -> str:
        table, name, value = use.groups()
        return _literal(tables[table][name] if table else values[value])

    flags, _, body = text.partition("\n")
    body = re.sub(by_name, in_place, body)
    kept = [_table(name, its) for name, its in tables.items() if f"{name}[" in body]
    its_keys = dict.fromkeys(re.findall(r"\bK\.(\w+)", body))
    entries = ", ".join(f"{name} = KEYS[1] .. '{keys.suffix(name)}'" for name in its_keys)
    return "\n".join([flags, f"local K = {{{entries}}}", *kept, body])


@cache
def _constants() -> tuple[dict[str, dict[str, str | int]], dict[str, str | int]]:
    verbs: dict[str, str | int] = {verb.value: verb.value for verb in Verb}
    return record.lua_tables() | {"VERB": verbs}, record.lua_values()


def _table(name: str, values: Mapping[str, Any]) -> str:
    entries = ", ".join(f"['{key}'] = {_literal(value)}" for key, value in values.items())
    return f"local {name} = {{{entries}}}"


def _literal(value: Any) -> str:
    return str(value) if isinstance(value, int) else f"'{value}'".replace(record.SEPARATOR, "\\31")

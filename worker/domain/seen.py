"""What of badges and customers there was in a file: 16 bytes for each, so that a million rows stay small."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from enum import Enum
from typing import Final

_FIRST_SLOTS: Final = 1 << 10
_FULLEST: Final = 0.7


class Met(Enum):
    """Whether something was met before."""

    NEW = 0
    SIMILAR = 1  # the same pair, with another content
    SAME = 2


class Fingerprints:
    """Which pairs there were, and with which content, by 64 bits of each.

    Among a million, two are mixed up once in ten million times. A table of our own, since a set of as many
    numbers takes six times as much memory.
    """

    __slots__ = ("_contents", "_count", "_further", "_mask", "_most", "_pairs")

    def __init__(self) -> None:
        self._count = 0
        self._further: set[tuple[int, int]] = set()  # contents beyond the first of a pair, which are few
        self._resize(_FIRST_SLOTS)

    def add(self, pair: str, content: str) -> Met:
        """Add what has this pair and content; say whether it was met before."""
        if self._count >= self._most:
            self._grow()
        value, mask, pairs = hash(pair) or 1, self._mask, self._pairs
        at = value & mask
        while there := pairs[at]:  # 0 is a place that is free
            if there == value:
                return self._again(at, hash(content))
            at = (at + 1) & mask
        pairs[at], self._contents[at] = value, hash(content)
        self._count += 1
        return Met.NEW

    def add_many(self, contents: Sequence[str], letters: int) -> dict[int, Met]:
        """Do so with many, whose first letters are the pair; return the places of those that aren't new."""
        found: dict[int, Met] = {}
        while self._count + len(contents) > self._most:
            self._grow()
        mask, pairs, firsts = self._mask, self._pairs, self._contents
        for place, content in enumerate(contents):
            value = hash(content[:letters]) or 1
            at = value & mask
            while (there := pairs[at]) and there != value:
                at = (at + 1) & mask
            if there:
                found[place] = self._again(at, hash(content))
            else:
                pairs[at], firsts[at] = value, hash(content)
        self._count += len(contents) - len(found)
        return found

    def _again(self, at: int, content: int) -> Met:
        further = (self._pairs[at], content)
        if self._contents[at] == content or further in self._further:
            return Met.SAME
        self._further.add(further)
        return Met.SIMILAR

    def _grow(self) -> None:
        pairs, contents = self._pairs, self._contents
        self._resize(2 * len(pairs))
        mask, room = self._mask, self._pairs
        for value, content in zip(pairs, contents, strict=True):
            if value:
                at = value & mask
                while room[at]:
                    at = (at + 1) & mask
                room[at], self._contents[at] = value, content

    def _resize(self, size: int) -> None:
        self._pairs, self._contents = array("q", bytes(8 * size)), array("q", bytes(8 * size))
        self._mask, self._most = size - 1, int(size * _FULLEST)

"""Values as text for people: what foreign text may contain where it is shown, stored or logged."""

from __future__ import annotations


def plain(text: str, size: int) -> str:
    """Keep what can be shown on a terminal and in a report, within ``size`` bytes; blanks for the rest."""
    if len(text) <= size and text.isascii() and text.isprintable():
        return text
    shown = "".join(letter if letter.isprintable() else " " for letter in text[:size])
    return shown.encode()[:size].decode("utf-8", "ignore")

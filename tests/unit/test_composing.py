"""What the server gets of a script: what it uses, and nothing else."""

from __future__ import annotations

import re

import pytest

from worker.store.composing import Texts, program
from worker.store.record import PLACE, Field

SCRIPTS = dict(Texts())


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_carries_only_what_it_uses(name: str) -> None:
    """Each function and key that it brings is used somewhere else in it; no name of a constant is left."""
    text = program(SCRIPTS[name])
    words = re.findall(r"\w+", text)
    for defined in re.findall(r"^local function (\w+)", text, re.MULTILINE):
        assert words.count(defined) > 1, defined
    keys = text.splitlines()[1]
    for key in re.findall(r"(\w+) = KEYS", keys):
        assert re.search(rf"\bK\.{key}\b", text.replace(keys, "")), key
    assert not re.findall(
        r"\b(?:FIELD|STATE|KIND|ANSWER|SEEN|VERB)\.\w+|\bSEPARATOR\b|^\s*--", text, re.MULTILINE
    )


def test_names_stand_for_their_values() -> None:
    """By a point as by brackets; a table that is looked into by a name stays."""
    made = program(
        "#!lua\nlocal a = FIELD.run\nlocal b, c = KIND['repeat'], FIELD[name]\nreturn K.job .. SEPARATOR"
    )
    assert f"local a = {PLACE[Field.RUN] + 1}\nlocal b, c = 'repeat', FIELD[name]\n" in made
    assert "return K.job .. '\\31'" in made
    assert "local K = {job = KEYS[1] .. '/j/'}\nlocal FIELD = {['version'] = 1," in made


@pytest.mark.parametrize("text", ["return K.jobz", "return FIELD.runn", "return STATE.gone"])
def test_a_name_that_there_isnt_is_found_at_once(text: str) -> None:
    """Not when a rare branch comes to it."""
    with pytest.raises(KeyError):
        program(f"#!lua\n{text}")

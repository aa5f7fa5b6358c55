"""Bad input by the thousand: files, values and answers, mostly plausible, as hypothesis' strategies."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from random import Random
from typing import Any, NamedTuple

from hypothesis import strategies as st

BADGE = "696f0fd40772ad476ecf74ac"
FIELDS = ("earnEventDate", "earnEventDateISO", "earnExpiresOn", "earnExpiresOnISO")
STATUSES = (200, 200, 200, 200, 201, 201, 400, 401, 413, 422, 429, 500, 503)
ANSWERS_PER_DRAW = 40

_moments = st.datetimes(datetime(1890, 1, 1), datetime(2260, 1, 1))  # noqa: DTZ001 - written in many ways
_formats = st.sampled_from(
    [
        "%Y%m%d",
        "%d%m%Y",
        "%Y%m%d%H",
        "%Y%m%d%H%M",
        "%y%m%d%H%M%S",
        "%d%m%Y%H%M",
        "%Y%m%d%H%M%S",
        "%d%m%Y%H%M%S",
    ]
)
_offsets = st.sampled_from(
    ["Z", "+00:00", "+05:30", "-14:00", "+14:00", "+14:01", "+05:60", "+23:59", "", "+0100"]
)
_fractions = st.sampled_from(["", "", ".5", ",25", ".999999", ".999999999"])
_edges = st.sampled_from(
    [
        0,
        94_694_400,
        10**8,
        7_258_118_400,
        10**11,
        10**12,
        7_258_118_400_000,
        10**14,
        253_402_300_799,
        2**53,
        2**63,
    ]
)
_odd = st.sampled_from(
    [
        "",
        " ",
        "-0",
        "+5",
        "1e9",
        "1.7E+09",
        "1705828011.0",
        "9007199254740993.0",
        "007",
        "٣",
        "\u200b5",
        "NaN",
        "45992",
    ]
)


def _iso(parts: tuple[datetime, str, str]) -> str:
    at, fraction, offset = parts
    return f"{at:%Y-%m-%dT%H:%M:%S}{fraction}{offset}".replace("T24", "T00")


isos = st.tuples(_moments, _fractions, _offsets).map(_iso) | st.sampled_from(
    ["9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z", "2025-02-30T00:00:00Z", "2025-01-01T24:00:00Z"]
)
epochs = st.one_of(
    _moments.map(lambda at: str(int(at.replace(tzinfo=UTC).timestamp()))),
    _moments.map(lambda at: str(int(at.replace(tzinfo=UTC).timestamp() * 1000))),
    st.tuples(_moments, _formats).map(lambda both: both[0].strftime(both[1])),
    st.tuples(_edges, st.integers(-2, 2)).map(lambda both: str(sum(both))),
    st.integers(0, 10**20).map(str),
)
customers = st.one_of(
    st.integers(1, 2**63 - 1).map(str),
    epochs,
    _odd,
    st.integers(2**53 - 2, 2**53 + 2).map(lambda n: f"{n}.0"),
)
badges = st.sampled_from([BADGE, BADGE.upper(), "GOLD", "two words", "é", ""])


@st.composite
def rows(draw: st.DrawFn) -> dict[str, str]:
    """Draw a row: the text of each field that it has."""
    row = {"badgeMetaId": draw(badges), "customerId": draw(customers)}
    for field in FIELDS:
        if draw(st.integers(0, 2)) == 0:
            usual = isos if field.endswith("ISO") else epochs
            row[field] = draw(st.one_of(usual, usual, usual, _odd, isos, epochs))
    return row


def as_csv(items: list[dict[str, str]]) -> bytes:
    """Write rows as CSV; none of their texts needs a quote, but one with a comma."""
    names = ["badgeMetaId", "customerId", *FIELDS]
    cells = (
        ['"' + row.get(name, "") + '"' if "," in row.get(name, "") else row.get(name, "") for name in names]
        for row in items
    )
    return "".join(f"{','.join(line)}\n" for line in [names, *cells]).encode()


def as_object(row: dict[str, str]) -> str:
    """Write a row as JSON, what is a number in JSON as one."""
    return "{" + ", ".join(f"{json.dumps(name)}: {_value(name, text)}" for name, text in row.items()) + "}"


def _value(name: str, text: str) -> str:
    if name == "badgeMetaId" or name.endswith("ISO"):
        return json.dumps(text)
    try:
        json.loads(text, parse_constant=_refuse)
    except ValueError:
        return json.dumps(text)
    return text


def _refuse(constant: str) -> None:
    raise ValueError(constant)


_error = st.fixed_dictionaries(
    {"code": st.integers(0, 10**4) | st.text(max_size=5), "message": st.text(max_size=9)}
)
_anything: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=8,
)
_answer_row = st.fixed_dictionaries(
    {
        "data": _anything
        | st.fixed_dictionaries(
            {
                "badgeMetaId": st.sampled_from([BADGE, BADGE.upper(), "GOLD", None]) | _anything,
                "customerId": st.integers(1, 6) | st.sampled_from(["1", 1.0, None]) | _anything,
                "earnedBadgeId": st.none() | st.text(max_size=9) | _anything,
            },
            optional={
                "requestId": st.integers(0, 9).map(lambda n: f"d9e144be_{n}") | _anything,
                "expiresOn": st.floats() | _anything,
                "expiresOnISO": st.text(max_size=9) | _anything,
            },
        ),
        "errors": st.none() | st.lists(_error, max_size=2) | _error | _anything,
        "warnings": st.none() | _anything,
    }
)
_bodies = st.one_of(
    _answer_row.map(lambda row: json.dumps(row).encode()),
    _anything.map(lambda value: json.dumps(value).encode()),
    st.binary(max_size=60),
)


class Exchange(NamedTuple):
    """An answer, and how many jobs the request carried that it answers."""

    body: bytes
    status: int
    jobs: int


@st.composite
def exchanges(draw: st.DrawFn) -> list[Exchange]:
    """Draw some rows and values, and make many answers of them: drawing takes longer than trying."""
    rows, values = draw(st.lists(_answer_row, min_size=1, max_size=7)), draw(st.lists(_anything, max_size=3))
    bodies = draw(st.lists(_bodies, max_size=3))
    chance = Random(draw(st.integers(0, 2**32 - 1)))
    usual = [_issued(customer) for customer in range(1, 7)]
    made = [_body(chance, rows + usual, values) for _ in range(ANSWERS_PER_DRAW - len(bodies))]
    return [Exchange(body, chance.choice(STATUSES), chance.randint(1, 6)) for body in bodies + made]


def _issued(customer: int) -> dict[str, Any]:
    data = {"badgeMetaId": BADGE, "customerId": customer, "earnedBadgeId": f"e{customer}"}
    return {"data": data, "errors": None, "warnings": None}


def _body(chance: Random, rows: list[dict[str, Any]], values: list[Any]) -> bytes:
    """Take some rows in any order, put something of one into another, and damage what is sent, at times."""
    taken = [_other(chance, chance.choice(rows), rows, values) for _ in range(chance.randint(0, len(rows)))]
    body = json.dumps(taken).encode()
    if chance.random() < 0.15:
        at, cut = chance.randint(0, len(body)), chance.randint(0, 3)
        body = body[:at] + chance.choice([b"", b'"', b"{", b"[", b",", b"\xff", b"null"]) + body[at + cut :]
    return body[: chance.randint(0, len(body))] if chance.random() < 0.05 else body


def _other(chance: Random, row: dict[str, Any], rows: list[dict[str, Any]], values: list[Any]) -> Any:
    """Return a row, at times with another's values, with one too many or one too few, or no row at all."""
    if chance.random() < 0.05:
        return chance.choice([*values, None])
    if chance.random() < 0.3:
        row = row | {"errors": chance.choice(rows)["errors"]}
    if not isinstance(row["data"], dict):
        return row
    data = dict(row["data"])
    if data and chance.random() < 0.2:
        del data[chance.choice(sorted(data))]
    if chance.random() < 0.3:
        likely = [BADGE, 1, 2, "3", 4.0, "d9e144be", "", None, *values]
        data[chance.choice(["badgeMetaId", "customerId", "earnedBadgeId"])] = chance.choice(likely)
    return row | {"data": data}

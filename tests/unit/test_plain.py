"""Rows that are read many at once mean what they mean one by one."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from support import BADGE, OTHER_BADGE

from worker.domain.identity import content_id
from worker.domain.invalid import Invalid
from worker.domain.item import Source
from worker.domain.numbers import CellDate, NumberText
from worker.domain.org import Org
from worker.domain.parsing import read_badge, warnings_of
from worker.domain.plain import plain_rows
from worker.enqueue import EnqueueOptions, item_of, prepared
from worker.files.reader import read_rows

_EPOCHS = (
    *(
        1674292011,
        "1674292011",
        "1705828011",
        "0674292011",
        "7258118399",
        "7258118400",
        " 1674292011",
        "",
        None,
    ),
    *("1674292011000", "20261231", "1.674292e9", True, NumberText("1674292011"), -1674292011, "١٦٧٤٢٩٢٠١١"),
)
_ISOS = (
    *(
        "2023-01-21T09:06:51Z",
        "2024-01-21T10:06:51.999+01:00",
        "2024-01-21T10:06:51.5+0100",
        "2024-01-21T09:06Z",
    ),
    *("2026-02-30T00:00:00Z", "2024-01-21 09:06:51Z", " 2024-01-21T09:06:51Z", "2024-01-21T09:06:51+00"),
    *("1999-12-31T23:59:59Z", "2199-12-31T23:59:59Z", "2200-01-01T00:00:00Z", "9999-12-31T23:59:59Z"),
    *("1674292011", 1674292011, "", None, CellDate("2026-01-01T00:00:00"), "٢٠٢٤-01-21T09:06:51Z"),
)
_CUSTOMERS = (
    *(
        1,
        "1",
        "007",
        "0",
        0,
        -1,
        "-1",
        "500000001",
        2**63,
        str(2**63),
        "9" * 18,
        "9" * 19,
        "1.0",
        "C-1",
        True,
    ),
    *("", " 7", "\u0667", 5.0, NumberText("7")),
)
_BADGES = (BADGE, BADGE.upper(), OTHER_BADGE, "short", "#N/A", "6" * 25, "", None, 5)
_items = st.fixed_dictionaries(
    {"badgeMetaId": st.sampled_from(_BADGES), "customerId": st.sampled_from(_CUSTOMERS)},
    optional={
        "earnEventDate": st.sampled_from(_EPOCHS),
        "earnExpiresOn": st.sampled_from(_EPOCHS),
        "earnEventDateISO": st.sampled_from(_ISOS),
        "earnExpiresOnISO": st.sampled_from(_ISOS),
        "job_id": st.just("mine"),
        "org": st.just("default"),
    },
)
_plain = st.builds(
    lambda badge, customer, event, expiry: {
        "badgeMetaId": badge, "customerId": customer, "earnEventDate": event, "earnExpiresOn": expiry
    },
    st.sampled_from([BADGE, BADGE.upper(), OTHER_BADGE]),
    st.integers(1, 2**63) | st.integers(1, 2**63).map(str),
    st.integers(10**9, 8 * 10**9) | st.integers(10**9, 8 * 10**9).map(str),
    st.integers(10**9, 8 * 10**9) | st.integers(10**9, 8 * 10**9).map(str),
)  # fmt: skip


_zones = st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30)), timezone(timedelta(hours=-8))])
_written = st.builds(
    lambda at, zone: datetime.fromtimestamp(at, zone).isoformat(), st.floats(6e8, 8e9), _zones
)
_plain_iso = st.builds(
    lambda badge, customer, event, expiry: {
        "badgeMetaId": badge, "customerId": customer, "earnEventDateISO": event, "earnExpiresOnISO": expiry
    },
    st.sampled_from([BADGE, OTHER_BADGE]),
    st.integers(1, 10**6).map(str),
    st.sampled_from(_ISOS) | _written,
    st.sampled_from(_ISOS) | _written,
)  # fmt: skip


@given(
    st.lists(_items | _plain | _plain_iso, min_size=1, max_size=20), st.sampled_from(["default", "acme-2"])
)
def test_a_plain_row_is_good_has_nothing_odd_and_the_same_id(items: list[Any], org: str) -> None:
    """By every rule there is; what isn't plain is left to the general way."""
    rows = [Source(str(n), item) for n, item in enumerate(items)]
    its, options = Org(name=org, strict_dates=True), EnqueueOptions("r", "c")
    assert list(prepared(rows, its, options)) == [item_of(row, its, options) for row in rows]
    for item, plain in zip(items, plain_rows(org, rows), strict=True):
        if plain is None:
            continue
        taken = read_badge(item, org=org, strict_dates=True)
        assert not isinstance(taken, Invalid), (item, taken)
        assert taken.job_id is None
        assert warnings_of(item, taken.badge) == []
        assert plain.customer_id == taken.badge.customer_id
        assert plain.content == content_id(org, taken.badge)


def test_the_usual_rows_are_plain() -> None:
    """Of CSV and of JSON; not one with a problem or a warning of its own."""
    item = {"badgeMetaId": BADGE, "customerId": 7, "earnEventDate": 1674292011, "earnExpiresOn": 1705828011}
    text = {name: str(value) for name, value in item.items()}
    iso = {
        **{name: text[name] for name in ("badgeMetaId", "customerId")},
        "earnEventDateISO": "2023-01-21T10:06:51+01:00",
        "earnExpiresOnISO": "2024-01-21T09:06:51Z",
    }
    rows = [Source("1", item), Source("2", text), Source("3", text, warning="cut off"), Source("4", iso)]
    found = list(plain_rows("default", rows))
    assert found[0] == found[1] is not None
    assert found[2] is None
    assert found[3] is not None
    assert found[3].content == found[0].content


@given(st.lists(st.text("07 \t\"',;é\x85a", max_size=8), min_size=4, max_size=40))
def test_a_line_read_at_once_is_as_one_read_by_cells(cells: list[str]) -> None:
    """With a cell more that has no name, which sends every line the longer way, all items are the same."""
    lines = [cells[at : at + 4] for at in range(0, len(cells) - 3, 4)]
    names = ["badgeMetaId", "customerId", "earnEventDate", "earnExpiresOn"]

    def read(extra: str) -> list[Any]:
        body = "".join(",".join(line) + extra + "\n" for line in [names, *lines])
        rows = read_rows(io.BytesIO(body.encode()), name="f.csv")
        return [(row.row, row.item, row.problem and row.problem.reason) for row in rows]

    plain, longer = read(""), read(",")
    usual = [one for one in plain if one[2] is None and '"' not in str(one[1])]
    assert [one for one in usual if one not in longer] == []

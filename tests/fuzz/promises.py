"""What must hold whatever comes in, by a reading of dates and numbers that is not the program's."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from fractions import Fraction

from worker.domain.badge import Badge, BadgeIssue
from worker.domain.invalid import Invalid
from worker.domain.item import Source
from worker.domain.job import Job
from worker.domain.outcome import Issued, Reply
from worker.domain.parsing import parse_item, read_badge, warnings_of
from worker.errors import ConfigError, FileError
from worker.files.reader import read_rows
from worker.vendor.verdict import read_answer

_ISO = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d)(?::(\d\d)(?:[.,](\d+))?)?(?:Z|([+-])(\d\d):?(\d\d))", re.ASCII
)


def days_before(year: int, month: int, day: int) -> int:
    """Count the days from 1970 to a date, by leap years and months alone."""
    leaps = (year - 1) // 4 - (year - 1) // 100 + (year - 1) // 400
    is_leap = (year % 4 == 0 and year % 100 != 0) or year % 400 == 0
    months = [31, 29 if is_leap else 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
    assert 1 <= day <= months[month - 1], (year, month, day)
    return 365 * year + leaps + sum(months[: month - 1]) + day - 719528


FIRST, END = days_before(1973, 1, 1) * 86400, days_before(2200, 1, 1) * 86400


def instant_of(text: str, *, iso: bool) -> Fraction:
    """Read the instant that a text means, in seconds since 1970, exactly."""
    text = text.strip()
    if not iso:
        number = int(text.partition(".")[0])
        return Fraction(number) if number < 10**11 else Fraction(number, 1000)
    found = _ISO.fullmatch(text)
    assert found, text
    year, month, day, hour, minute = map(int, found.groups()[:5])
    assert hour < 24, text
    fraction = Fraction(int(found[7]), 10 ** len(found[7])) if found[7] else Fraction(0)
    offset = 0 if not found[8] else int(found[8] + "1") * (int(found[9]) * 3600 + int(found[10]) * 60)
    clock = hour * 3600 + minute * 60 + int(found[6] or 0)
    return days_before(year, month, day) * 86400 + clock - offset + fraction


def check_file(data: bytes, name: str) -> list[Source]:
    """Read a file; each row is a badge or has a reason, and nothing but our own errors is raised."""
    rows: list[Source] = []
    try:
        rows.extend(read_rows(io.BytesIO(data), name=name))
    except (FileError, ConfigError) as error:
        str(error).encode()
    numbers = [int(row.row) for row in rows]
    assert numbers == sorted(set(numbers))
    for row in rows:
        assert (row.item is None) == (row.problem is not None), row
        check_item(row.item) if row.problem is None else str(row.problem).encode()
    return rows


def check_item(item: object) -> BadgeIssue | Invalid:
    """Parse an item; it becomes a badge or a reason that can be shown."""
    parsed, taken = parse_item(item, org="default"), read_badge(item, org="default")
    assert taken == (parsed if isinstance(parsed, Invalid) else (parsed.badge, parsed.job_id))
    if isinstance(parsed, Invalid):
        assert parsed.reason
        assert all(fault.reason.encode() for fault in parsed.faults)
    else:
        warnings_of(item, parsed.badge)
    return parsed


def check_meaning(written: Mapping[str, str], badge: Badge) -> None:
    """Hold a badge that was taken against what was written: no id and no date is another one."""
    sent = badge.body("s")
    assert sent["badgeMetaId"] == written["badgeMetaId"].strip()
    assert Fraction(str(written["customerId"]).strip()) == sent["customerId"]
    for name, text in written.items():
        if name in {"badgeMetaId", "customerId"}:
            continue
        if not text.strip():
            assert name not in sent
            continue
        iso = name.endswith("ISO")
        meant = instant_of(text, iso=iso)
        if iso:
            assert instant_of(str(sent[name]), iso=True) == meant
        else:
            assert sent[name] == meant // 1
        assert FIRST <= meant < END or (name == "earnExpiresOnISO" and text.strip().startswith("9999")), text
    _check_identity(written, badge)


def _check_identity(written: Mapping[str, str], badge: Badge) -> None:
    """A date that is given in one way counts in whole seconds, cut."""
    *_, event, expiry = badge.content().split("\n")
    for name, counted in (("earnEventDate", event), ("earnExpiresOn", expiry)):
        given = {suffix: text for suffix in ("", "ISO") if (text := written.get(name + suffix, "").strip())}
        if len(given) == 1:
            ((suffix, text),) = given.items()
            assert counted == f"[{instant_of(text, iso=suffix == 'ISO') // 1}]"
        assert bool(given) == (counted != "[]")


def check_answer(body: bytes, status: int, jobs: Sequence[Job]) -> None:
    """Read an answer; each job has one outcome, and nothing counts as issued without an id in the answer."""
    verdict = read_answer(jobs, Reply(status, body, {}))
    assert len(verdict.outcomes) == len(jobs)
    for outcome in verdict.outcomes:
        if isinstance(outcome, Issued):
            assert outcome.earned_badge_id
            assert b"earnedBadgeId" in body

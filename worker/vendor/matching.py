"""Which row of an answer is which job's: only on evidence, never by position alone."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import count

import msgspec

from worker.domain.badge import one_case
from worker.domain.job import Job
from worker.domain.outcome import Deferred, Issued, Outcome, Unknown
from worker.vendor.rows import EXACT, TEXT_LENGTH, Row

_NAMES = {
    "badge": "badgeMetaId",
    "customer": "customerId",
    "earned": "earnedBadgeId",
    "request": "requestId",
    "issued": "issuedId",
    "expires": "expiresOn",
    "expires_iso": "expiresOnISO",
}


class _Said(msgspec.Struct, rename=_NAMES, gc=False):
    """What the vendor says of a badge that it issued."""

    badge: str
    customer: int
    earned: str
    request: str
    issued: str | None = None
    expires: float | None = None
    expires_iso: str | None = None


class _UsualRow(msgspec.Struct, gc=False):
    """A row of the usual answer: nothing but a badge that was issued."""

    data: _Said
    errors: None
    warnings: None


_USUAL = msgspec.json.Decoder(list[_UsualRow])


def match(jobs: Sequence[Job], rows: list[Row], request: str = "") -> tuple[Outcome, ...]:
    """Match rows to jobs: by position and content, then by content, then what is left over by number.

    Where rows carry the id of our ``request``, their positions are its, and others' rows tell nothing.
    """
    outcomes: dict[int, Outcome] = {}
    owners = [(one_case(job.badge.badge_meta_id), str(job.badge.customer_id)) for job in jobs]
    if _is_in_order(owners, rows):
        return tuple([row.outcome for row in rows])
    if takes_ours := any(row.request == request for row in rows if row.request):
        rows = [row for row in rows if row.request in ("", request)]
    loose = _match_by_position(owners, _once(rows), outcomes, takes_ours=takes_ours)
    loose = _match_by_content(owners, loose, outcomes)
    outcomes |= _left_over(owners, loose, outcomes)
    unmatched = Unknown("unmatched", "the answer has no row that is certainly this job's")
    return tuple(outcomes.get(n, unmatched) for n in range(len(jobs)))


def issued_in_order(jobs: Sequence[Job], body: bytes) -> tuple[Issued, ...] | None:
    """Read the usual answer in a tenth of the time: each row in its place, and its badge issued.

    What is anything but plain is left to ``rows_of`` and ``match``, which would decide the same here.
    """
    try:
        rows = _USUAL.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):  # another shape, or none
        return None
    said = [row.data for row in rows]
    if [(its.badge, its.customer) for its in said] != [job.badge[:2] for job in jobs]:
        return None
    if not all(map(str.endswith, [its.request for its in said], (f"_{n}" for n in count(1)))):
        return None
    texts = [
        text
        for its in said
        for text in (its.earned, its.issued, its.request, its.expires_iso)
        if text is not None
    ]
    numbers = [its.expires for its in said if its.expires is not None]
    if not (_are_plain(texts) and max(map(abs, numbers), default=0) < EXACT):
        return None
    return tuple([Issued(its.earned, its.issued, its.request, its.expires, its.expires_iso) for its in said])


def _are_plain(texts: list[str]) -> bool:
    together = "".join(texts)
    is_plain = together.isascii() and together.isprintable() and " " not in together
    return is_plain and all(texts) and max(map(len, texts), default=0) <= TEXT_LENGTH


def _is_in_order(owners: list[tuple[str, str]], rows: list[Row]) -> bool:
    """Say whether each row is, by position and content, that of the item in its place: the usual answer."""
    return len(owners) == len(rows) and all(
        row.position == n and row.owner == owner
        for n, (row, owner) in enumerate(zip(rows, owners, strict=True), 1)
    )


def _once(rows: list[Row]) -> list[Row]:
    """Drop repetitions of rows that have an identity: a position, or what was issued."""
    kept: dict[Row | int, Row] = {}
    for n, row in enumerate(rows):
        kept.setdefault(row if row.position or isinstance(row.outcome, Issued) else n, row)
    return list(kept.values())


def _match_by_position(
    owners: list[tuple[str, str]], rows: list[Row], outcomes: dict[int, Outcome], *, takes_ours: bool
) -> list[Row]:
    """Take rows whose requestId ends in the position of an item with their badge and customer.

    That it is the position is inferred. To tell items of the same badge and customer apart it is only
    trusted in an answer that bears it out: nowhere wrong, and right for all items, or for a unique one, or
    with the id of our request before it.
    """
    times = Counter(owners)
    placed: dict[int, list[Row]] = defaultdict(list)
    loose, trusted = [], True
    for row in rows:
        at = (row.position or 0) - 1
        if 0 <= at < len(owners) and row.owner == owners[at]:
            placed[at].append(row)
        else:
            loose.append(row)
            trusted = trusted and (row.position is None or row.owner not in times)
    borne_out = takes_ours or len(placed) == len(owners) or any(times[owners[at]] == 1 for at in placed)
    trusted = trusted and borne_out and all(len(candidates) == 1 for candidates in placed.values())
    for at, candidates in placed.items():
        if times[owners[at]] > 1 and not trusted:
            loose += candidates
        elif len({type(row.outcome) for row in candidates}) == 1:
            outcomes[at] = candidates[0].outcome
        else:
            outcomes[at] = Unknown("contradiction", "the answer has rows for it that contradict each other")
    return loose


def _match_by_content(
    owners: list[tuple[str, str]], rows: list[Row], outcomes: dict[int, Outcome]
) -> list[Row]:
    """Take rows by badge and customer, where there are as many rows as items and all went the same way."""
    waiting: dict[tuple[str, str], list[int]] = defaultdict(list)
    for n, owner in enumerate(owners):
        if n not in outcomes:
            waiting[owner].append(n)
    answered: dict[tuple[str, str] | None, list[Row]] = defaultdict(list)
    for row in rows:
        answered[row.owner].append(row)
    for owner, places in waiting.items():
        theirs = answered.get(owner, [])
        if len(theirs) == len(places) and len({type(row.outcome) for row in theirs}) == 1:
            outcomes.update((n, row.outcome) for n, row in zip(places, theirs, strict=True))
            del answered[owner]
    return [row for rows_of_one in answered.values() for row in rows_of_one]


def _left_over(
    owners: list[tuple[str, str]], rows: list[Row], outcomes: Mapping[int, Outcome]
) -> dict[int, Outcome]:
    """As many failed rows as items: none of these items was issued, whichever row is whose."""
    missing = [n for n in range(len(owners)) if n not in outcomes]
    errors = [row.error for row in rows]
    if len(rows) != len(missing) or None in errors:
        return {}
    room = Counter(owners[n] for n in missing)
    known = set(owners)
    named = Counter(row.owner for row in rows if row.owner in known)
    if any(times > room[owner] for owner, times in named.items()):
        return {}  # a row too many for one item is a row too few for another
    if len({row.outcome for row in rows}) == 1:
        return dict.fromkeys(missing, rows[0].outcome)
    codes = sorted({error[0] for error in errors if error})
    tried_again = Deferred(
        "unmatched", f"not issued; the answer doesn't say which of {', '.join(codes)} is its", True
    )
    return dict.fromkeys(missing, tried_again)

"""Which row of an answer is which job's: only on evidence, never by position alone."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any

from worker.domain.badge import Badge, one_case
from worker.domain.job import Job
from worker.domain.outcome import Deferred, Issued, Outcome, Unknown
from worker.vendor.rows import TEXT_LENGTH, Row, number_in

_SAID = itemgetter(
    *("badgeMetaId", "customerId", "earnedBadgeId", "issuedId", "requestId", "expiresOn", "expiresOnISO")
)
_NUMBERS = {int, float, type(None)}


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


def issued_in_order(jobs: Sequence[Job], body: Any) -> tuple[Issued, ...] | None:
    """Read the usual answer in a fifth of the time: each row in its place, and its badge issued.

    What is anything but plain is left to ``rows_of`` and ``match``, which would decide the same here.
    """
    if type(body) is not list or len(body) != len(jobs):
        return None
    try:
        return tuple(
            [
                _plainly_issued(row, job.badge, f"_{n}")
                for n, (row, job) in enumerate(zip(body, jobs, strict=True), 1)
            ]
        )
    except (AttributeError, KeyError, TypeError, ValueError):  # another shape
        return None


def _plainly_issued(row: Mapping[str, Any], badge: Badge, end: str) -> Issued:
    """Return what was issued, or raise anything."""
    name, customer, earned, its_id, request, expires, expires_iso = _SAID(row["data"])
    if name != badge.badge_meta_id or type(customer) is not int or customer != badge.customer_id:
        raise ValueError(name, customer)
    texts = [text for text in (earned, its_id, request, expires_iso) if text is not None]
    together = "".join(texts)  # which takes nothing but texts
    is_plain = together.isascii() and together.isprintable() and " " not in together
    if not is_plain or not all(texts) or max(map(len, texts)) > TEXT_LENGTH or type(expires) not in _NUMBERS:
        raise ValueError(texts)
    if not (earned and request.endswith(end)) or row["errors"] is not None or row["warnings"] is not None:
        raise ValueError(row)
    return Issued(earned, its_id, request, number_in(expires), expires_iso)


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

"""Asking the vendor which badges of a file its org has, before the first row goes out (``--check-badges``).

Each distinct badgeMetaId costs one call, paid from the org's limit, with the customer of its first row. Only
the vendor's plain "no" makes a badge unknown; whatever else it says leaves it open.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from worker.domain.badge import one_case
from worker.domain.check import CheckedBadge
from worker.domain.org import Org
from worker.errors import ConfigError
from worker.vendor.lookups import Lookups, Unanswered

AT_ONCE = 4  # an answer takes longer than the limit's pace

Move = Callable[[int, int], None]


@dataclass(slots=True)
class AskedBadges:
    """The badges of a file, and what the vendor says of each; ``why`` it says nothing of those left open."""

    badges: tuple[CheckedBadge, ...]
    why: list[str] = field(default_factory=list)

    @property
    def unknown(self) -> list[CheckedBadge]:
        """Those that the org hasn't."""
        return [one for one in self.badges if one.known is False]

    @property
    def rows(self) -> int:
        """How many rows name one that the org hasn't."""
        return sum(one.rows for one in self.unknown)

    @property
    def open(self) -> int:
        """How many couldn't be told of."""
        return sum(one.known is None for one in self.badges)


def ask_badges(
    lookups: Lookups,
    org: Org,
    badges: Sequence[CheckedBadge],
    customers: Mapping[str, int],
    *,
    on_progress: Move = lambda _done, _total: None,
) -> AskedBadges:
    """Ask once for each badge with its customer; after an answer that won't change nothing more is asked.

    Raises:
        ConfigError: the org has no base URL.
    """
    if not org.api_base_url:
        raise ConfigError(f"--check-badges asks the vendor, and org {org.name} has no API_BASE_URL")
    found: dict[str, bool | Unanswered] = {}
    stopped: list[Unanswered] = []

    def ask(badge: str, customer: int) -> bool | Unanswered:
        answer = stopped[0] if stopped else lookups.is_known(org, badge, customer)
        if isinstance(answer, Unanswered) and answer.lasting:
            stopped.append(answer)
        return answer

    with ThreadPoolExecutor(AT_ONCE, "badge") as pool:
        answers = pool.map(ask, customers, customers.values())
        for done, (badge, answer) in enumerate(zip(customers, answers, strict=True), 1):
            found[badge] = answer
            on_progress(done, len(customers))
    why = dict.fromkeys(answer.why for answer in found.values() if isinstance(answer, Unanswered))
    return AskedBadges(tuple(_with(one, found) for one in badges), list(why))


def _with(badge: CheckedBadge, found: Mapping[str, bool | Unanswered]) -> CheckedBadge:
    answer = found.get(one_case(badge.badgeMetaId)) if badge.badgeMetaId else None
    return replace(badge, known=answer) if isinstance(answer, bool) else badge

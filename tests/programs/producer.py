"""A service that hands in 1,500 badges, one of them twice, and some wrong ones; prints what it was told."""

from __future__ import annotations

from worker import BadgeIssue, BadgeQueue

BADGE = "696f0fd40772ad476ecf74ac"


def _item(customer: object) -> dict[str, object]:
    return {"badgeMetaId": BADGE, "customerId": customer}


with BadgeQueue.from_env() as queue:
    items = [_item(n) for n in range(1, 1501)]
    done = queue.enqueue([*items, items[0], {"customerId": 5}], run="python")
    print(done.run, done.accepted, done.duplicates, done.invalid)
    print(done.noted[0].field, done.noted[0].reason)
    issues = [BadgeIssue(badge_meta_id=BADGE, customer_id=n) for n in (9, 5000)]
    more = queue.enqueue(issues)
    print(more.accepted, more.duplicates, more.invalid)
    unchecked = BadgeIssue(badge_meta_id=BADGE, customer_id=1).model_copy(update={"customer_id": "abc"})
    odd = queue.enqueue([_item(10**5000), _item(5001), unchecked])
    print(odd.accepted, odd.duplicates, odd.invalid)

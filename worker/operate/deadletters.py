"""What a person does about dead letters but replaying them: discard them, or say what became of one in doubt.

Which dead letters there are is the work of ``deadlist.py``, who did what that of ``audit.py``; replays are in
``replaying.py``, a correction of a job is in ``mending.py``.
"""

from __future__ import annotations

from dataclasses import replace

from worker.domain.batch import Replay
from worker.domain.job import DeadKind
from worker.domain.org import Org
from worker.errors import NotAllowed
from worker.operate import deadlist, groupwise
from worker.operate.deadlist import Filter
from worker.operate.operator import Move, Operator
from worker.operate.replaying import why_skipped
from worker.store import audit


def discard_all(
    operator: Operator,
    which: Filter,
    *,
    action: str = "",
    on_progress: Move = lambda _looked_at, _total: None,
) -> int:
    """Take the dead letters that fit off the list for good, and return how many.

    Their records stay, so that importing them again can't issue them, for as long as results are kept: for
    an org that isn't configured any more, as long as those of the default one. ``action`` is its id in the
    audit trail, if the caller wants to know it beforehand.

    Raises:
        Ambiguous: it is about a job that several orgs have.
    """
    action = action or audit.action_id(operator.queue, "discard")
    reports, discarded, looked_at = operator.reports, 0, 0
    total = deadlist.size(reports, which)
    for org in reports.orgs_meant(which):
        for seen, done in groupwise.discard(operator, org, replace(which, org=org), action, which.as_json()):
            looked_at, discarded = looked_at + seen, discarded + done
            on_progress(min(looked_at, total), total)
    on_progress(total, total)
    return discarded


def resolve(operator: Operator, org: Org, job_id: str, *, issued: bool) -> bool:
    """Say what became of a job in doubt: issued after all, or not, and then it is queued again.

    Answers whether it was in doubt.

    Raises:
        NotAllowed: it would be queued again in a run that is only half cancelled.
    """
    action, queue = audit.action_id(operator.queue, "resolve"), operator.queue
    if deadlist.died_at_ms(operator.reports, org.name, DeadKind.IN_DOUBT, job_id) is None:
        return False
    which = {"job": job_id, "found": "issued" if issued else "not issued"}
    operator.begin(org.name, action, which)
    if issued:
        return queue.resolve(org, [job_id], call=queue.new_id(), action=action) == 1
    done = queue.replay(org, run=action, items=[Replay(job_id)], call=queue.new_id())
    if why := why_skipped(org.name, done):
        raise NotAllowed(why)
    return bool(done["replayed"] == 1)

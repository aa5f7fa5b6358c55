"""The shapes of what ``--json`` prints, one for each command: the source of the JSON Schemas.

A key may be added to a shape, and none is ever removed, renamed or given another type. What is a dataclass
elsewhere is taken from there. A test holds each against what the command really prints.
"""

from __future__ import annotations

from typing import (
    Any,
    Literal,
    NotRequired,  # Python 3.11's own tells Pydantic too little
)

from pydantic import TypeAdapter
from typing_extensions import TypedDict

from worker.domain.check import Check, CheckedBadge
from worker.domain.item import Warned
from worker.operate.deadlist import Group
from worker.operate.following import Following
from worker.operate.numbers import RunShown
from worker.operate.progress import RunProgress
from worker.operate.standstill import Standstill
from worker.store.audit import Entry


class Imported(TypedDict):
    """What ``badges import`` accepted; ``followed`` is the run at its end, with ``--follow``.

    ``badges`` are those of the file, with ``--check-badges``.
    """

    run: str
    accepted: int
    duplicates: int
    invalid: int
    warnings: list[Warned]
    near_duplicates: int
    held: int
    badges: NotRequired[list[CheckedBadge]]
    followed: NotRequired[RunProgress | None]


class Error(TypedDict):
    """Why a job isn't issued."""

    kind: str | None
    code: str
    message: str | None


class Result(TypedDict):
    """A job, as ``badges results`` and ``dead list`` print it; ``row`` is that of its file, if any."""

    job_id: str
    run: str | None
    org: str
    badgeMetaId: Any  # of an invalid row the raw value, as of the other fields of the input
    customerId: Any
    state: str
    attempts: int
    earnedBadgeId: str | None
    issuedId: str | None
    requestId: str | None
    expiresOn: float | None
    expiresOnISO: str | None
    warnings: list[str]
    error: Error | None
    enqueued_at: str | None
    finished_at: str | None
    row: int | None
    reason: str | None
    earnEventDate: Any
    earnEventDateISO: Any
    earnExpiresOn: Any
    earnExpiresOnISO: Any
    raw: str | None
    sent_request_id: str | None
    answered_request_id: str | None
    columns: NotRequired[dict[str, str]]
    undone_at: NotRequired[str | None]
    undone_by: NotRequired[str | None]
    undone_note: NotRequired[str | None]


class Found(Result):
    """A job that was found; of one without a record, ``certain`` says if it surely is one."""

    certain: bool


class Attempt(TypedDict):
    """A call that issued nothing."""

    at: str | None
    batch: str
    status: str
    code: str
    request: str | None  # the vendor's id of it
    sent_request_id: str | None  # ours


class Job(Result):
    """A job with all that is known of it; ``came_from`` is its row, or the call and the place in it."""

    came_from: str | None
    batch: str | None
    replayed_as: str | None
    replay_of: str | None
    second_earnedBadgeId: str | None
    history: list[Attempt]


class Replay(TypedDict):
    """What ``badges dead replay`` did, or with ``dry_run`` would do."""

    replay: str | None
    run: str | None
    replayed: int
    duplicates: int
    skipped: int
    problem: str | None
    unconfigured: dict[str, int]
    left_out: dict[str, int]
    dry_run: bool
    followed: NotRequired[Following]


class Discarded(TypedDict):
    """How many dead letters were discarded, or with ``dry_run`` would be, by kind."""

    discarded: int
    kinds: NotRequired[dict[str, int]]
    dry_run: NotRequired[bool]


class RunCancelled(TypedDict):
    """How many jobs of a run were cancelled, or with ``dry_run`` would be."""

    run: str
    cancelled: int
    dry_run: NotRequired[bool]


class RunStarted(TypedDict):
    """How many jobs of a run that was held are on their way."""

    run: str
    started: int


class Undone(TypedDict):
    """What an undo takes back, and as which run; with ``dry_run`` what it would.

    ``begun_before`` are those that an earlier undo has in hand, maybe as dead letters.
    """

    run: str | None
    jobs: int
    calls: int
    seconds: int | None
    expired: int
    issued_twice: int
    without_id: int
    undone_before: int
    begun_before: int
    dry_run: NotRequired[bool]
    followed: NotRequired[Following]


class CustomerForgotten(TypedDict):
    """What was kept of a customer, and what was done; with ``dry_run`` nothing was.

    ``records`` are jobs by state; ``remembered`` counts those without a result as well. What is in flight or
    in doubt holds everything back.
    """

    customer: int
    records: dict[str, int]
    raw_rows: int
    remembered: int
    in_flight: int
    in_doubt: int
    cancelled: int
    forgotten: int
    out_of_reach: list[str]
    dry_run: NotRequired[bool]


class ReplayCancelled(TypedDict):
    """How many jobs of a replay were cancelled, or with ``dry_run`` would be."""

    replay: str
    cancelled: int
    dry_run: NotRequired[bool]


class Resolved(TypedDict):
    """What a job in doubt is now."""

    job_id: str
    org: str
    state: Literal["issued", "queued"]
    dry_run: NotRequired[bool]


class FileFault(TypedDict):
    """A row of a file that says nothing that could be acted on."""

    row: int
    reason: str


class ResolvedByFile(TypedDict):
    """What a file says of jobs in doubt, and what was done about them; nothing with ``dry_run``."""

    issued: int
    not_issued: int
    unknown: int
    refused: int
    faults: list[FileFault]
    queued: int
    resolved: int
    dry_run: bool


class DoubtsChecked(TypedDict):
    """What the vendor shows of jobs in doubt, and what was done about them; nothing with ``dry_run``."""

    jobs: int
    not_issued: int
    issued: int
    unclear: int
    waiting: int
    why: dict[str, int]
    look_again_at: str | None
    calls: int
    queued: int
    resolved: int
    dry_run: bool


class GateChange(TypedDict):
    """How an org's gate is now, and how it was."""

    org: str
    now: Literal["open", "paused"]
    was: str


class GateState(TypedDict):
    """Whether an org's batches may start, and why not."""

    state: Literal["open", "closed", "probing", "paused"]
    open: bool
    why: str | None
    reason: str | None
    since: str | None
    closed_until: str | None
    breaker: Literal["ok", "tripped"]
    rate_per_minute: float | None
    batch_size: int | None


class LimitUse(TypedDict):
    """How much of a limit was used in its last window."""

    limit: str
    sent: int


class OrgStatus(TypedDict):
    """What an org is doing."""

    org: str
    configured: bool
    queued: int
    isolated: int
    held: int  # jobs of runs that aren't to be sent yet
    oldest_s: float | None
    retrying: int
    in_flight: int
    dead: dict[str, int]
    missing_badges: int
    to_repeat: int  # calls in doubt that are sent again as they were
    to_undo: int  # badges that are to be taken back
    undo_retrying: int  # of these, being called now, or to be called again
    gate: GateState
    standstill: Standstill | None
    sent_last_minute: int | None
    limit_per_minute: float | None
    limits: list[LimitUse]
    differs: Any  # in what workers differ
    server: Any  # what is wrong with the server


class Finding(TypedDict):
    """What ``badges doctor`` found."""

    check: str
    result: Literal["ok", "warn", "fail"]
    detail: str
    cure: str
    org: NotRequired[str]


class ProfileShown(TypedDict):
    """How files with these columns are read; ``columns`` has the field of each, "" for an ignored one."""

    name: str
    org: str
    columns: dict[str, str]
    set: dict[str, str]
    date_format: str | None
    timezone: str | None
    mark: str  # changes with what decides which badge a row is
    changed: bool  # since it was last used
    made_by: str
    made_at: str | None
    last_used_at: str | None
    dry_run: NotRequired[bool]


class ProfileRemoved(TypedDict):
    """A profile that is forgotten, or with ``dry_run`` would be."""

    name: str
    org: str
    removed: bool
    dry_run: NotRequired[bool]


SHAPES: dict[str, Any] = {
    "import": Imported,
    "import --dry-run": Check,
    "run list": list[RunProgress],
    "run show": RunShown,
    "run follow": RunProgress,
    "run cancel": RunCancelled,
    "run start": RunStarted,
    "run undo": Undone,
    "job undo": Undone,
    "results": list[Result],
    "find": list[Found],
    "forget": CustomerForgotten,
    "job show": Job,
    "dead list": list[Result],
    "dead groups": list[Group],
    "dead replay": Replay,
    "dead follow": Following,
    "dead cancel": ReplayCancelled,
    "dead discard": Discarded,
    "dead resolve": Resolved | ResolvedByFile,
    "dead check": DoubtsChecked,
    "status": list[OrgStatus],
    "doctor": list[Finding],
    "pause": GateChange,
    "resume": GateChange,
    "audit": list[Entry],
    "profiles list": list[ProfileShown],
    "profiles show": ProfileShown,
    "profiles load": ProfileShown,
    "profiles remove": ProfileRemoved,
}


def schema(command: str) -> dict[str, Any]:
    """Return the JSON Schema of what a command prints with ``--json``; ``--jsonl`` prints its items."""
    return TypeAdapter(SHAPES[command]).json_schema()

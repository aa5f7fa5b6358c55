"""Every Redis key, in one place.

All keys of an org share the hash slot ``{badges:<org>}``, so that one script may touch them all on a
Redis Cluster as well. A few stand outside, in a slot of their own: they belong to no org.

    per org
    j/<id>        string the record: the only truth about a job (``record.py``), but for what "sending" says
    queue         list   ids that are ready, oldest first
    urgent        list   the same for urgent jobs, which overtake the queue
    isolate       list   "tag width id" of jobs whose batch was refused as a whole
    retry         zset   id -> due at, ms
    batch/<id>    string its list: slot, us, and number in the ring; then the id of each job
    sending       hash   id -> the batch in flight that carries it: the inverse of these lists
    request/<batch> string of one in flight, where the same request may be sent again (IN_DOUBT=same_request):
                  what it was sent by, and when first, ms
    again/<request> list  one in doubt: the same, how often it was sent, and the ids of its jobs
    agains        zset   such a request -> when it is to be sent again as it was, ms
    busy          hash   customerId -> the batch in flight that carries its jobs
    later/<run>   list   ids of a run that isn't to be sent yet, in the order they came
    starts        zset   such a run -> when it is to be sent, ms; inf: when somebody starts it
    leases        zset   batch -> when its holder is given up, ms
    inflight      zset   batch -> when its call is over at the latest, ms
    gate          hash   closed_until, why, since, reason, probing, what was learned, its clock; paused: why,
                  with paused_since and pause_reason, beside those of what was the matter before;
                  trouble: when, ms, and why a worker couldn't begin to send, until one can;
                  limiter: when, ms, and what nginx's limiter answered; took: "calls mean" of the last, ms
    ring          string of the last sends: when, us, and how many items before it, sixteen digits each
    groups        hash   number of a group of dead letters -> its kind, code and badge
    group_numbers hash   the inverse; under "" the last number
    dead/<group>  zset   id -> died at, ms
    checks        zset   id in doubt -> when to ask the vendor about it, ms (IN_DOUBT=check)
    revokes       zset   id of a job that takes a badge back -> when it is to be tried next, ms; 0: now
    revoker       string "worker's id, job's id, until when" of the call that takes one back now,
                  or "- - until when" none may be made; ms
    missing       zset   a badgeMetaId that the vendor doesn't know -> until when that is believed, ms
    m/<abc>       zset   what was accepted, for good: the rest of the ids that begin so, all with score 0
    remembered    string how many these are
    queued        string how many jobs are queued, of all runs: what their counters say, together
    badges        set    badges that the org has, or had, jobs of, in one case; some 10,000 at most
    u/<abc>       zset   in the same way, ids of what was issued and revoked since
    reader        string "name since" of who reads what has ended, if anybody does; ms (``outbox.py``)
    outbox        list   "id how at" of what has ended since; ms: ``Ending``
    outbox_read   string how many entries of it were acknowledged before
    discarded     list   "when they expire, ms; ids" of many that were discarded at once: their records
                  are to expire yet, and they to be forgotten (``expire_discarded.lua``)
    run/<run>     hash   counters and times of a run; "cancelled": the first act that did;
                  "from_...": its source; "undoes": 1 where its jobs take badges back
    jobs/<run>    list   ids of a run, in the order they came; or those that a replay took up again
    runs          zset   run -> started at, ms
    ended         zset   a run that needs nobody any more -> when it is forgotten, ms
    audit/<id>    hash   what somebody did: at, by, action, which, note, count (``audit.py``)
    audits        zset   id of such an entry -> at, ms
    call/<id>     string what a call answered, for a while: a repeated call gets the same; task-<id>: who took
                  that message of an operator
    intake/<id>   string of an Idempotency-Key, for a day: the hash of its body
    rate/<key>    string calls that an API key made in a window of the intake's own limit
    staged/<id>   hash   a file that was uploaded to the console, and how far its import is (``staged.py``)
    uploads       zset   id of such a file -> uploaded at, ms
    stats         hash   lifetime counters: requests, items, outcomes
    token         hash   the OAuth token that all processes share
    profiles      hash   name -> JSON: how files with these columns are read (``operate/profiles.py``)

    outside
    {badges}/schema string the version of the structures (``Store.refuse_other_versions``)
    {badges}/wake  zset  org -> when to look at it next, ms: a hint, not a truth
    {badges}/bell  list  one element when the earliest hint moved ahead
    {badges}/asked hash  org -> since when a message for it waits to be begun, see ``take_due.lua``
    {badges}/begun/<id>  string the org that a message began, for a while: a repeated call gets the same
    {badges}/orgs  set   every org that ever had a job
    {badges}/sweep string held by the worker that looks for lost hints, for some seconds
    {badges}/seats zset  "org worker id" of deliveries going on -> until when at the latest, ms
    {badges}/pool  zset  "worker places" -> until when it is believed alive, ms
    {badges}/workers hash worker -> JSON: the settings that it goes by, and when it said so
    {badges}/cut_off hash worker -> "until when, reason" that it can't read its messages; ms
    {badges}/refused hash message, enqueue -> how many messages were refused
    {badges}/own   zset  org with a worker of its own -> until when that is believed alive, ms

Version 1 of this program had other names for all of these: ``{badges}:orgs`` tells that its data are there.
"""

from __future__ import annotations

_PREFIXED = (
    "job",
    "batch",
    "dead",
    "run",
    "jobs",
    "call",
    "audit",
    "intake",
    "rate",
    "memory",
    "staged",
    "undone",
    "request",
    "again",
    "later",
)
_MANY = ("job", "memory", "undone")  # of which there are millions: one letter is enough
_PLAIN = (
    "queue",
    "revokes",
    "revoker",
    "urgent",
    "isolate",
    "retry",
    "leases",
    "inflight",
    "busy",
    "gate",
    "ring",
    "runs",
    "ended",
    "stats",
    "token",
    "missing",
    "checks",
    "audits",
    "sending",
    "groups",
    "group_numbers",
    "remembered",
    "queued",
    "uploads",
    "badges",
    "reader",
    "outbox",
    "outbox_read",
    "discarded",
    "profiles",
    "agains",
    "starts",
)

STRUCTURES = "{badges}/schema"
VERSION_1 = "{badges}:orgs"
WAKE = "{badges}/wake"
BELL = "{badges}/bell"
ASKED = "{badges}/asked"
BEGUN = "{badges}/begun/"
ORGS = "{badges}/orgs"
SWEEP = "{badges}/sweep"
SEATS = "{badges}/seats"
POOL = "{badges}/pool"
OWN = "{badges}/own"
REFUSED = "{badges}/refused"
WORKERS = "{badges}/workers"
CUT_OFF = "{badges}/cut_off"


def key_prefix(org: str) -> str:
    """Return what every key of an org begins with."""
    return f"{{badges:{org}}}"


def key(org: str, name: str, of: str = "") -> str:
    """Return one key of an org, such as ``key("default", "job", "abc")``."""
    return key_prefix(org) + suffix(name) + of


def suffix(name: str) -> str:
    """Return what a kind of key has behind the prefix of its org."""
    if name in _PREFIXED:
        return f"/{name[0] if name in _MANY else name}/"
    if name in _PLAIN:
        return f"/{name}"
    raise KeyError(name)

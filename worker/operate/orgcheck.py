"""The doctor's look at one org: its settings, gate and rate, and the vendor that it leads to.

The vendor is really called, with the org's credentials, by a read that changes nothing; it is paid from
the org's limit. What else the doctor looks at is in ``doctor.py``.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from worker.domain.batch import Wait, Why
from worker.domain.job import DeadKind
from worker.domain.org import DEFAULT_ORG, Org, is_loopback
from worker.domain.outcome import NoReply, Reply, Signal
from worker.domain.text import counted
from worker.errors import BadgesError
from worker.operate.standstill import Reason, Standstill, unreachable
from worker.operate.status import OrgState
from worker.server.health import Finding
from worker.store.queue import Queue
from worker.vendor.auth import Authenticator, AuthFailed, wait_for_slot
from worker.vendor.client import TOO_LATE, VendorClient
from worker.vendor.codes import meanings_of, own_meanings, taken_on_trust
from worker.vendor.verdict import read_answer

# doc: reads what a customer earned; nobody has this number, and an answer of any kind will do.
READ_PATH = "/api_gateway/v1/badges/customer/0?badgeType=EARNED"
ANSWER_WITHIN_S = 10.0
VENDOR_SKEW_S = 5.0  # its Date header has whole seconds, and travelled


def is_local(url: str) -> bool:
    """Say whether what travels to this URL stays on this machine."""
    parts = urlsplit(url)
    return (
        "unix" in parts.scheme
        or "socket" in parts.scheme
        or not parts.hostname
        or is_loopback(parts.hostname)
    )


def skew(check: str, whose: str, skew_s: float, most_s: float, org: str | None = None) -> Finding:
    """Judge how far two clocks are apart."""
    if abs(skew_s) <= most_s:
        return Finding(check, "ok", f"{whose} and this machine agree within {most_s:g} s", org=org)
    detail = f"{whose} is {abs(skew_s):,.1f} s {'ahead' if skew_s > 0 else 'behind'} of this machine"
    return Finding(check, "warn", detail, "let all machines follow the same time server (NTP)", org)


def check_settings(org: Org, *, alone: bool) -> Iterator[Finding]:
    """Look at what is configured; ``alone`` if there is no other org."""
    if not org.api_base_url:
        unused = org.name == DEFAULT_ORG and not alone
        yield Finding(
            "settings",
            "ok" if unused else "fail",
            "no base URL: not used" if unused else "no base URL: nothing can be sent",
            "" if unused else f"set {_name(org, 'API_BASE_URL')} to the vendor's host",
            org.name,
        )
        return
    found = []
    if org.in_doubt == "resend":
        found.append(
            ("IN_DOUBT=resend may issue a badge twice after every time-out", "set it to park, or check")
        )
    if org.in_doubt == "same_request":
        does = "gives its first answer again" if org.request_ids == "honours" else "refuses it with 809"
        detail = (
            f"IN_DOUBT=same_request: on your word (REQUEST_IDS={org.request_ids}) the vendor {does} when it "
            "sees a request id twice; if it doesn't, badges are issued twice"
        )
        found.append((detail, "ask the vendor; if it is not so, set IN_DOUBT to park"))
    if org.auth == "none" and not is_local(org.api_base_url):
        found.append(("no credentials are configured", f"set {_name(org, 'AUTH')} to basic or oauth"))
    if org.auth == "basic" and org.basic_token and org.basic_password:
        detail = "BASIC_TOKEN is sent, and BASIC_USERNAME and BASIC_PASSWORD are not"
        found.append((detail, f"unset {_name(org, 'BASIC_TOKEN')}, or the password"))
    for detail, cure in found:
        yield Finding("settings", "warn", detail, cure, org.name)
    if not found:
        yield Finding("settings", "ok", f"{org.api_method} {org.api_base_url}{org.api_path}", org=org.name)
    yield from _answers(org)


def _answers(org: Org) -> Iterator[Finding]:
    """Say what the settings make of answers, and what of it rests on somebody's word."""
    if not (own := own_meanings(org)):
        return
    detail = f"read otherwise than built in: {', '.join(own)}"
    if trusted := taken_on_trust(org):
        detail += f"; on your word alone, nothing was applied when the vendor says so: {', '.join(trusted)}"
        cure = "be sure of it: a badge that was issued all the same is issued twice"
        yield Finding("answers", "warn", detail, cure, org.name)
    else:
        yield Finding("answers", "ok", detail, org=org.name)


def _limiter(state: OrgState, org: Org) -> Finding | None:
    """Recognise nginx's limiter, which by default answers a bare 503 to what comes too fast."""
    refused = state.stats.get("status:503", 0)
    taken = sum(state.stats.get(f"status:{status}", 0) for status in (200, 201))
    if not state.gate.limiter or not refused or not taken:
        return None
    if dict(org.statuses).get(503) == Signal.THROTTLED:
        return None
    detail = (
        f"{counted(refused, 'answer')} of a bare 503 by nginx, beside {counted(taken, 'call')} taken: so "
        "answers its limiter (limit_req) when calls come too fast, and then nothing was applied"
    )
    status = "STATUS_503=throttled" if org.name == DEFAULT_ORG else '503 = "throttled" in statuses'
    cure = f"ask the vendor; if it is so, set {_name(org, status)}, and a lower {_name(org, 'RATE_LIMIT')}"
    return Finding("limiter", "warn", detail, cure, org.name)


def _name(org: Org, *settings: str) -> str:
    if org.name == DEFAULT_ORG:
        return " and ".join(f"BADGES_{setting}" for setting in settings)
    return f"{' and '.join(settings).lower()} of [{org.name}] in ORGS_FILE"


def check_org(state: OrgState, queue: Queue, vendor: VendorClient) -> Iterator[Finding]:
    """Look at the org's jobs in doubt, its gate and rate, and call its vendor.

    Of an org that has nothing to send, a call that goes well is the probe that opens the gate after trouble.
    """
    if doubts := state.dead[DeadKind.IN_DOUBT]:
        detail = f"{counted(doubts, 'job')} in doubt: the vendor may or may not have issued them"
        ask = f"ask the vendor about all of them: badges dead check --org {state.org}"
        cure = f"{ask}; or, by what its support or an export says: badges dead resolve --from FILE"
        yield Finding("dead letters", "warn", detail, cure, state.org)
    if state.settings is None:
        if waiting := state.queued + state.isolated + state.retrying:
            wait = "waits" if waiting == 1 else "wait"
            detail = f"{counted(waiting, 'job')} {wait} for an org that isn't configured"
            yield Finding("gate", "warn", detail, "put it back into BADGES_ORGS_FILE", state.org)
        return
    if not state.settings.api_base_url:
        yield _gate(state, state.settings, opened=False)
        return
    quick_s = min(state.settings.http_timeout_s, ANSWER_WITHIN_S)
    opened, found = False, []
    try:
        found = list(_vendor(state.settings.model_copy(update={"http_timeout_s": quick_s}), queue, vendor))
        well = any(finding.check == "vendor" and finding.result == "ok" for finding in found)
        opened = well and queue.probed(state.org)
    except BadgesError as error:
        found.append(Finding("vendor", "warn", f"not asked: {error}", "see Redis", state.org))
    yield _gate(state, state.settings, opened=opened)
    yield _rate(state, state.settings)
    if limiter := _limiter(state, state.settings):
        yield limiter
    yield from found


def _gate(state: OrgState, settings: Org, *, opened: bool) -> Finding:
    gate, org, held = state.gate, state.org, state.standstill
    if opened:
        return Finding(
            "gate", "ok", "open: nothing waits, and this call to the vendor was the probe", org=org
        )
    if gate.state == "paused":
        detail = held.sentence if held else "paused"
        return Finding("gate", "warn", f"{detail}; since {gate.since}", _pause_cure(settings, gate.why), org)
    if held:
        return Finding("gate", "warn", f"nothing moves: {held.sentence}", _held_cure(settings, held), org)
    if gate.state != "open":
        detail = f"{gate.state} since {gate.since}: {gate.why or 'the last calls failed'}; nothing waits"
        return Finding("gate", "warn", detail, "opens by itself once the vendor answers", org)
    if state.missing_badges:
        many = state.missing_badges
        badges = "1 badgeMetaId is" if many == 1 else f"{many:,} badgeMetaIds are"
        detail = f"open; {badges} unknown to the vendor"
        return Finding("gate", "warn", detail, "see: badges dead groups --kind rejected", org)
    return Finding("gate", "ok", "open", org=org)


def _pause_cure(org: Org, why: str | None) -> str:
    resume = f"badges resume --org {org.name}"
    match why:
        case "auth":
            return _credentials_cure(org)
        case "config":
            what = f"check {_name(org, 'API_BASE_URL', 'API_PATH', 'API_METHOD')}"
            test = f"{resume} (that is the test: it pauses again if it is still wrong)"
            return f"{what}, or cancel the run of a wrong file, then: {test}"
    return f"go on with: {resume}"


def _held_cure(org: Org, held: Standstill) -> str:
    match held.reason:
        case Reason.TLS | Reason.PROXY | Reason.DNS | Reason.UNREACHABLE:
            return _reach_cure(org, held.reason)
        case Reason.TOKEN:
            return _credentials_cure(org)
        case Reason.THROTTLED | Reason.IN_DOUBT | Reason.LIMIT:
            return "goes on by itself"
    return "see the other findings"


def _rate(state: OrgState, org: Org) -> Finding:
    """Compare the limit with what can be in flight, by how long calls took."""
    per_s = min(it.count / it.window_s / (org.batch_size if it.of_items else 1) for it in org.limits)
    call_s = state.call_s or 0.0
    if call_s > org.http_timeout_s / 2:
        detail = f"a call takes {call_s:.1f} s on average, and is in doubt after {org.http_timeout_s:g} s"
        cure = f"a longer {_name(org, 'HTTP_TIMEOUT_S')}, or a smaller {_name(org, 'BATCH_SIZE')}"
        return Finding("rate", "warn", detail, cure, org.name)
    if call_s * per_s > org.max_in_flight:
        detail = f"a call takes {call_s:.1f} s: {org.max_in_flight} at once can't use {org.rate_limit}"
        cure = f"set {_name(org, 'MAX_IN_FLIGHT')} to {int(call_s * per_s) + 1}"
        return Finding("rate", "warn", detail, cure, org.name)
    if state.pace and state.pace.learned:
        detail = f"slowed to {state.pace.allowed_per_s * 60:.0f} a minute by the vendor's 429s"
        return Finding(
            "rate", "warn", detail, f"lower {_name(org, 'RATE_LIMIT')} ({org.rate_limit})", org.name
        )
    detail = f"{org.rate_limit}, batches of {org.batch_size}: {per_s * org.batch_size:,.1f} badges a second"
    return Finding("rate", "ok", detail, org=org.name)


def _vendor(org: Org, queue: Queue, vendor: VendorClient) -> Iterator[Finding]:
    credentials = Authenticator(queue=queue, client=vendor, asked=True).credentials(org)
    if isinstance(credentials, Wait):
        yield _not_asked(org, credentials)
    elif isinstance(credentials, AuthFailed):
        cure = (
            _credentials_cure(org)
            if credentials.lasting
            else _reach_cure(org, unreachable(credentials.reason))
        )
        yield Finding("vendor", "fail", credentials.reason, cure, org.name)
    else:
        fence = wait_for_slot(queue, org, asked=True)
        if isinstance(fence, Wait):
            yield _not_asked(org, fence)
            return
        answer = vendor.get(org, READ_PATH, credentials.headers, fence=fence)
        if isinstance(answer, NoReply) and answer.code == TOO_LATE:
            yield _not_asked(org, Wait(Why.TOO_LATE, -1))
            return
        yield _judge(org, answer)
        if isinstance(answer, Reply) and (found := _vendor_skew(org, answer)):
            yield found


def _not_asked(org: Org, wait: Wait) -> Finding:
    return Finding("vendor", "warn", f"not asked, waiting for: {wait.why}", "try again later", org.name)


def _judge(org: Org, answer: Reply | NoReply) -> Finding:
    """Say what an answer to the read means; its codes are those of every other answer."""
    if isinstance(answer, NoReply):
        cure = _reach_cure(org, unreachable(answer.reason))
        return Finding("vendor", "fail", f"no answer: {answer.reason}", cure, org.name)
    verdict, status = read_answer((), answer, meanings_of(org)), answer.status
    what = f"answers {status}" + (f" ({verdict.code})" if verdict.code not in ("", str(status)) else "")
    match verdict.signal:
        case Signal.UNAUTHORIZED:
            return Finding("vendor", "fail", f"{what}: wrong credentials", _credentials_cure(org), org.name)
        case Signal.MISCONFIGURED:
            cure = f"check {_name(org, 'API_BASE_URL')}, and that this user may use the badges API"
            return Finding("vendor", "warn", what, cure, org.name)
        case Signal.THROTTLED | Signal.UNAVAILABLE:
            return Finding("vendor", "warn", what, "try again later", org.name)
    if status >= 500:
        return Finding("vendor", "warn", what, "the vendor is in trouble; try again later", org.name)
    how = "no credentials asked for" if org.auth == "none" else f"{org.auth} credentials are good"
    return Finding("vendor", "ok", f"{what}, {how}", org=org.name)


def _credentials_cure(org: Org) -> str:
    own = ("BASIC_TOKEN",) if org.basic_token else ("BASIC_USERNAME", "BASIC_PASSWORD")
    wanted = ("OAUTH_KEY", "OAUTH_SECRET") if org.auth == "oauth" else own
    restart = "if they are in the workers' environment, restart them first"
    return f"correct {_name(org, *wanted)}, then: badges resume --org {org.name}; {restart}"


def _reach_cure(org: Org, cause: Reason) -> str:
    match cause:
        case Reason.TLS:
            return "TLS fails: check the host, its certificate, SSL_CERT_FILE, and any proxy"
        case Reason.PROXY:
            return "the proxy refuses or is away: check HTTPS_PROXY, HTTP_PROXY and NO_PROXY"
        case Reason.DNS:
            return f"check {_name(org, 'API_BASE_URL')}, and DNS on this machine"
    return f"check {_name(org, 'API_BASE_URL')}, firewall and proxy (HTTPS_PROXY)"


def _vendor_skew(org: Org, answer: Reply) -> Finding | None:
    try:
        said_at = parsedate_to_datetime(answer.headers["date"]).timestamp()
    except (KeyError, ValueError, TypeError, OverflowError):
        return None
    return skew("vendor clock", "the vendor", said_at - time.time(), VENDOR_SKEW_S, org.name)

"""What Prometheus gets: what Redis holds at each scrape; and deploy/ asks for nothing that isn't there."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, pairwise
from pathlib import Path

import httpx
import promql_parser
import pytest
import redis
import yaml
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text
from shell import complaint
from support import BADGE, OTHER_BADGE, badges, environment, item, process, serving, wait_for, worker_command

from worker.domain.batch import Item
from worker.domain.job import DeadKind
from worker.domain.org import Org
from worker.operate.standstill import Reason
from worker.sandbox.issued import SandboxSettings
from worker.sandbox.server import SandboxServer
from worker.server.connection import Connection
from worker.store import keys
from worker.store.pool import Seats
from worker.store.queue import Queue, new_id
from worker.web.metrics import STATES, families

DEPLOY = Path(__file__).parents[2] / "deploy"
NOWHERE = "redis://:redis-marker@127.0.0.1:1"
EU = Org(name="eu", api_base_url="https://eu.example.com", rate_limit="60/minute,10/second", batch_size=50)
DEFAULT = Org(batch_linger_s=0)
MANY = 100
METRICS = ("metrics", "--port", 0)

Labels = dict[str, str]


@dataclass(frozen=True)
class Place:
    """A Redis, the environment that leads to it, a vendor, and the endpoint that reads it."""

    client: redis.Redis
    env: dict[str, str]
    vendor: SandboxServer
    url: str

    @property
    def queue(self) -> Queue:
        """The queue in it."""
        return Queue(self.client)

    def scrape(self, accept: str = "") -> str:
        """Return one scrape's text."""
        answer = httpx.get(f"{self.url}/metrics", headers={"accept": accept})
        assert answer.status_code == 200
        return answer.text

    def samples(self) -> list[tuple[str, Labels, float]]:
        """Scrape, and return name, labels and value of each sample."""
        return [(s.name, s.labels, s.value) for family in read_text(self.scrape()) for s in family.samples]

    def value(self, name: str, **labels: str) -> float:
        """Scrape, and return the one sample that has these labels; NaN if there is none."""
        values = [
            v for n, its, v in self.samples() if n == f"badges_{name}" and its.items() >= labels.items()
        ]
        assert len(values) <= 1, values
        return values[0] if values else float("nan")


@pytest.fixture(scope="module")
def endpoint(connection: Connection, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """One endpoint for all tests: it remembers nothing."""
    folder = tmp_path_factory.mktemp("metrics")
    orgs = folder / "orgs.toml"
    orgs.write_text(
        f'[eu]\napi_base_url = "{EU.api_base_url}"\nrate_limit = "{EU.rate_limit}"\nbatch_size = 50\n'
    )
    unknown = SandboxSettings(unknown_badges=frozenset({OTHER_BADGE}))
    own = {"redis_url": connection.url, "broker_url": connection.broker_url, "orgs_file": orgs}
    with SandboxServer(settings=unknown) as vendor, connection.client() as client:
        env = environment(**own, api_base_url=vendor.url, batch_linger_s=0)
        with serving(METRICS, env=env, log=folder / "metrics.log", says="metrics") as (found, _):
            yield Place(client, env, vendor, found)


@pytest.fixture
def place(endpoint: Place) -> Place:
    """An empty Redis behind the endpoint."""
    endpoint.client.flushall()
    return endpoint


def bring(place: Place, org: Org, number: int) -> None:
    """Queue that many jobs."""
    items = [item(n, org=org.name) for n in range(number)]
    place.queue.enqueue(org, run="r", items=items, call=new_id())


def gate(place: Place, org: str, **fields: object) -> None:
    """Write into an org's gate."""
    place.client.hset(keys.key(org, "gate"), mapping={name: str(value) for name, value in fields.items()})


# What is said


def test_what_a_run_leaves_behind(place: Place, tmp_path: Path) -> None:
    """Jobs, outcomes, calls and items of a real run are all there, and the worker that did it."""
    rows = "".join(f"{BADGE},{n}\n" for n in range(1, 150)) + f"{OTHER_BADGE},1\n{BADGE},wrong\n"
    badges("import", "-", env=place.env, stdin=f"badgeMetaId,customerId\n{rows}".encode(), expect=3)
    with process(worker_command("--concurrency", 3), env=place.env, log=tmp_path / "worker.log"):
        wait_for(lambda: place.value("jobs_issued_total", org="default") == 149)
        assert place.value("workers") == 1
        assert place.value("worker_places") == 3
    said = {(name, *sorted(labels.items())): value for name, labels, value in place.samples()}
    for expected, name, labels in (
        (1, "up", {}),
        (151, "jobs_accepted_total", {"org": "default"}),
        (1, "jobs_dead_total", {"org": "default", "kind": "rejected"}),
        (1, "jobs_dead_total", {"org": "default", "kind": "invalid"}),
        (0, "jobs_dead_total", {"org": "default", "kind": "in_doubt"}),
        (1, "jobs_dead_by_code_total", {"org": "default", "kind": "rejected", "code": "1054"}),
        (1, "jobs_dead_by_code_total", {"org": "default", "kind": "invalid", "code": "customerId"}),
        (0, "jobs_retried_total", {"org": "default"}),
        (0, "jobs_put_back_total", {"org": "default"}),
        (1, "dead_letters", {"org": "default", "kind": "rejected"}),
        (0, "issued_twice_total", {"org": "default"}),
        (2, "requests_total", {"org": "default", "status": "200"}),
        (0, "side_requests_total", {"org": "default"}),
        (150, "items_sent_total", {"org": "default"}),
        (0.02, "limiter_utilization_ratio", {"org": "default", "window": "60s", "of": "requests"}),
        (100, "limit", {"org": "default", "window": "60s", "of": "requests"}),
        (1, "missing_badges", {"org": "default"}),
        (0, "jobs_queued", {"org": "default"}),
        (0, "batches_in_flight", {"org": "default"}),
        (1, "gate_state", {"org": "default", "state": "open", "reason": ""}),
        (0, "jobs_accepted_total", {"org": "eu"}),
    ):
        assert said[f"badges_{name}", *sorted(labels.items())] == expected, (name, labels)
    assert said["badges_request_seconds_total", ("org", "default")] > 0
    assert said["badges_redis_memory_max_bytes",] > said["badges_redis_memory_used_bytes",] > 0


def test_what_more_workers_would_help_with(place: Place) -> None:
    """Ripe batches while the gate is open, and those in flight, but never more than the org may have."""
    bring(place, DEFAULT, 950)
    assert place.value("jobs_queued", org="default") == 950
    assert place.value("batches_ripe", org="default") == 9
    assert place.value("batches_wanted", org="default") == 4
    bring(place, EU, 49)  # no full batch, and none of them has lingered for a second
    assert place.value("batches_ripe", org="eu") == 0
    wait_for(lambda: place.value("batches_ripe", org="eu") == 1)
    assert place.value("oldest_job_age_seconds", org="eu") >= 1
    place.queue.claim(EU, new_id())
    assert place.value("batches_in_flight", org="eu") == place.value("batches_wanted", org="eu") == 1
    gate(place, "default", probing=1)
    assert place.value("batches_wanted", org="default") == 1
    place.queue.pause("default", why="operator", reason="lunch")
    assert place.value("batches_wanted", org="default") == place.value("batches_ripe", org="default") == 0


def test_the_gate_is_in_one_state(place: Place) -> None:
    """Whatever the gate does, just one state has 1, with the reason why."""
    now_ms = int(time.time() * 1000)
    cases: list[tuple[dict[str, object], str, str]] = [
        ({}, "open", ""),
        ({"probing": 1}, "probing", ""),
        ({"probing": 1, "closed_until": now_ms + 60000, "why": "throttled"}, "closed", "throttled"),
        ({"paused": "auth", "reason": "bad key"}, "paused", "auth"),
    ]
    for fields, state, reason in cases:
        gate(place, "eu", **fields) if fields else None
        rows = [(its, v) for n, its, v in place.samples() if n == "badges_gate_state" and its["org"] == "eu"]
        assert len(rows) == 4
        assert [its for its, v in rows if v] == [{"org": "eu", "state": state, "reason": reason}]


def test_what_the_vendor_taught(place: Place) -> None:
    """Rate and batch size are those that the gate really applies; what is configured stands beside."""
    assert place.value("allowed_requests_per_second", org="eu") == pytest.approx(1)
    assert place.value("rate_learned", org="eu") == 0
    now_us = time.time() * 1e6
    gate(place, "eu", learned=4_000_000, learned_at=int(now_us), learned_from=int(now_us) - 400_000_000)
    gate(place, "eu", batch_size=7, batch_size_until=int(now_us / 1000) + 60000)
    assert place.value("allowed_requests_per_second", org="eu") == pytest.approx(0.25, rel=0.01)
    assert place.value("rate_learned", org="eu") == 1
    assert place.value("batch_size", org="eu") == 7
    assert place.value("batch_size_limit", org="eu") == 50


def test_an_org_that_is_configured_no_more(place: Place) -> None:
    """Its jobs are still there to see, and that nobody sends them."""
    bring(place, Org(name="gone"), 3)
    assert place.value("jobs_queued", org="gone") == 3
    assert place.value("org_configured", org="gone") == 0
    assert place.value("org_configured", org="eu") == 1
    assert place.value("batches_wanted", org="gone") == 0


def test_latencies_once_they_are_counted(place: Place) -> None:
    """Calls sorted by how long they took make a histogram."""
    counted = {"took:50": 3, "took:250": 2, "status:200": 6, "elapsed_ms": 60500, "requests": 6}
    place.client.hset(keys.key("eu", "stats"), mapping=counted)
    buckets = {
        its["le"]: value
        for name, its, value in place.samples()
        if name == "badges_request_duration_seconds_bucket" and its["org"] == "eu"
    }
    assert (buckets["0.05"], buckets["0.1"], buckets["0.25"], buckets["+Inf"]) == (3, 3, 5, 6)
    assert place.value("request_duration_seconds_sum", org="eu") == 60.5


def test_workers_of_one_org_alone_are_workers(place: Place) -> None:
    """Where every org has one of its own, nobody is told that none is alive."""
    assert place.value("workers") == 0
    Seats(queue=place.queue).offer_own("eu")
    assert place.value("workers") == 1
    Seats(queue=place.queue).offer("badges-1@host", 3)
    assert (place.value("workers"), place.value("worker_places")) == (2, 3)


def test_codes_are_bounded(place: Place) -> None:
    """The vendor may answer with any number of codes: a hundred are told apart, the others counted as one."""
    dead = [
        Item(
            f"dead-{n}",
            str(n),
            {**item(n).fields, "code": f"code {n % 150}", "message": "no"},
            kind="rejected",
        )
        for n in range(300)
    ]
    place.queue.enqueue(EU, run="r", items=dead, call=new_id())
    found = {
        its["code"]: value for name, its, value in place.samples() if name == "badges_jobs_dead_by_code_total"
    }
    assert len(found) == 101
    assert (found["code 0"], found["other"], sum(found.values())) == (2, 100, 300)


# How it is said


def test_both_formats_are_read_back(place: Place) -> None:
    """Prometheus' text and OpenMetrics, by the library's own strict parser."""
    bring(place, EU, 5)
    text = {family.name for family in read_text(place.scrape())}
    strict = place.scrape("application/openmetrics-text; version=1.0.0")
    assert {family.name for family in read_openmetrics(strict)} == {
        name.removesuffix("_total") for name in text
    }
    assert all(re.fullmatch(r"badges_[a-z_]+", name) for name in text)
    assert {name.removesuffix("_total") for name in text} <= {name for name, *_ in families()}


def test_a_hundred_orgs(place: Place, tmp_path: Path) -> None:
    """A scrape of them all takes less than reading what it says, searches for no key, and shows each."""
    file = tmp_path / "orgs.toml"
    orgs = {f"org{n}": Org(name=f"org{n}", api_base_url=f"https://{n}.example.com") for n in range(MANY)}
    file.write_text("\n".join(f'[{o.name}]\napi_base_url = "{o.api_base_url}"\n' for o in orgs.values()))
    for org in orgs.values():
        bring(place, org, 3)
    env = place.env | {"BADGES_ORGS_FILE": str(file)}
    serves = serving(METRICS, env=env, log=tmp_path / "metrics.log", says="metrics")
    with serves as (base, running), httpx.Client(base_url=base) as http:
        http.get("/metrics")
        searched, computed = searches(place.client), [computed_s(running.pid)]
        for _ in range(5):
            text = [http.get("/metrics").text for _ in range(4)][-1]
            computed.append(computed_s(running.pid))
        assert searches(place.client) == searched
    queued = [s for family in read_text(text) for s in family.samples if s.name == "badges_jobs_queued"]
    assert len(queued) == MANY + 1
    assert sum(sample.value for sample in queued) == 3 * MANY
    # Of the processor, which is slower where others have its caches: the least of five says what is ours.
    scrape_s = min(after - before for before, after in pairwise(computed)) / 4
    assert scrape_s < 1.5 * min(reading_s(text) for _ in range(5)), computed


def reading_s(text: str) -> float:
    """Return the processor time that it takes this process to read a scrape, in plain Python."""
    began_s = time.process_time()
    list(read_text(text))
    return time.process_time() - began_s


def computed_s(pid: int) -> float:
    """Return the time that a process had the processor."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def searches(client: redis.Redis) -> int:
    """Count the commands so far that search for keys."""
    stats = client.info("commandstats")
    return sum(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("keys", "scan"))


def test_health(place: Place, tmp_path: Path) -> None:
    """``/healthz`` says whether Redis answers; without Redis a scrape still says that, and no password."""
    assert httpx.get(f"{place.url}/healthz").text == "ok\n"
    log = tmp_path / "metrics.log"
    with serving(METRICS, env=environment(redis_url=NOWHERE), log=log, says="metrics") as (url, running):
        answer = httpx.get(f"{url}/healthz")
        assert answer.status_code == 503
        assert "127.0.0.1:1" in answer.text
        said = httpx.get(f"{url}/metrics").text
        assert [line for line in said.splitlines() if line[0] != "#"] == ["badges_up 0.0"]
        assert "marker" not in answer.text + said + log.read_text()
        running.send_signal(signal.SIGTERM)
        assert running.wait(10) == 0
    assert "Traceback" not in log.read_text()


def test_a_port_that_is_taken(place: Place) -> None:
    """Exit 1, with one sentence that says which, and what to do."""
    port = place.url.rpartition(":")[2]
    done = badges("metrics", "--port", port, env=place.env, expect=1)
    cure = "say another with --port, or 0 for a free one"
    assert done.stderr.decode() == f"badges: port {port} of 127.0.0.1 is in use: {cure}\n"
    done = badges("metrics", "--port", "0", "--host", "nowhere.invalid", env=place.env, expect=1)
    assert done.stderr.startswith(b"badges: port 0 of nowhere.invalid can't be had: ")


# What deploy/ asks for


@pytest.fixture
def names(place: Place) -> set[str]:
    """Every name of a scrape, when a call has been made."""
    counted = {"status:200": 1, "requests": 1, "took:50": 1, "dead:rejected:1054": 1}
    place.client.hset(keys.key("eu", "stats"), mapping=counted)
    return {name for name, _, _ in place.samples()}


def asks_for_what_exists(query: str, names: set[str]) -> None:
    """Check that a query is one, by Prometheus' own grammar, and that its metrics exist."""
    query = query.replace("$__rate_interval", "5m")
    promql_parser.parse(query)  # type: ignore[attr-defined, unused-ignore]
    asked = set(re.findall(r"\bbadges_\w+", query))
    assert asked, query
    assert asked <= names, asked - names


def test_the_alert_rules(names: set[str]) -> None:
    """Each has a query that holds, a severity, and says what happened and what to do."""
    (group,) = yaml.safe_load((DEPLOY / "alerts.yml").read_text())["groups"]
    assert group["name"] == "badges"
    rules = group["rules"]
    assert len({rule["alert"] for rule in rules}) == len(rules) >= 10
    for rule in rules:
        assert rule.keys() <= {"alert", "expr", "for", "labels", "annotations"}
        assert re.fullmatch(r"\d+[smh]", rule.get("for", "0s"))
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert rule["annotations"].keys() == {"summary", "description"}
        text = " ".join(rule["annotations"].values())
        assert text.count("{{") == text.count("}}")
        assert set(re.findall(r"\$labels\.(\w+)", text)) <= {"org", "reason", "kind"}
        asks_for_what_exists(rule["expr"], names)


def test_commands_that_alerts_name_exist() -> None:
    """Whoever is told to type something can, options included; and docs name no alert that isn't there."""
    (group,) = yaml.safe_load((DEPLOY / "alerts.yml").read_text())["groups"]
    texts = " ".join(rule["annotations"]["description"] for rule in group["rules"])
    said = re.findall(r"`badges ([^`]+)`", re.sub(r"\{\{.*?\}\}", "eu", texts))
    assert len(said) > 20
    assert [(one, why) for one in said if (why := complaint(shlex.split(one)))] == []
    named = {
        name for page in DEPLOY.glob("docs/*.md") for name in re.findall(r"`(Badges\w+)`", page.read_text())
    }
    assert named - {"BadgeIssue", "BadgeQueue"} <= {rule["alert"] for rule in group["rules"]}


def test_alerts_tell_of_every_kind_and_reason_there_is() -> None:
    """None is forgotten that a person must act on; none is asked for that there isn't."""
    queries = (DEPLOY / "alerts.yml").read_text()

    def asked(metric: str, label: str) -> set[str]:
        found = re.findall(rf'{metric}\{{[^}}]*\b{label}=~?"([^"]+)"', queries)
        return {word for one in found for word in one.split("|")}

    by_gate = {Reason.PAUSED_OPERATOR, Reason.PAUSED_AUTH, Reason.PAUSED_CONFIG}
    no_page = {Reason.LIMIT}  # it is known when that ends
    assert asked("badges_standstill_info", "reason") == {*Reason} - by_gate - no_page - {Reason.UNCONFIGURED}
    assert asked("badges_gate_state", "reason") == {"auth", "config", "operator"}
    assert asked("badges_gate_state", "state") <= {*STATES}
    kinds = asked("badges_dead_letters", "kind")
    assert kinds == {*DeadKind} - {DeadKind.CANCELLED}  # which a person has said


def test_the_dashboard(names: set[str]) -> None:
    """Its panels have a place each, a title, and queries that hold; its variables are the ones they use."""
    board = json.loads((DEPLOY / "grafana-dashboard.json").read_text())
    assert {"title", "uid", "schemaVersion", "panels", "templating", "time"} <= board.keys()
    variables = {variable["name"]: variable for variable in board["templating"]["list"]}
    assert variables.keys() == {"datasource", "org"}
    asked = re.fullmatch(r"label_values\((\w+), org\)", variables["org"]["definition"])
    assert asked
    assert asked[1] in names
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) >= 12
    for panel in panels:
        assert panel["title"]
        assert panel["type"] in ("stat", "timeseries", "state-timeline")
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"]) >= 1
        for target in panel["targets"]:
            assert target["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
            asks_for_what_exists(target["expr"], names)
    assert not [pair for pair in combinations((panel["gridPos"] for panel in panels), 2) if overlap(*pair)]


def overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    """Say whether two panels cover each other."""
    across = one["x"] < other["x"] + other["w"] and other["x"] < one["x"] + one["w"]
    return across and one["y"] < other["y"] + other["h"] and other["y"] < one["y"] + one["h"]

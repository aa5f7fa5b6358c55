"""What is in ``deploy/`` and ``docker-compose.yml`` does what it promises, without any container engine.

Every service of the compose file is run as the file says: its command, its environment, its health check, in
the order of its dependencies, with a read-only file system. Replaced is only what a container would: paths,
host names and ports; and the server's binary is the embedded one's. Prometheus runs where its binary is at
hand; Grafana doesn't.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
import yaml
from redis.exceptions import NoPermissionError
from support import BADGE, LONG, PROGRAMS, absent, wait_for

from worker.config import Settings
from worker.server.valkey import binary

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
COMPOSE = ROOT / "docker-compose.yml"
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
VARIABLE = re.compile(r"\$\$|\$\{(\w+)(?::-([^}]*))?\}")
PORTS = (6379, 8080, 8081, 9808, 5555, 9090)
SECONDS = re.compile(r"(\d+)s")
FOLDERS = ("/run/secrets/", "/etc/badges/", "/etc/prometheus/", "/demo/")
WITH_PROMETHEUS = shutil.which("prometheus") is not None

CLIENT = '#!/bin/sh\nexec {python} -IS {program} {port} "$@"\n'


def compose() -> dict[str, Any]:
    """Return the compose file as ``docker compose`` sees it when nothing is configured."""

    def value(node: Any) -> Any:
        if isinstance(node, dict):
            return {name: value(child) for name, child in node.items()}
        if isinstance(node, list):
            return [value(child) for child in node]
        return _interpolated(node) if isinstance(node, str) else node

    loaded: dict[str, Any] = value(yaml.safe_load(COMPOSE.read_text()))
    return loaded


def _interpolated(text: str) -> str:
    return VARIABLE.sub(lambda found: "$" if found[0] == "$$" else found[2] or "", text)


def seconds(text: str) -> int:
    """Read a duration of the compose file."""
    found = SECONDS.fullmatch(text)
    assert found, text
    return int(found[1])


def image_environment() -> dict[str, str]:
    """Return what the image itself sets."""
    names = re.findall(r"(\w+)=(\S+)", (DEPLOY / "Dockerfile").read_text().partition("\nENV PATH=")[2])
    return dict(names[:3])


def can_confine() -> bool:
    """Say whether a process may have a view of the file system of its own here."""
    return subprocess.run([*UNSHARE, "true"], capture_output=True, check=False).returncode == 0


UNSHARE = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@dataclass
class Machine:
    """Runs the services of the compose file as processes, below one folder."""

    folder: Path
    services: dict[str, Any]
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    ports: dict[int, int] = field(default_factory=lambda: {port: free_port() for port in PORTS})
    confines: bool = field(default_factory=can_confine)

    def prepare(self, loaded: dict[str, Any]) -> None:
        """Lay out what the file mounts."""
        for name in ("data", "prometheus", "tmp", "bin", *FOLDERS):
            (self.folder / name.strip("/")).mkdir(parents=True)
        for name, secret in loaded["secrets"].items():
            text = self.native((ROOT / secret["file"]).read_text())
            (self.folder / "run/secrets" / name).write_text(text)
        orgs = self.native((ROOT / loaded["configs"]["orgs"]["file"]).read_text())
        (self.folder / "etc/badges/orgs.toml").write_text(orgs)
        shutil.copy(DEPLOY / "redis-acl.conf", self.folder / "etc/badges")
        shutil.copy(DEPLOY / "demo/members.csv", self.folder / "demo")
        shutil.copy(DEPLOY / "alerts.yml", self.folder / "etc/prometheus")
        scraped = (DEPLOY / "observability/prometheus.yml").read_text()
        (self.folder / "etc/prometheus/prometheus.yml").write_text(self.native(scraped))
        (self.folder / "bin/valkey-server").symlink_to(binary())
        client = self.folder / "bin/valkey-cli"
        client.write_text(
            CLIENT.format(python=sys.executable, program=PROGRAMS / "valkey_cli.py", port=self.ports[6379])
        )
        client.chmod(0o755)

    def native(self, text: str) -> str:
        """Replace what is only so in a container."""
        for path in FOLDERS:
            text = text.replace(path, f"{self.folder}{path}")
        text = re.sub(r"(--dir |tsdb.path=)(/data|/prometheus)\b", rf"\1{self.folder}\2", text)
        text = text.replace("'* -::*'", "127.0.0.1").replace("0.0.0.0", "127.0.0.1")  # noqa: S104
        text = re.sub(r"(?<=@)redis(?=:)|\bmetrics(?=:\d)", "127.0.0.1", text)
        for port, free in self.ports.items():
            text = re.sub(rf"\b{port}\b", str(free), text)
        return text

    def environment(self, service: str, *, as_: str = "") -> dict[str, str]:
        """Return exactly what file and image give the service; nothing of this process's own."""
        given = self.services[service].get("environment", {})
        if "build" in self.services[service]:
            given = image_environment() | given
        path = f"{self.folder}/bin:{Path(sys.executable).parent}:{os.environ['PATH']}"
        tmp = f"{self.tmp(as_ or service)}/"
        texts = {name: self.native(re.sub("^/tmp/", tmp, str(text))) for name, text in given.items()}
        return {"PATH": path, "HOME": "/nonexistent"} | texts

    def tmp(self, name: str) -> Path:
        """Return what is a process's ``/tmp``, which is all that it may write into, but for a volume."""
        folder = self.folder / "tmp" / name
        folder.mkdir(exist_ok=True)
        return folder

    def confined(self, service: str, name: str) -> list[str]:
        """Return what makes the file system read-only for a command, as the file says."""
        if not (self.confines and self.services[service]["read_only"]):
            return []
        volumes = [v.split(":")[1] for v in self.services[service].get("volumes", ()) if v[0] not in "./"]
        writable = [str(self.tmp(name)), *(f"{self.folder}{volume}" for volume in volumes)]
        binds = "".join(f"mount --bind {folder} {folder} && " for folder in writable)
        return [*UNSHARE, "sh", "-c", f'{binds}mount -o remount,bind,ro / && cd "$PWD" && exec "$@"', "sh"]

    def start(self, service: str, *, as_: str = "") -> subprocess.Popen[bytes]:
        """Start a service once all it depends on is healthy."""
        for needed, how in self.services[service].get("depends_on", {}).items():
            assert how == {"condition": "service_healthy"}
            assert self.is_healthy(needed), f"{service} needs {needed}"
        name, described = as_ or service, self.services[service]
        command = [*described.get("entrypoint", ()), *described["command"]]
        with self.log(name).open("ab") as log:
            self.running[name] = subprocess.Popen(
                [*self.confined(service, name), *(self.native(part) for part in command)],
                env=self.environment(service, as_=as_),
                cwd=self.tmp(name),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        return self.running[name]

    def log(self, name: str) -> Path:
        """Return where the output of a process goes."""
        return self.folder / f"{name}.log"

    def is_healthy(self, service: str, *, as_: str = "") -> bool:
        """Run the health check of a service as the file says."""
        process = self.running.get(as_ or service)
        if process is None or process.poll() is not None:
            return False
        check = self.services[service]["healthcheck"]
        kind, *command = [self.native(part) for part in check["test"]]
        if kind == "CMD-SHELL":
            command = ["/bin/sh", "-c", *command]
        try:
            done = subprocess.run(
                command,
                env=self.environment(service, as_=as_),
                cwd=self.tmp(as_ or service),
                capture_output=True,
                timeout=seconds(check["timeout"]),
                check=False,
            )
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0

    def await_healthy(self, service: str, *, as_: str = "") -> None:
        """Wait until the health check says so, or the service ends."""
        name = as_ or service

        def healthy() -> bool:
            assert self.running[name].poll() is None, f"{name} ended: {self.log(name).read_text()[-3000:]}"
            return self.is_healthy(service, as_=as_)

        wait_for(healthy, what=f"{name} healthy: {self.log(name).read_text()[-3000:]}")

    def stop(self, *names: str) -> list[int]:
        """Send one SIGTERM to each; return their exit statuses, there within the service's grace period."""
        stopping = {name: self.running.pop(name) for name in names}
        for process in stopping.values():
            process.send_signal(signal.SIGTERM)
        grace = {name: self.services[name.partition("-")[0]]["stop_grace_period"] for name in names}
        return [process.wait(seconds(grace[name])) for name, process in stopping.items()]

    def end(self) -> None:
        """End whatever still runs."""
        for process in self.running.values():
            process.kill()
            process.wait()

    def run(self, *command: str) -> str:
        """Run a command in the importer's place, and return what it prints."""
        done = subprocess.run(
            command,
            env=self.environment("importer"),
            cwd=self.tmp("importer"),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        return done.stdout

    def http(self, port: int) -> httpx.Client:
        """Return a client of one of the services, named by its port in the file."""
        return httpx.Client(base_url=f"http://127.0.0.1:{self.ports[port]}", timeout=20)

    def get(self, port: int, path: str, **options: Any) -> str:
        """Call one of the services over HTTP."""
        with self.http(port) as http:
            return http.get(path, **options).raise_for_status().text

    def issued(self) -> int:
        """Return how many badges the vendor issued; none of them twice."""
        ledger = self.ledger()
        assert ledger["issued_more_than_once"] == []
        return int(ledger["items_issued"])

    def calls_in_flight(self) -> int:
        """Return how many calls the vendor has not yet answered."""
        return sum(exchange["answered_s"] is None for exchange in self.ledger()["exchanges"])

    def ledger(self) -> dict[str, Any]:
        """Return what the vendor noted."""
        noted: dict[str, Any] = json.loads(self.get(8080, "/_sandbox/ledger"))
        return noted

    def org(self) -> dict[str, Any]:
        """Return the state of the org ``demo``."""
        orgs: list[dict[str, Any]] = json.loads(self.run("badges", "status", "--org", "demo", "--json"))
        return orgs[0]

    def client(self) -> redis.Redis:
        """Return a client with the worker's own rights."""
        url = (self.folder / "run/secrets/redis_url").read_text()
        return redis.Redis.from_url(url, decode_responses=True, protocol=2)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """Everything that ``docker compose --profile demo up`` starts, healthy; the last test stops it."""
    loaded = compose()
    here = Machine(tmp_path_factory.mktemp("machine"), loaded["services"])
    here.prepare(loaded)
    with ExitStack() as stack:
        stack.callback(here.end)
        here.start("redis")
        here.await_healthy("redis")
        first = ["worker", "metrics", "intake", *(["flower"] if find_spec("flower") else [])]
        for services in (first, ["sandbox", *(["prometheus"] if WITH_PROMETHEUS else [])]):
            for service in services:
                here.start(service)
            for service in services:
                here.await_healthy(service)
        yield here


def rows(folder: Path, *, start: int, count: int) -> str:
    """Write a file of badges that nobody else has."""
    lines = [f"{BADGE},{n},1674292011" for n in range(start, start + count)]
    file = folder / f"{start}.csv"
    file.write_text("\n".join(["badgeMetaId,customerId,earnEventDate", *lines]))
    return str(file)


@LONG
def test_everything_works_under_the_least_rights(machine: Machine) -> None:
    """No command of a worker, of Flower or of an operator is refused by the server; what isn't needed, is."""
    item = json.dumps({"items": [{"badgeMetaId": BADGE, "customerId": 7}], "org": "demo", "run": "sent"})
    machine.run("celery", "--app", "worker.app", "call", "badges.enqueue", "--kwargs", item)
    wait_for(machine.issued, what="what another service sent")
    with machine.http(8081) as intake:
        headers = {"Authorization": "Bearer demo-only-key", "Idempotency-Key": "once"}
        path = "/api_gateway/v1/badges/import/customerBadges"
        sent = intake.put(path, json=[{"badgeMetaId": BADGE, "customerId": 8}], headers=headers)
        assert sent.status_code == 202
        assert intake.get(f"{sent.headers['location']}/results", headers=headers).status_code == 200
    wait_for(lambda: machine.issued() == 2, what="what came over HTTP")
    file = rows(machine.folder, start=100_000, count=50)
    machine.run("badges", "import", file, "--org", "demo", "--run", "r", "--follow")
    for command in ("pause --org demo", "resume --org demo", "run show r", "results --run r", "dead groups"):
        machine.run("badges", *command.split())
    doctor = json.loads(machine.run("badges", "doctor", "--org", "demo", "--json"))
    assert not [finding for finding in doctor if finding["result"] == "fail"]
    metrics = machine.get(9808, "/metrics")
    for name in re.findall(r"badges_\w+", (DEPLOY / "kubernetes/scaling.yaml").read_text()):
        assert f"\n{name}{{" in metrics, f"the ScaledObject asks for {name}"
    if "flower" in machine.running:
        with pytest.raises(httpx.HTTPStatusError, match="401"):
            machine.get(5555, "/workers")
        assert "badges-" in machine.get(5555, "/api/workers?refresh=1", auth=("demo", "demo"))

    with machine.client() as client:
        refused = {n: v for n, v in client.info("stats").items() if n.startswith("acl_access_denied") and v}
        logs = "".join(file.read_text() for file in machine.folder.glob("*.log"))
        assert not refused, re.findall(r".*NOPERM.*", logs)[:5]
        assert "NOPERM" not in logs
        commands = (
            "FLUSHALL", "FLUSHDB", "KEYS *", "CONFIG SET appendonly no", "SHUTDOWN", "ACL LIST",
            "EVAL return 0", "SCRIPT FLUSH", "GET other", "SET other 1", "SCAN 0", "REPLICAOF no one",
            "PUBLISH other x", "MONITOR", "CLIENT KILL TYPE normal", "SWAPDB 0 1",
        )  # fmt: skip
        for command in commands:
            with pytest.raises(NoPermissionError):
                assert not client.execute_command(*command.split()), command
    with redis.Redis(port=machine.ports[6379]) as nobody, pytest.raises(redis.AuthenticationError):
        nobody.ping()


@LONG
def test_the_file_system_is_read_only(machine: Machine) -> None:
    """What the services run on here can be written nowhere but in their ``/tmp`` and their volumes."""
    if not machine.confines:
        absent("this user can't have a view of the file system of its own")

    def writes(where: Path) -> bool:
        command = [*machine.confined("worker", "worker"), "touch", str(where / "there")]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    assert writes(machine.tmp("worker"))
    elsewhere = (machine.folder, machine.folder / "data", Path.home(), ROOT)
    of_root = [where for where in elsewhere if where.stat().st_dev == Path("/").stat().st_dev]
    assert not any(map(writes, of_root))


@LONG
@pytest.mark.neighbour("prometheus")
def test_prometheus_scrapes_and_knows_the_rules(machine: Machine) -> None:
    """What the profile ``observability`` adds reads the metrics, and every rule of ours."""

    def scraped() -> bool:
        targets = json.loads(machine.get(9090, "/api/v1/targets"))["data"]["activeTargets"]
        return [target["health"] for target in targets] == ["up"]

    wait_for(scraped, what="a scrape")
    (group,) = json.loads(machine.get(9090, "/api/v1/rules"))["data"]["groups"]
    assert len(group["rules"]) == len(
        yaml.safe_load((DEPLOY / "alerts.yml").read_text())["groups"][0]["rules"]
    )
    wait_for(lambda: '"1"' in machine.get(9090, "/api/v1/query?query=badges_up"), what="what was scraped")


@LONG
def test_compose_delivers_scales_survives_and_drains(machine: Machine) -> None:
    """The demo runs to its end; three workers, one killed, still issue each badge once; SIGTERM drains."""
    before = machine.issued()
    importer = machine.start("importer")
    assert importer.wait(30) == 3, machine.log("importer").read_text()  # two rows are bad
    machine.running.pop("importer")
    assert machine.issued() - before == 598
    assert machine.org()["dead"] == {"invalid": 2}

    for n in (2, 3):
        machine.start("worker", as_=f"worker-{n}")
    for n in (2, 3):
        machine.await_healthy("worker", as_=f"worker-{n}")
    machine.running["worker"].kill()
    machine.running.pop("worker").wait()
    machine.run(
        "badges", "import", rows(machine.folder, start=1_000_000, count=1500), "--org", "demo", "--follow"
    )
    assert machine.issued() - before == 598 + 1500

    with machine.http(8080) as vendor:
        vendor.post("/_sandbox/settings", json={"latency_s": [2, 2]}).raise_for_status()
    machine.run("badges", "import", rows(machine.folder, start=2_000_000, count=1000), "--org", "demo")
    wait_for(machine.calls_in_flight, what="a call in flight")
    assert machine.stop("worker-2", "worker-3") == [0, 0]
    left = machine.org()
    assert left["in_flight"] == 0, "what was sent is settled"
    assert left["dead"] == {"invalid": 2}
    assert machine.issued() - before == 598 + 1500 + 1000 - left["queued"]
    for service in ("metrics", "intake", "flower", "sandbox", "prometheus"):
        if service in machine.running:
            assert machine.stop(service)[0] in (0, -signal.SIGTERM)
    assert machine.stop("redis") == [0]


@pytest.mark.parametrize("name", sorted(compose()["services"]))
def test_a_service_keeps_the_rules(name: str) -> None:
    """Each is confined, scalable, pinned, gets its secrets by file, and starts after what it needs."""
    loaded = compose()
    service = loaded["services"][name]
    assert "container_name" not in service
    assert re.search(r":v?\d[\w.-]*$", service["image"]), "a version, and not the latest"
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "stop_grace_period" in service
    if name != "importer":  # which ends by itself
        assert {"test", "interval", "timeout", "retries"} <= service["healthcheck"].keys()
    if name != "redis":
        assert service["depends_on"]
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
    environment = service.get("environment", {})
    secret_settings = [n for n in environment if re.search(r"PASSWORD|SECRET|TOKEN|REDIS_URL", n)]
    assert all(setting.endswith("_FILE") for setting in secret_settings)
    check = service.get("healthcheck", {}).get("test", ())
    for text in (*environment.values(), *service.get("command", ()), *check):
        for secret in re.findall(r"/run/secrets/(\w+)", str(text)):
            assert secret in service["secrets"]
            assert secret in loaded["secrets"]
    for needed, how in service.get("depends_on", {}).items():
        assert "test" in loaded["services"][needed]["healthcheck"]
        assert how == {"condition": "service_healthy"}
    for volume in service.get("volumes", ()):
        source = volume.split(":")[0]
        assert (ROOT / source).exists() if source.startswith(".") else source in loaded["volumes"]


def test_a_call_may_end_before_the_worker_must() -> None:
    """The grace period is longer than a call may take, in compose and in Kubernetes alike."""
    worker = compose()["services"]["worker"]
    assert seconds(worker["stop_grace_period"]) > int(worker["environment"]["BADGES_HTTP_TIMEOUT_S"]) + 5
    pod = _objects()["Deployment", "badges-worker"]["spec"]["template"]["spec"]
    settings = dict(line.split("=", 1) for line in _kustomization()["configMapGenerator"][0]["literals"])
    assert pod["terminationGracePeriodSeconds"] > int(settings["BADGES_HTTP_TIMEOUT_S"]) + 5


def test_the_sandbox_of_the_compose_file_may_be_called() -> None:
    """The org ``demo`` is one that the worker accepts."""
    Settings(orgs_file=DEPLOY / "demo/orgs.toml").orgs()


def test_what_finds_a_stuck_worker_is_the_same_everywhere() -> None:
    """Compose and Kubernetes run the image's own health check, which ``test_liveness.py`` tries."""
    (container,) = _objects()["Deployment", "badges-worker"]["spec"]["template"]["spec"]["containers"]
    text = (DEPLOY / "Dockerfile").read_text()
    check = json.loads(re.findall(r"HEALTHCHECK .*\\\n +CMD (\[.*\])", text)[0])
    startup, liveness = container["startupProbe"], container["livenessProbe"]
    assert startup["exec"]["command"] == liveness["exec"]["command"] == check
    assert compose()["services"]["worker"]["healthcheck"]["test"] == ["CMD-SHELL", check[-1]]
    assert "readinessProbe" not in container
    for unit in ("badges-worker@", "badges-up"):
        lines = (DEPLOY / f"systemd/{unit}.service").read_text().splitlines()
        assert {"Type=notify", "NotifyAccess=main", "WatchdogSec=180", "WatchdogSignal=SIGTERM"} <= {*lines}


def test_prometheus_and_grafana_find_their_files() -> None:
    """What Prometheus scrapes and Grafana asks are services of the file; what they load is mounted there."""
    loaded = compose()["services"]
    assert loaded["prometheus"]["profiles"] == loaded["grafana"]["profiles"] == ["observability"]
    folder = DEPLOY / "observability"
    scraping = yaml.safe_load((folder / "prometheus.yml").read_text())
    assert scraping.keys() == {"global", "rule_files", "scrape_configs"}
    (job,) = scraping["scrape_configs"]
    assert job["static_configs"] == [{"targets": ["metrics:9808"]}]
    assert loaded["metrics"]["command"][-1] == "9808"
    mounted = {
        v.split(":")[1]: v.split(":")[0] for s in ("prometheus", "grafana") for v in loaded[s]["volumes"]
    }
    assert mounted[f"/etc/prometheus/{scraping['rule_files'][0]}"] == "./deploy/alerts.yml"
    (source,) = yaml.safe_load((folder / "datasources/prometheus.yml").read_text())["datasources"]
    assert (source["type"], source["url"]) == ("prometheus", "http://prometheus:9090")
    assert source["isDefault"], "the dashboard takes the default"
    (provider,) = yaml.safe_load((folder / "dashboards/badges.yml").read_text())["providers"]
    assert mounted[f"{provider['options']['path']}/badges.json"] == "./deploy/grafana-dashboard.json"
    assert mounted["/etc/grafana/provisioning/datasources"] == "./deploy/observability/datasources"
    assert mounted["/etc/grafana/provisioning/dashboards"] == "./deploy/observability/dashboards"


def test_dockerfile_keeps_the_rules() -> None:
    """Several stages, pinned, not root, exec form throughout, a health check, SIGTERM."""
    text = re.sub(r"\\\n", " ", (DEPLOY / "Dockerfile").read_text())
    steps = [line.split(maxsplit=1) for line in text.splitlines() if line and line[0] != "#"]
    last = max(n for n, (verb, _) in enumerate(steps) if verb == "FROM")
    final = dict(steps[last:])
    assert [verb for verb, _ in steps].count("FROM") == 2
    assert ":latest" not in text
    assert re.search(r"ARG PYTHON=3\.11", text)
    installs = re.findall(r"install (.*?)(?: &&|$)", text, re.MULTILINE)
    assert all(
        re.match("--require-hashes -r deploy/requirements|--no-deps /dist/", what) for what in installs
    )
    assert len(installs) == 3
    assert "pip wheel --no-deps --no-build-isolation " in text
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", final["USER"])
    assert json.loads(final["CMD"]) == ["badges", "worker"]
    assert final["STOPSIGNAL"] == "SIGTERM"
    health = json.loads(final["HEALTHCHECK"].partition("CMD ")[2])
    assert health[-1] == compose()["services"]["worker"]["healthcheck"]["test"][-1]
    sources = [rest.split()[:-1] for verb, rest in steps if verb == "COPY" and "--from" not in rest]
    allowed = (ROOT / ".dockerignore").read_text()
    assert all(f"!{source}\n" in allowed for part in sources for source in part)


def _objects() -> dict[tuple[str, str], dict[str, Any]]:
    documents = [document for file in MANIFESTS for document in yaml.safe_load_all(file.read_text())]
    return {(d["kind"], d["metadata"]["name"]): d for d in documents if d["kind"] != "Kustomization"}


def _kustomization() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((DEPLOY / "kubernetes/kustomization.yaml").read_text())
    return loaded


def test_all_files_are_part_of_the_kustomization() -> None:
    """None that is written is forgotten; what is in them, ``tests/neighbours`` holds against the schemas."""
    assert {file.name for file in MANIFESTS} == {*_kustomization()["resources"], "kustomization.yaml"}


@pytest.mark.skipif(not shutil.which("kubectl"), reason="no kubectl here; Debian's is too old for labels")
def test_the_kustomization_renders() -> None:
    """Every object comes out, and the pods take the settings by their generated name."""
    command = ["kubectl", "kustomize", str(DEPLOY / "kubernetes")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    rendered = {(d["kind"], d["metadata"]["name"]): d for d in yaml.safe_load_all(done.stdout)}
    (settings,) = [name for kind, name in rendered if kind == "ConfigMap"]
    assert rendered.keys() == {*_objects(), ("ConfigMap", settings)}
    for (kind, _), document in rendered.items():
        if kind == "Deployment":
            (container,) = document["spec"]["template"]["spec"]["containers"]
            assert container["envFrom"] == [{"configMapRef": {"name": settings}}]
            assert re.fullmatch(r"badge-import-worker:\d+\.\d+\.\d+", container["image"])


def test_scaling_follows_what_workers_can_help_with() -> None:
    """The custom kinds keep what KEDA and the Prometheus operator read; scaling asks for batches wanted."""
    objects = _objects()
    scaled = objects["ScaledObject", "badges-worker"]
    assert scaled["apiVersion"] == "keda.sh/v1alpha1"
    assert scaled["spec"].keys() <= {
        *("scaleTargetRef", "minReplicaCount", "maxReplicaCount", "pollingInterval"),
        *("cooldownPeriod", "fallback", "triggers"),
    }
    (trigger,) = scaled["spec"]["triggers"]
    assert trigger["type"] == "prometheus"
    assert trigger["metadata"].keys() == {"serverAddress", "query", "threshold"}
    assert all(isinstance(value, str) for value in trigger["metadata"].values())
    assert "badges_batches_wanted" in trigger["metadata"]["query"]
    (worker,) = objects["Deployment", "badges-worker"]["spec"]["template"]["spec"]["containers"]
    assert worker["command"][-2:] == ["--concurrency", trigger["metadata"]["threshold"]]
    assert "replicas" not in objects["Deployment", "badges-worker"]["spec"], "KEDA's"
    monitor = objects["ServiceMonitor", "badges-metrics"]
    assert monitor["apiVersion"] == "monitoring.coreos.com/v1"
    assert monitor["spec"].keys() == {"selector", "endpoints"}
    assert monitor["spec"]["endpoints"][0].keys() <= {"port", "path", "interval"}


def test_kubernetes_objects_fit_together() -> None:
    """Selectors meet labels, names meet names, ports meet ports; every container is confined and bounded."""
    objects = _objects()
    pods = {name: d["spec"]["template"] for (kind, name), d in objects.items() if kind == "Deployment"}
    labels = {name: pod["metadata"]["labels"] for name, pod in pods.items()}
    for (kind, name), document in objects.items():
        spec = document["spec"]
        selector = spec.get("selector") or spec.get("podSelector")
        if selector:
            assert selector.get("matchLabels", selector) == labels[name], kind
    assert objects["ScaledObject", "badges-worker"]["spec"]["scaleTargetRef"]["name"] in pods
    service = objects["Service", "badges-metrics"]
    assert service["metadata"]["labels"] == labels["badges-metrics"], "what the ServiceMonitor selects"
    endpoint = objects["ServiceMonitor", "badges-metrics"]["spec"]["endpoints"][0]
    assert endpoint["port"] == service["spec"]["ports"][0]["name"]
    for pod in pods.values():
        (container,) = pod["spec"]["containers"]
        assert pod["spec"]["securityContext"]["runAsNonRoot"]
        assert pod["spec"]["securityContext"]["runAsUser"] > 0
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
        assert "memory" in container["resources"]["limits"]
        assert {m["name"] for m in container["volumeMounts"]} == {v["name"] for v in pod["spec"]["volumes"]}
        assert container["image"] == _kustomization()["images"][0]["name"]
        assert "env" not in container, "secrets come by file"
    ports = {p["name"]: p["containerPort"] for p in pods["badges-metrics"]["spec"]["containers"][0]["ports"]}
    assert service["spec"]["ports"][0]["targetPort"] in ports
    allowed = objects["NetworkPolicy", "badges-metrics"]["spec"]["ingress"][0]["ports"]
    assert allowed[0]["port"] == ports["metrics"]


@pytest.mark.parametrize("unit", sorted((DEPLOY / "systemd").glob("*.service")), ids=lambda unit: unit.name)
def test_systemd_unit_keeps_the_rules(unit: Path) -> None:
    """Each restarts, is confined, and drains; nothing but the worker itself is told to stop."""
    text = unit.read_text()
    assert re.search(r"\nType=(exec|notify)\n", text)
    for line in ("Restart=always", "ProtectSystem=strict", "NoNewPrivileges=yes"):
        assert f"\n{line}\n" in text
    assert re.search(r"\n(DynamicUser=yes|User=badges)\n", text)
    if "badges-metrics" not in unit.name:
        assert "\nKillMode=mixed\n" in text
        assert int(re.findall(r"TimeoutStopSec=(\d+)", text)[0]) > 35
    handed = set(re.findall(r"LoadCredential=(\w+):", text))
    assert set(re.findall(r"%d/(\w+)", text)) == handed


@pytest.mark.neighbour("systemd-analyze")
def test_systemd_reads_the_units(tmp_path: Path) -> None:
    """There is nothing that systemd objects to, with the program where the units say it is."""
    for unit in sorted((DEPLOY / "systemd").glob("*.service")):
        text = unit.read_text().replace(
            "/opt/badges/bin/badges", str(Path(sys.executable).with_name("badges"))
        )
        (tmp_path / unit.name).write_text(text)
        command = ["systemd-analyze", "verify", "--man=no", str(tmp_path / unit.name)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert (done.returncode, done.stderr) == (0, ""), unit.name

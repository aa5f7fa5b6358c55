"""Real servers in every arrangement that is promised: with replicas, in a Cluster, behind TLS."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import redis
from redis.exceptions import RedisError
from support import wait_for

from worker.server.valkey import binary

APPEND_ONLY = ("--appendonly", "yes", "--appendfsync", "always", "--save", "")
SERVICE = "badges"
SLOTS = 16384


@dataclass
class Server:
    """A server's process, which can be killed and started again on its port and data."""

    folder: Path
    port: int
    options: Sequence[str]
    process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self.port}"

    def client(self) -> redis.Redis:
        """Return a client of this server alone."""
        return redis.Redis(port=self.port, decode_responses=True, protocol=2)

    def start(self) -> None:
        """Start it; returns when it answers."""
        self.folder.mkdir(exist_ok=True)
        own = ("--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder))
        with (self.folder / "log").open("ab") as log:
            command = [binary(), *self.options, *own]
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_for(self.answers, what=f"server {self.port}")

    def answers(self) -> bool:
        """Say whether it does."""
        with suppress(RedisError), self.client() as client:
            return bool(client.ping())
        return False

    def kill(self) -> None:
        """End it without a chance to do anything about it."""
        if self.process:
            self.process.kill()
            self.process.wait()


def _ports() -> Iterator[int]:
    """Give ports in turn: each of pytest's processes its own, and none that outgoing connections get."""
    process = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % 16
    return (10_000 + 750 * process + n % 750 for n in count(os.getpid()))


_PORTS = _ports()


def free_port() -> int:
    """Return a port that nobody listens on, and whose Cluster's bus has one as well."""
    while True:
        port = next(_PORTS)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            socket.create_server(("127.0.0.1", port + 10_000)).close()
            return port


@contextmanager
def servers(folder: Path, *options: Sequence[str]) -> Iterator[list[Server]]:
    """Run a server for each of these options while the block lasts."""
    with ExitStack() as stack:
        started = [Server(folder / f"server{n}", free_port(), given) for n, given in enumerate(options)]
        for one in started:
            stack.callback(one.kill)
            one.start()
        yield started


@contextmanager
def replicated(folder: Path, *, replicas: int) -> Iterator[tuple[list[Server], Server]]:
    """Run a primary, its replicas and a Sentinel that notices within half a second; yields all."""
    with servers(folder, *[APPEND_ONLY] * (1 + replicas)) as (primary, *others), ExitStack() as stack:
        for replica in others:
            with replica.client() as client:
                client.replicaof("127.0.0.1", primary.port)
        with primary.client() as client:
            wait_for(lambda: _in_step(client) == replicas, what="replicas in step")
        file = folder / "sentinel.conf"
        file.write_text(
            f"sentinel monitor {SERVICE} 127.0.0.1 {primary.port} 1\n"
            f"sentinel down-after-milliseconds {SERVICE} 500\nsentinel failover-timeout {SERVICE} 4000\n"
        )
        sentinel = Server(folder / "sentinel", free_port(), (str(file), "--sentinel"))
        stack.callback(sentinel.kill)
        sentinel.start()
        with sentinel.client() as client:
            wait_for(lambda: len(client.sentinel_slaves(SERVICE)) == replicas, what="replicas found")
        yield [primary, *others], sentinel


def _in_step(client: redis.Redis) -> int:
    info = client.info("replication")
    return sum(info.get(f"slave{n}", {}).get("state") == "online" for n in range(info["connected_slaves"]))


@contextmanager
def cluster(folder: Path) -> Iterator[list[Server]]:
    """Run a Cluster of three nodes, each with a third of the slots."""
    options = (*APPEND_ONLY, "--cluster-enabled", "yes", "--cluster-node-timeout", "2000")
    with servers(folder, *[options] * 3) as nodes:
        for n, node in enumerate(nodes):
            with node.client() as client:
                first, end = SLOTS * n // 3, SLOTS * (n + 1) // 3
                client.execute_command("CLUSTER ADDSLOTSRANGE", first, end - 1)
                client.execute_command("CLUSTER SET-CONFIG-EPOCH", n + 1)
                client.execute_command("CLUSTER MEET", "127.0.0.1", nodes[0].port)
        for node in nodes:
            wait_for(lambda: _is_whole(node), what="a whole cluster")  # noqa: B023 - called at once
        yield nodes


def _is_whole(node: Server) -> bool:
    with node.client() as client:
        return dict(client.execute_command("CLUSTER INFO"))["cluster_state"] == "ok"


def move_slot(nodes: Sequence[Server], slot: int, home: Server) -> None:
    """Give an empty slot to a node; returns when all of them know it.

    The new owner's word gets the highest epoch, so that what its predecessor said of the slot just before,
    and is still on its way, is believed by nobody.
    """
    with home.client() as client:
        home_id = client.execute_command("CLUSTER MYID")
        client.execute_command("CLUSTER SETSLOT", slot, "NODE", home_id)
        client.execute_command("CLUSTER BUMPEPOCH")
    for node in nodes:
        with node.client() as client:
            client.execute_command("CLUSTER SETSLOT", slot, "NODE", home_id)
    for node in nodes:
        wait_for(lambda: _owner(node, slot) == home_id, what="all know the slot's new home")  # noqa: B023
        wait_for(lambda: _is_whole(node), what="a whole cluster")  # noqa: B023 - called at once


def _owner(node: Server, slot: int) -> str | None:
    with node.client() as client:
        known: dict[str, Any] = client.execute_command("CLUSTER NODES")
    for one in known.values():
        for first, *last in one["slots"]:
            if int(first) <= slot <= int(last[0] if last else first):
                return str(one["node_id"])
    return None


@dataclass(frozen=True)
class Certificates:
    """A CA, and certificates that it signed for the server and for a client; each with its key."""

    folder: Path

    @classmethod
    def make(cls, folder: Path) -> Certificates:
        """Make them, valid for a day."""
        new = cls(folder)
        new.run("req", "-x509", *_KEY, "ca.key", "-out", "ca.pem", "-days", "1", "-subj", "/CN=tests")
        (folder / "san").write_text("subjectAltName=IP:127.0.0.1")
        for name in ("server", "client"):
            new.run("req", *_KEY, f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
            signed = ("-in", f"{name}.csr", "-out", f"{name}.pem", "-days", "1", "-extfile", "san")
            new.run("x509", "-req", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", *signed)
        return new

    def run(self, *command: str) -> None:
        """Run openssl among the files."""
        subprocess.run(["openssl", *command], cwd=self.folder, check=True, capture_output=True)

    def query(self, *, client: bool = True) -> str:
        """Return what a URL says of them."""
        own = f"&ssl_certfile={self.folder}/client.pem&ssl_keyfile={self.folder}/client.key" if client else ""
        return f"ssl_ca_certs={self.folder}/ca.pem{own}"


_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout")


@contextmanager
def behind_tls(server: Server, certificates: Certificates) -> Iterator[int]:
    """Speak TLS for a server, which has none built in, to whoever shows a certificate; yields the port."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(certificates.folder / "ca.pem"))
    context.load_cert_chain(certificates.folder / "server.pem", certificates.folder / "server.key")
    context.verify_mode = ssl.CERT_REQUIRED
    loop = asyncio.new_event_loop()

    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await source.read(65536):
                sink.write(data)
                await sink.drain()
        with suppress(OSError):
            sink.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection("127.0.0.1", server.port)
        await asyncio.gather(pump(reader, to_server), pump(from_server, writer))

    listening = loop.run_until_complete(asyncio.start_server(serve, "127.0.0.1", 0, ssl=context))
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield int(listening.sockets[0].getsockname()[1])
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        listening.close()
        loop.close()

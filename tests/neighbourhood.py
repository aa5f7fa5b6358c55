"""Other projects' programs, each run for a test: on loopback, from files of its own, ended by its pid."""

from __future__ import annotations

import os
import re
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen
from typing import Self

import kombu
from support import needs, process, wait_for
from topology import free_port


@dataclass(frozen=True)
class Neighbour:
    """A server that runs from a file in its folder: it can be given another one, and told to read it."""

    file: Path
    running: Popen[bytes]
    reload_by: signal.Signals

    def reload(self, text: str) -> None:
        """Change its file and have it read, as an operator does while calls are under way."""
        self.file.write_text(text)
        self.running.send_signal(self.reload_by)


@contextmanager
def nginx(folder: Path, servers: str) -> Iterator[Neighbour]:
    """Run nginx with these ``server`` blocks while the block lasts; see ``nginx_file``."""
    folder.mkdir(exist_ok=True)
    file = folder / "nginx.conf"
    file.write_text(nginx_file(folder, servers))
    command = [needs("nginx"), "-p", folder, "-c", file, "-g", "daemon off;"]
    with process(command, env={}, log=folder / "log") as running:
        _listening(file.read_text(), r"listen 127\.0\.0\.1:(\d+)")
        yield Neighbour(file, running, signal.SIGHUP)


def nginx_file(folder: Path, servers: str) -> str:
    """Return a configuration all of whose files are in a folder."""
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    places = "\n".join(f"  {kind}_temp_path {folder}/{kind};" for kind in kinds)
    return (
        f"worker_processes 1;\npid {folder}/pid;\nerror_log {folder}/error.log;\n"
        f"events {{ worker_connections 256; }}\nhttp {{\n{places}\n  access_log off;\n{servers}\n}}\n"
    )


@contextmanager
def haproxy(folder: Path, text: str) -> Iterator[Neighbour]:
    """Run HAProxy with this file while the block lasts; a master keeps it, as in production."""
    folder.mkdir(exist_ok=True)
    file = folder / "haproxy.cfg"
    file.write_text(text)
    with process([needs("haproxy"), "-W", "-db", "-f", file], env={}, log=folder / "log") as running:
        _listening(text, r"bind 127\.0\.0\.1:(\d+)")
        yield Neighbour(file, running, signal.SIGUSR2)


def _listening(text: str, ports: str) -> None:
    def answers() -> bool:
        try:
            for port in re.findall(ports, text):
                socket.create_connection(("127.0.0.1", int(port)), timeout=2).close()
        except OSError:
            return False
        return True

    wait_for(answers, what="a proxy that listens")


class RabbitMQ:
    """A RabbitMQ of its own, which can be killed and started again with what it had on disk."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self._folder, self.port, self._epmd_port = folder, free_port(), free_port()
        self._epmd: Popen[bytes] | None = None
        self._running: Popen[bytes] | None = None
        self._env = os.environ | {
            "HOME": str(folder),  # for Erlang's cookie
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"badges{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_LOG_BASE": str(folder / "logs"),
            "RABBITMQ_CONF_ENV_FILE": str(folder / "none.conf"),
            "RABBITMQ_CONFIG_FILE": str(folder / "none"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_ALLOW_INPUT": "1",  # so that the process is Erlang itself
        }

    @property
    def url(self) -> str:
        """What a broker's URL says of it."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    def __enter__(self) -> Self:
        # One of our own, which ends with it: RabbitMQ's would stay.
        command = [needs("epmd"), "-port", str(self._epmd_port), "-address", "127.0.0.1"]
        self._epmd = Popen(command, env=self._env, stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL)
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        if self._epmd:
            self._epmd.kill()
            self._epmd.wait()

    def start(self) -> None:
        """Start it; returns when it takes connections."""
        with (self._folder / "log").open("ab") as log:
            # The one in Debian's path becomes the user rabbitmq, who may write nothing here.
            program = "/usr/lib/rabbitmq/bin/rabbitmq-server"
            self._running = Popen(
                [program], env=self._env, stdin=PIPE, stdout=log, stderr=log, start_new_session=True
            )
        wait_for(self._answers, within_s=90, what="RabbitMQ")

    def kill(self) -> None:
        """End it, and what it started, without a chance to do anything about it."""
        if self._running and self._running.poll() is None:
            os.killpg(self._running.pid, signal.SIGKILL)
            self._running.communicate()

    def _answers(self) -> bool:
        with suppress(OSError), kombu.Connection(self.url, connect_timeout=2) as broker:
            broker.connect()
            return True
        return False

"""Which way leads to a host: straight, or through the proxy that the environment names.

``HTTPS_PROXY``, ``HTTP_PROXY``, ``ALL_PROXY`` and ``NO_PROXY`` are read in either case, as by any other
program. They are read and checked once, when the client is made, so that a value that can't be used is
refused at start.
"""

from __future__ import annotations

import os
import re
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from ipaddress import ip_address, ip_network
from typing import Self
from urllib.parse import unquote, urlsplit

from worker.domain.org import is_loopback
from worker.errors import ConfigError

SCHEMES = ("http", "https", "all")
PORTS = {"http": 80, "https": 443}
HOW = "write http://host:port, or unset it for this program"
HOST = re.compile(r"[\w.:%-]+")  # of any alphabet
NAME = re.compile(r"[\w.*-]+")
BRACKETS = re.compile(r"\[([^]]*)\](/\d+)?(?::(\d+))?")

Matches = Callable[[str, int], bool]


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy, and the credentials that it wants."""

    url: str  # without credentials
    credentials: tuple[str, str] | None = None

    @property
    def as_sent(self) -> tuple[bytes | str, bytes | str] | None:
        """The credentials as bytes, which may be letters of any alphabet."""
        return (self.credentials[0].encode(), self.credentials[1].encode()) if self.credentials else None

    @property
    def speaks_tls(self) -> bool:
        """Whether the proxy itself is reached over TLS."""
        return self.url.startswith("https:")


@dataclass(frozen=True, slots=True)
class Routes:
    """The proxies by the scheme that they are for, and the hosts that are reached without one."""

    proxies: Mapping[str, Proxy] = field(default_factory=dict)
    bypasses: tuple[Matches, ...] = ()

    @classmethod
    def from_environment(cls) -> Self:
        """Read the environment, or what the system says instead of it.

        Raises:
            ConfigError: a variable can't be used; the text names it and says what to do.
        """
        found = urllib.request.getproxies()
        proxies = {
            scheme: _proxy(found[scheme], _variable(scheme)) for scheme in SCHEMES if found.get(scheme)
        }
        name = _variable("no")
        entries = [entry for part in found.get("no", "").split(",") for entry in part.split()]
        return cls(proxies, tuple(_bypass(entry, name) for entry in entries))

    def proxy_for(self, scheme: str, host: str, port: int | None) -> Proxy | None:
        """Return the proxy for a host; for this machine's own addresses there is never one."""
        proxy = self.proxies.get(scheme) or self.proxies.get("all")
        host = host.strip("[]").lower().rstrip(".")
        if proxy is None or is_loopback(host):
            return None
        if any(matches(host, port or PORTS[scheme]) for matches in self.bypasses):
            return None
        return None if urllib.request.proxy_bypass(host) else proxy


def _variable(scheme: str) -> str:
    """Return the name under which the environment has it."""
    names = (f"{scheme}_proxy", f"{scheme}_proxy".upper())
    return next((name for name in names if os.environ.get(name)), names[1])


def _proxy(value: str, variable: str) -> Proxy:
    """Read a proxy's URL; without a scheme it is ``http://``. No error quotes it: it may hold a secret."""
    url = value.strip() if "://" in value else f"http://{value.strip()}"
    scheme = url.partition("://")[0].lower()
    if scheme.startswith("socks"):
        raise ConfigError(f"{variable}: SOCKS proxies are not supported ({scheme}://): {HOW}")
    try:
        parts = urlsplit(url)
        port, host = PORTS.get(scheme, 0) if parts.port is None else parts.port, parts.hostname or ""
        host.encode("idna")  # which refuses what the system's look-up can't be asked for
    except ValueError:
        port, host = 0, ""
    # A path is what follows a slash in a password that isn't quoted, or a missing one behind the scheme.
    is_host = bool(HOST.fullmatch(host)) and parts.path in ("", "/") and not (parts.query or parts.fragment)
    if scheme not in PORTS or not is_host or not port:
        raise ConfigError(f"{variable} is no proxy's URL: {HOW}")
    credentials = None
    if parts.username is not None:
        credentials = unquote(parts.username), unquote(parts.password or "")
    return Proxy(f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}", credentials)


def _bypass(entry: str, variable: str) -> Matches:
    """Read an entry of ``NO_PROXY``: a name and what ends in it, an address, a network, ``*``; with a port.

    Raises:
        ConfigError: it is none of these, and would match nothing.
    """
    name, port = _split_port(entry.lower())
    if network := _network(name):
        return lambda host, at: port in (None, at) and _is_in(host, network)
    name = name.removeprefix("*.").strip(".")
    if not NAME.fullmatch(name):
        words = f"{variable}: {entry!r} is no host, address or network such as 10.0.0.0/8 or ::1/128"
        raise ConfigError(f"{words}: correct or remove it")
    return lambda host, at: port in (None, at) and (fnmatchcase(host, name) or host.endswith(f".{name}"))


def _split_port(entry: str) -> tuple[str, int | None]:
    """Part ``host:port`` and ``[address]:port``; an IPv6 address without brackets has no port."""
    if found := BRACKETS.fullmatch(entry):
        address, network, port = found.groups(default="")
        return address + network, int(port) if port else None
    name, mark, port = entry.partition(":")
    return (name, int(port)) if mark and port.isdecimal() else (entry, None)


def _network(name: str) -> object | None:
    try:
        return ip_network(name, strict=False)
    except ValueError:
        return None


def _is_in(host: str, network: object) -> bool:
    try:
        return ip_address(host) in network  # type: ignore[operator]
    except ValueError:  # a name
        return False

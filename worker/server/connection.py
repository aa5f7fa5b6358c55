"""The connection to Redis: the one that is configured, or the program's own embedded server.

Who opens it closes it: the last user of an embedded server ends that server. ``BADGES_REDIS_URL`` says
where Redis is, and of what kind; with ``rediss`` for ``redis`` it is spoken to over TLS:

    redis://[user:password@]host[:port][/db]                        one server
    unix:///path[?db=0]                                             one on this machine
    redis+sentinel://[user:password@]host[:port],host/service[/db]  the primary that Sentinels name
    redis+cluster://[user:password@]host[:port],host                a Cluster, found by any of its nodes

Options stand behind a ``?``: ``ssl_ca_certs``, ``ssl_certfile``, ``ssl_keyfile`` (files), ``ssl_cert_reqs``;
``sentinel_username`` and ``sentinel_password`` where the Sentinels have their own. ``BADGES_BROKER_URL`` may
say the same, or any other URL that Celery takes; only a Cluster can't be a broker.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self, cast
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import redis
from pydantic import SecretStr
from redis.backoff import ConstantBackoff, ExponentialWithJitterBackoff, NoBackoff
from redis.cluster import ClusterNode
from redis.connection import parse_url
from redis.retry import Retry
from redis.sentinel import Sentinel

from worker.config import Settings
from worker.errors import ConfigError
from worker.server.cluster import Cluster, reaching
from worker.server.embedded import EmbeddedServer

# Without types in redis-py.
_parse: Callable[[str], dict[str, Any]] = parse_url
_node: Callable[[str, int], ClusterNode] = ClusterNode
_Sentinel: Callable[..., Any] = Sentinel

SCHEMES = (
    *("redis", "rediss", "unix"),
    *("redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster"),
)
REDIS_PORT, SENTINEL_PORT = 6379, 26379
SENTINEL_WITHIN_S = 1.0
HURRIED_S = 3.0  # longer than what is durable may take (``DURABLE_WITHIN_MS``)
NO_BROKER = (
    "a Redis Cluster can't be Celery's broker as well: set BADGES_BROKER_URL to another, such as "
    "redis://host/0 or amqp://user:password@host"
)


@dataclass(frozen=True, slots=True)
class Connection:
    """Where the store and the broker are; usable as a context manager."""

    url: str
    broker_url: str  # as Celery takes it; empty: there is none, since the store is a Cluster
    broker_options: Mapping[str, Any] = field(default_factory=dict)
    server: EmbeddedServer | None = None

    @classmethod
    def open(cls, settings: Settings) -> Connection:
        """Use ``BADGES_REDIS_URL``, or start the embedded server in ``BADGES_DATA_DIR``.

        Raises:
            ConfigError: a URL is wrong; the text says how.
            EmbeddedServerError: it can't be started; the text says what to do instead.
        """
        given = _readable(settings.broker_url, "BADGES_BROKER_URL") if settings.broker_url else None
        if given and _kind(given) == "cluster":
            raise ConfigError(f"BADGES_BROKER_URL: {NO_BROKER}")
        server = None
        if settings.redis_url:
            url = _readable(settings.redis_url, "BADGES_REDIS_URL")
            _check(url)
        else:
            server = EmbeddedServer(data_dir=settings.data_dir)
            server.start()
            url = server.url
        return cls(url, *_broker(given or url), server)

    def client(self, *, hurried: bool = False) -> redis.Redis:
        """Make a client, which repeats a call whose reply was lost.

        A ``hurried`` one is for those who have somebody waiting: it gives up after ``HURRIED_S`` without an
        answer, and repeats only what a lost connection took, once.

        It connects at its first use; to a Cluster at once. That client has the same commands, but its
        ``pipeline`` takes none without a key: ``store/scripts.py`` says more.

        Raises:
            StoreError: no node of the Cluster can be reached.
        """
        options: dict[str, Any] = {
            "decode_responses": True,
            "protocol": 2,
            "socket_timeout": 10,
            "socket_connect_timeout": 5,
            "health_check_interval": 30,
            "retry": Retry(ExponentialWithJitterBackoff(base=0.05, cap=1), 5),
        }
        if hurried:
            again = Retry(ConstantBackoff(0.1), 1, supported_errors=(redis.ConnectionError,))
            options |= {"socket_timeout": HURRIED_S, "socket_connect_timeout": HURRIED_S, "retry": again}
        match _kind(self.url):
            case "cluster":
                others = [_node(*host) for host in _hosts(self.url, REDIS_PORT)[1:]]
                with reaching("the Cluster's nodes"):
                    return cast(redis.Redis, Cluster(url=_plain(self.url), startup_nodes=others, **options))
            case "sentinel":
                return _sentinel(self.url, options)
            case _:
                return redis.Redis.from_url(self.url, **options)

    @property
    def is_own_broker(self) -> bool:
        """Whether the store's server is the broker as well."""
        return self.broker_url == _broker(self.url)[0]

    def close(self) -> None:
        """Leave the embedded server, and end it if nobody else uses it."""
        if self.server:
            self.server.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def is_cluster(url: str) -> bool:
    """Say whether a URL says that it is a Cluster's."""
    return _kind(url) == "cluster"


def _kind(url: str) -> str:
    """Return what the scheme says behind ``redis+``: ``sentinel``, ``cluster`` or nothing."""
    scheme = urlsplit(url).scheme
    return scheme.partition("+")[2] if scheme.startswith("redis") else ""


def _readable(secret: SecretStr, setting: str) -> str:
    """Read a URL before anybody needs it, and return it.

    Raises:
        ConfigError: it can't be read; in words that quote none of it, since there is a password in it.
    """
    url = secret.get_secret_value()
    try:
        ours = urlsplit(url).scheme in SCHEMES
        for one in [url] if ours else url.split(";"):  # Celery takes several brokers
            _hosts(one, 0)
        if ours:
            redis.Redis.from_url(_plain(url)).connection_pool.make_connection()  # which connects to nothing
    except TypeError as error:
        option = re.search(r"argument '(\w+)'", str(error))
        raise ConfigError(
            f"{setting} has an option that Redis's client doesn't know: {option[1] if option else '?'}"
        ) from None
    except ValueError:
        raise ConfigError(
            f"{setting} can't be read: write redis://user:password@host:6379/0, and in a password %2F for /, "
            "%23 for #, %3F for ?, %5B for [, %5D for ], %40 for @, %3A for :, %25 for %"
        ) from None
    return url


def _check(url: str) -> None:
    if urlsplit(url).scheme not in SCHEMES:
        raise ConfigError(f"BADGES_REDIS_URL must begin with one of {', '.join(SCHEMES)}, and then ://")
    if _kind(url) and not all(host for host, _ in _hosts(url, REDIS_PORT)):
        raise ConfigError("BADGES_REDIS_URL names no hosts: redis+sentinel://host:26379,host/service")
    if _kind(url) == "sentinel" and not _service(url):
        raise ConfigError("BADGES_REDIS_URL names no service: redis+sentinel://host:26379,host/service")


def _plain(url: str) -> str:
    """Return the URL as redis-py reads it: with one host, and without this program's own parameters."""
    parts = urlsplit(url)
    kind = _kind(url)
    if not kind:
        return url
    user, at, hosts = parts.netloc.rpartition("@")
    path = f"/{parts.path.strip('/').partition('/')[2]}" if kind == "sentinel" else ""
    options = [(name, value) for name, value in parse_qsl(parts.query) if not name.startswith("sentinel_")]
    scheme = parts.scheme.partition("+")[0]
    return f"{scheme}://{user}{at}{hosts.partition(',')[0]}{path}?{urlencode(options)}"


def _hosts(url: str, port: int) -> list[tuple[str, int]]:
    parts = urlsplit(url)
    if parts.fragment or (parts.netloc and "@" in parts.path + parts.query.partition("=")[0]):
        raise ValueError("a sign in the password ends it")
    hosts = [urlsplit(f"//{host}") for host in parts.netloc.rpartition("@")[2].split(",")]
    return [(host.hostname or "", host.port or port) for host in hosts]


def _service(url: str) -> str:
    return urlsplit(url).path.strip("/").partition("/")[0]


# -- Sentinel


def _sentinel(url: str, options: dict[str, Any]) -> redis.Redis:
    of_server = dict(_parse(_plain(url)))
    for only_one in ("host", "port"):
        of_server.pop(only_one, None)
    if of_server.pop("connection_class", None):
        of_server["ssl"] = True
    sentinels = _Sentinel(_hosts(url, SENTINEL_PORT), sentinel_kwargs=_sentinel_options(url))
    return cast(redis.Redis, sentinels.master_for(_service(url), **(options | of_server)))


def _sentinel_options(url: str) -> dict[str, Any]:
    """Return how to speak to the Sentinels themselves."""
    options = dict(parse_qsl(urlsplit(url).query))
    found: dict[str, Any] = {
        name.removeprefix("sentinel_"): value for name, value in options.items() if name in _SENTINELS_OWN
    }
    if urlsplit(url).scheme.startswith("rediss"):
        found |= {name: value for name, value in options.items() if name.startswith("ssl_")} | {"ssl": True}
    # One that is away must not hold up the question to the next: redis-py would ask it ten times.
    within = {"socket_timeout": SENTINEL_WITHIN_S, "socket_connect_timeout": SENTINEL_WITHIN_S}
    return found | within | {"retry": Retry(NoBackoff(), 0)}


_SENTINELS_OWN = ("sentinel_username", "sentinel_password")


# -- the broker


def _broker(url: str) -> tuple[str, dict[str, Any]]:
    """Return a broker's URL as Celery takes it, and the options of its transport."""
    match _kind(url):
        case "cluster":
            return "", {}
        case "sentinel":
            parts = urlsplit(_checked(_with_own_options(_plain(url))))
            user, at, _ = parts.netloc.rpartition("@")
            tail = f"{parts.path}?{parts.query}" if parts.query else parts.path
            hosts = _hosts(url, SENTINEL_PORT)
            urls = [f"sentinel://{user}{at}{quote(host)}:{port}{tail}" for host, port in hosts]
            options = _sentinel_options(url)
            return ";".join(urls), {"master_name": _service(url), "sentinel_kwargs": options}
        case _:
            return _checked(_as_kombu_has_it(_with_own_options(url))), {}


def _with_own_options(url: str) -> str:
    """Leave out what a Redis's URL says to redis-py alone: kombu takes nothing but these."""
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES:
        return url
    options = [
        (name, value) for name, value in parse_qsl(parts.query) if name.startswith("ssl_") or name == "db"
    ]
    return parts._replace(query=urlencode(options, safe="/")).geturl()


def _as_kombu_has_it(url: str) -> str:
    """Return a ``unix://`` URL in the form that Celery takes, and any other as it is."""
    parts = urlsplit(url)
    if parts.scheme != "unix":
        return url
    options = [("virtual_host" if name == "db" else name, value) for name, value in parse_qsl(parts.query)]
    return f"redis+socket://{parts.netloc}{parts.path}" + (f"?{urlencode(options)}" if options else "")


def _checked(url: str) -> str:
    """Have a server's certificate looked at: kombu 5.7 takes any, if the URL says nothing about TLS."""
    parts = urlsplit(url)
    if parts.scheme != "rediss" or "ssl_" in parts.query:
        return url
    query = "&".join(filter(None, [parts.query, "ssl_cert_reqs=required"]))
    return parts._replace(query=query).geturl()

"""The transport of the calls to the vendor: one connection a call, over a wire that knows the call.

An httpx transport of our own over httpcore's public interfaces, for use in any number of threads: each call
runs in the thread that makes it. Nothing is kept between calls, so nothing of one answer can be taken for the
next one's, and no connection is used that the vendor has just closed. The way through a proxy is chosen here,
since httpx leaves that to its own transport alone.
"""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpcore
import httpx

from worker.errors import ConfigError
from worker.vendor.addresses import Resolver
from worker.vendor.network import Backend, Call, Stage
from worker.vendor.proxies import Proxy, Routes

# httpcore's errors as httpx's; those of the wire go through as they are.
ERRORS = {
    httpcore.ConnectError: httpx.ConnectError,
    httpcore.ReadError: httpx.ReadError,
    httpcore.WriteError: httpx.WriteError,
    httpcore.ProxyError: httpx.ProxyError,
    httpcore.LocalProtocolError: httpx.LocalProtocolError,
    httpcore.RemoteProtocolError: httpx.RemoteProtocolError,
    httpcore.UnsupportedProtocol: httpx.UnsupportedProtocol,
}


HASHED = re.compile(r"[0-9a-f]{8}\.\d+")


class Transport(httpx.BaseTransport):
    """Makes each request on a connection of its own; the request's extension ``call`` bounds it."""

    def __init__(self, *, resolver: Resolver | None = None) -> None:
        self._routes = Routes.from_environment()
        self._tls = trusted()
        self._resolver = resolver or Resolver()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send it and return the answer; closing the answer closes its connection.

        Raises:
            DeadlineError: the call's time is over.
            NotSentError: the request could not leave, and no byte of it did.
            httpx.TransportError: anything else that went wrong.
        """
        call: Call = request.extensions["call"]
        url = httpcore.URL(
            scheme=request.url.raw_scheme,
            host=request.url.raw_host,
            port=request.url.port,
            target=request.url.raw_path,
        )
        assert isinstance(request.stream, httpx.SyncByteStream)  # noqa: S101 - of a request made for threads
        sent = httpcore.Request(request.method, url, headers=request.headers.raw, content=request.stream)
        proxy = self._routes.proxy_for(request.url.scheme, request.url.host, request.url.port)
        with _as_httpx(call):
            answer = self._connection(url, call, proxy).handle_request(sent)
        return httpx.Response(answer.status, headers=answer.headers, stream=_Body(answer, call))

    def _connection(
        self, url: httpcore.URL, call: Call, proxy: Proxy | None
    ) -> httpcore.HTTPConnection | httpcore.HTTPProxy:
        backend = Backend(call, self._resolver, tunnels=proxy is not None and url.scheme == b"https")
        if proxy is None:
            return httpcore.HTTPConnection(url.origin, ssl_context=self._tls, network_backend=backend)
        return httpcore.HTTPProxy(
            proxy.url,
            proxy_auth=proxy.as_sent,
            ssl_context=self._tls,
            proxy_ssl_context=self._tls if proxy.speaks_tls else None,
            network_backend=backend,
        )


class _Body(httpx.SyncByteStream):
    """The body as it comes, packed as it is."""

    def __init__(self, answer: httpcore.Response, call: Call) -> None:
        self._answer, self._call = answer, call

    def __iter__(self) -> Iterator[bytes]:
        with _as_httpx(self._call):
            yield from self._answer.iter_stream()

    def close(self) -> None:
        self._call.close()


@contextmanager
def _as_httpx(call: Call) -> Iterator[None]:
    """Raise httpx's errors; of what a proxy said nothing but its status is quoted."""
    try:
        yield
    except (httpcore.ReadError, httpcore.WriteError, httpcore.ProtocolError, httpcore.ProxyError) as error:
        if call.stage is Stage.PROXY:
            raise httpx.ProxyError(_of_proxy(error)) from error
        raise ERRORS[type(error)](str(error)) from error
    except tuple(ERRORS) as error:
        raise ERRORS[type(error)](str(error)) from error


def _of_proxy(error: Exception) -> str:
    status = str(error).partition(" ")[0]
    if isinstance(error, httpcore.ProxyError) and status.isdigit():
        return f"the proxy answered {status}" + (": it wants credentials" if status == "407" else "")
    return "the proxy gave no answer that can be read"


def trusted() -> ssl.SSLContext:
    """Return what certificates are held against: ``SSL_CERT_FILE``, ``SSL_CERT_DIR``, or what httpx brings.

    Raises:
        ConfigError: one of these can't be used; the text names it.
    """
    file, folder = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    if file and not Path(file).exists():
        raise ConfigError(f"SSL_CERT_FILE: there is no {file}: correct it, or unset it for this program")
    if folder:
        _check_folder(folder, alone=not file)
    try:
        context = httpx.create_ssl_context()
        if file and folder:
            context.load_verify_locations(capath=folder)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise ConfigError(_unusable(file, folder, error)) from None
    return context


def _check_folder(folders: str, *, alone: bool) -> None:
    """See that there is something to find: OpenSSL looks for a certificate by the hash of its name."""
    there = [Path(one) for one in folders.split(os.pathsep) if Path(one).is_dir()]
    if not there:
        raise ConfigError(
            f"SSL_CERT_DIR: there is no folder {folders}: correct it, or unset it for this program"
        )
    if alone and not any(HASHED.fullmatch(entry.name) for folder in there for entry in folder.iterdir()):
        cure = f"run openssl rehash {there[0]}, or unset it for this program"
        raise ConfigError(f"SSL_CERT_DIR: {folders} holds no certificates by their hashes: {cure}")


def _unusable(file: str | None, folder: str | None, error: Exception) -> str:
    """Say by which variable OpenSSL was led to what it can't use."""
    secrets = os.environ.get("SSLKEYLOGFILE")
    if secrets and isinstance(error, OSError) and error.filename == secrets:
        return f"SSLKEYLOGFILE: {secrets} can't be written: {error.strerror}: correct it, or unset it"
    name = "SSL_CERT_FILE" if file else "SSL_CERT_DIR"
    return f"{name}: {file or folder} holds no certificates that can be read: {error}"

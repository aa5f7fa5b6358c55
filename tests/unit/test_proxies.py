"""The environment's proxies: which host goes which way, and what is refused before anything is sent."""

from __future__ import annotations

from pathlib import Path

import certifi
import pytest

from worker.errors import ConfigError
from worker.vendor.client import VendorClient
from worker.vendor.proxies import Proxy, Routes

PROXY = "http://proxy.test:3128"
VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Clear it."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    return monkeypatch


def goes_around(host: str, port: int | None = None) -> bool:
    """Say whether a host is reached without the proxy."""
    return Routes.from_environment().proxy_for("https", host, port) is None


@pytest.mark.parametrize(
    ("no_proxy", "around", "through"),
    [
        ("", [], ["vendor.test"]),
        ("*", ["vendor.test", "10.0.0.1"], []),
        ("vendor.test", ["vendor.test", "VENDOR.TEST", "eu.vendor.test", "vendor.test."], ["myvendor.test"]),
        (".vendor.test", ["eu.vendor.test", "vendor.test"], ["myvendor.test"]),
        ("*.vendor.test", ["eu.vendor.test"], ["other.test"]),
        ("localhost,::1/128", [], ["vendor.test"]),
        ("10.0.0.0/8 192.168.1.7", ["10.1.2.3", "192.168.1.7"], ["11.0.0.1", "192.168.1.8", "vendor.test"]),
        ("fd00::/8,[2001:db8::1]", ["fd12::1", "[fd12::1]", "2001:db8::1"], ["2001:db8::2"]),
        ("[fd00::]/8", ["fd12::1"], ["2001:db8::2"]),
        (" , vendor.test ,", ["vendor.test"], ["other.test"]),
        ("vendor.*,10.*", ["vendor.test", "10.1.2.3"], ["other.test", "11.0.0.1"]),
        ("[2001:db8::1]:443", ["2001:db8::1"], ["2001:db8::2"]),
        ("[2001:db8::1]:80", [], ["2001:db8::1"]),
    ],
)
def test_no_proxy(
    environment: pytest.MonkeyPatch, no_proxy: str, around: list[str], through: list[str]
) -> None:
    """Names, what ends in them, addresses and networks, as other programs take them."""
    environment.setenv("HTTPS_PROXY", PROXY)
    environment.setenv("NO_PROXY", no_proxy)
    assert [host for host in around if not goes_around(host)] == []
    assert [host for host in through if goes_around(host)] == []


def test_no_proxy_with_a_port(environment: pytest.MonkeyPatch) -> None:
    """Then it is that port's alone; none is the scheme's own."""
    environment.setenv("HTTPS_PROXY", PROXY)
    environment.setenv("NO_PROXY", "vendor.test:443")
    assert goes_around("vendor.test")
    assert not goes_around("vendor.test", 8443)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.8.8", "[::1]", "::1"])
def test_loopback_goes_around(environment: pytest.MonkeyPatch, host: str) -> None:
    """Whatever the environment says."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        environment.setenv(name, PROXY)
    assert goes_around(host)


@pytest.mark.parametrize(
    ("value", "proxy"),
    [
        (PROXY, Proxy(PROXY)),
        ("proxy.test:3128", Proxy(PROXY)),
        ("http://proxy.test:3128/", Proxy(PROXY)),
        ("HTTPS://proxy.test", Proxy("https://proxy.test:443")),
        ("http://us%40er:p%3Ass@proxy.test:3128", Proxy(PROXY, ("us@er", "p:ss"))),
        ("http://[::1]:3128", Proxy("http://[::1]:3128")),
    ],
)
def test_a_proxys_url(value: str, proxy: Proxy) -> None:
    """With or without a scheme, credentials and a port; in either case of the variable's name."""
    for name in ("https_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        with pytest.MonkeyPatch.context() as only:
            only.setenv(name, value)
            assert Routes.from_environment().proxy_for("https", "vendor.test", None) == proxy


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "HTTP_PROXY"])
@pytest.mark.parametrize(
    "value",
    [
        "socks5://proxy.test:1080",
        "socks://proxy.test",
        "http://secret:pw@",
        "ftp://proxy.test",
        "http://a:b:c",
        "a b",
        "http://user:12/34secret@proxy.test:3128",
        "http:/proxy.test:3128",
        "http//proxy.test:3128",
        "http://proxy.test:3128/proxy.pac",
        "http://proxy.test:0",
        "http://proxy.test:99999",
        "http://proxy..test:3128",
        "http://*:3128",
        "http://[zz]:3128",
        "quic://proxy.test:1",
    ],
)
def test_a_proxy_that_cant_be_used_is_refused(environment: pytest.MonkeyPatch, name: str, value: str) -> None:
    """By the variable's name, with a cure; SOCKS by its own; its credentials are not quoted."""
    environment.setenv(name, value)
    with pytest.raises(ConfigError, match=name) as refused:
        VendorClient()
    assert ("SOCKS" in str(refused.value)) == value.startswith("socks")
    assert "unset it" in str(refused.value)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "entry",
    [
        *("10.0.0.0/99", "::1/129", "vendor.test/path", "fe80::zz", "http://vendor.test", "vendor.test:"),
        *("vendor.test;other.test", "<local>", "[::1", "[::1]:x", "*.", "."),
    ],
)
def test_no_proxy_that_cant_be_read_is_refused(environment: pytest.MonkeyPatch, entry: str) -> None:
    """What looks like an address and is none would silently match nothing."""
    environment.setenv("NO_PROXY", f"localhost,{entry}")
    with pytest.raises(ConfigError, match=r"NO_PROXY.*correct or remove it"):
        VendorClient()


@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_certificates_that_arent_there_are_refused(
    environment: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    """By the variable's name; a file without certificates too."""
    environment.setenv(name, str(tmp_path / "nothing"))
    with pytest.raises(ConfigError, match=name):
        VendorClient()
    (tmp_path / "empty").write_text("no certificate")
    environment.setenv("SSL_CERT_DIR", str(tmp_path))
    environment.setenv("SSL_CERT_FILE", str(tmp_path / "empty"))
    with pytest.raises(ConfigError, match="SSL_CERT_FILE"):
        VendorClient()


def test_certificates_that_nobody_would_find_are_refused(
    environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """OpenSSL looks for them by their hashes: without these it would trust nobody."""
    (tmp_path / "ca.pem").write_bytes(Path(certifi.where()).read_bytes())
    environment.setenv("SSL_CERT_DIR", str(tmp_path))
    with pytest.raises(ConfigError, match=r"SSL_CERT_DIR.*openssl rehash"):
        VendorClient()
    (tmp_path / "ca.pem").rename(tmp_path / "0a1b2c3d.0")
    VendorClient()


def test_a_log_of_secrets_that_cant_be_written_is_refused(
    environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """By its own variable's name."""
    environment.setenv("SSLKEYLOGFILE", str(tmp_path))
    with pytest.raises(ConfigError, match="SSLKEYLOGFILE"):
        VendorClient()

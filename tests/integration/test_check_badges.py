"""Looking before sending (--check-badges): once for each badge, before the first row goes out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from support import BADGE, FIRST_CUSTOMER, OTHER_BADGE, badges, environment

from worker.sandbox.issued import Fault, SandboxSettings
from worker.sandbox.server import SandboxServer
from worker.server.connection import Connection
from worker.store import keys

MISSING = "000000000000000000000bad"
UNKNOWN = [MISSING, "00000000000000000000dead"]


@pytest.fixture
def vendor() -> Iterator[SandboxServer]:
    """A vendor that doesn't know some badges."""
    with SandboxServer(settings=SandboxSettings(unknown_badges=frozenset(UNKNOWN))) as sandbox:
        yield sandbox


@pytest.fixture
def env(connection: Connection, client: redis.Redis, vendor: SandboxServer) -> dict[str, str]:
    """An empty server, and the vendor."""
    client.flushall()
    return environment(redis_url=connection.url, api_base_url=vendor.url, rate_limit="1000/second")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Rows of four badges, two of which nobody knows; one of them is written in two ways."""
    of = (
        [BADGE] * 30 + [OTHER_BADGE] * 5 + [MISSING] * 20 + [UNKNOWN[1]] * 3 + [BADGE.upper()] * 2 + ["a?c#d"]
    )
    lines = [f"{badge},{FIRST_CUSTOMER + n},1674292011" for n, badge in enumerate(of)]
    path = tmp_path / "rows.csv"
    path.write_text("\n".join(["badgeMetaId,customerId,earnEventDate", *lines, f"{BADGE},C1,1674292011"]))
    return path


def reads(vendor: SandboxServer) -> int:
    """Return how many reads came to the vendor; nothing else may have."""
    exchanges = vendor.vendor.ledger().exchanges
    assert {one.endpoint for one in exchanges} <= {"read"}
    return len(exchanges)


def known(found: list[dict[str, Any]]) -> dict[str, tuple[int, bool | None]]:
    """Return the rows of each badge, and whether it is known."""
    return {one["badgeMetaId"]: (one["rows"], one["known"]) for one in found}


EXPECTED = {
    BADGE: (30, True),
    OTHER_BADGE: (5, True),
    MISSING: (20, False),
    UNKNOWN[1]: (3, False),
    BADGE.upper(): (2, True),
}


def test_a_check_says_how_many_rows_name_a_badge_that_the_org_doesnt_know(
    env: dict[str, str], vendor: SandboxServer, file: Path, client: redis.Redis
) -> None:
    """With one call for each of the badges, paid from the org's limit, and nothing enqueued."""
    done = badges("import", file, "--dry-run", "--check-badges", "--json", env=env, expect=3)
    found = known(json.loads(done.stdout)["badges"])
    assert found.items() >= EXPECTED.items()
    assert reads(vendor) == len({badge.lower() for badge in found})
    assert int(client.hget(keys.key("default", "stats"), "requests") or 0) == reads(vendor)
    assert not client.exists(keys.key("default", "queue"))
    shown = badges("import", file, "--dry-run", "--check-badges", env=env, expect=3).stdout.decode()
    assert f"20 name {MISSING}, which the vendor doesn't know" in shown
    without = badges("import", file, "--dry-run", "--json", env=env, expect=3)
    assert {one["known"] for one in json.loads(without.stdout)["badges"]} == {None}


def test_an_import_asks_before_the_first_row(
    env: dict[str, str], vendor: SandboxServer, file: Path, client: redis.Redis
) -> None:
    """Where nobody can be asked it refuses and says what; --yes lets it go on."""
    refused = badges("import", file, "--check-badges", "--json", env=env, expect=2)
    assert b"24 rows would go in" in refused.stderr
    assert b"3 badges" in refused.stderr
    assert b"--yes" in refused.stderr
    assert not client.exists(keys.key("default", "queue"))
    done = badges("import", file, "--check-badges", "--json", "--yes", env=env, expect=3)
    said = json.loads(done.stdout)
    assert (said["accepted"], said["invalid"]) == (61, 1)
    assert known(said["badges"]).items() >= EXPECTED.items()
    assert "badges" not in json.loads(badges("import", file, "--json", env=env).stdout)
    assert reads(vendor) == 10


def test_a_file_of_known_badges_goes_in_unasked(
    env: dict[str, str], vendor: SandboxServer, tmp_path: Path
) -> None:
    """There is nothing to ask about."""
    path = tmp_path / "good.csv"
    path.write_text(f"badgeMetaId,customerId,earnEventDate\n{BADGE},{FIRST_CUSTOMER},1674292011\n")
    shown = badges("import", path, "--check-badges", env=env).stdout.decode()
    assert "The vendor knows its badge." in shown
    assert "1 accepted" in shown
    assert reads(vendor) == 1


@pytest.mark.parametrize("status", [500, 403, 429, 401])
def test_what_the_vendor_doesnt_say_is_never_missing(
    env: dict[str, str], vendor: SandboxServer, file: Path, status: int
) -> None:
    """An answer of another kind leaves it open, with the reason, and the import goes on."""
    vendor.vendor.add_fault(Fault(fault="status", status=status, on="read"))
    done = badges("import", file, "--check-badges", "--json", env=env, expect=3)
    assert {one["known"] for one in json.loads(done.stdout)["badges"]} == {None}
    assert b"couldn't be told of" in done.stderr


def test_what_can_be_read_once_or_has_no_vendor_is_refused(env: dict[str, str], file: Path) -> None:
    """Before anything goes in."""
    refused = badges("import", "-", "--check-badges", env=env, stdin=file.read_bytes(), expect=2)
    assert b"standard input" in refused.stderr
    nowhere = {name: value for name, value in env.items() if name != "BADGES_API_BASE_URL"}
    for more in ([], ["--dry-run"]):
        refused = badges("import", file, "--check-badges", *more, env=nowhere, expect=2)
        assert b"API_BASE_URL" in refused.stderr


def test_a_404_means_unknown(env: dict[str, str], vendor: SandboxServer, file: Path) -> None:
    """As 1054 does."""
    vendor.vendor.add_fault(Fault(fault="status", status=404, on="read"))
    done = badges("import", file, "--check-badges", "--json", env=env, expect=2)
    assert b"62 rows" in done.stderr or b"61 rows" in done.stderr

"""The intake's document and page: what linters, generators and browsers without internet make of them."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from urllib.parse import urljoin

import httpx
import pytest
from support import BADGE, NEIGHBOURS, environment, needs, serving

from worker.domain.org import Org
from worker.server.connection import Connection
from worker.web.document import operation_id

KEY = "acme-key-7f3a-marker"
SCHEMATHESIS = """
[checks.negative_data_rejection]
enabled = false # an item that is no badge is told so in its own row, and the others are accepted

[checks.positive_data_acceptance]
expected-statuses = ["2xx", "401", "404", "422", "429"] # 422: an Idempotency-Key that was used before
"""
OFFLINE = {"REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true"}


@pytest.fixture(scope="module")
def intake(connection: Connection, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An intake of two orgs, which are at different paths of the vendor's."""
    folder = tmp_path_factory.mktemp("intake")
    orgs = folder / "orgs.toml"
    orgs.write_text(
        f'[acme]\napi_base_url = "https://a.example.com"\nintake_keys = "{KEY}"\n'
        '[other]\napi_base_url = "https://b.example.com"\napi_path = "/v2/badges_import"\n'
    )
    env = environment(redis_url=connection.url, orgs_file=orgs)
    with serving(
        ["intake", "--port", 0, "--rate", "6000/minute"], env=env, log=folder / "log", says="intake"
    ) as (url, _):
        yield url


@pytest.fixture(scope="module")
def open_intake(connection: Connection, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An intake that asks for no key."""
    env = environment(redis_url=connection.url, api_base_url="https://a.example.com")
    log = tmp_path_factory.mktemp("open") / "log"
    with serving(["intake", "--port", 0, "--no-auth"], env=env, log=log, says="intake") as (url, _):
        yield url


@pytest.fixture
def document(intake: str, tmp_path: Path) -> Path:
    """Its document, as a file."""
    return _saved(intake, tmp_path)


def _saved(intake: str, folder: Path) -> Path:
    file = folder / "openapi.json"
    file.write_text(httpx.get(f"{intake}/openapi.json").raise_for_status().text)
    return file


def run(command: list[object], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a tool, which is to call nobody."""
    env = os.environ | OFFLINE | {"PYTHONPATH": str(folder)}
    return subprocess.run(
        [str(part) for part in command],
        cwd=folder, capture_output=True, text=True, timeout=90, check=False, env=env,
    )  # fmt: skip


def test_an_intake_that_asks_for_no_key_says_so(open_intake: str) -> None:
    """Else a generated client wants one."""
    loaded = httpx.get(f"{open_intake}/openapi.json").raise_for_status().json()
    assert loaded["security"] == []
    assert "securitySchemes" not in loaded["components"]


@pytest.mark.neighbour("redocly")
@pytest.mark.parametrize("which", ["intake", "open_intake"])
def test_redocly_finds_nothing(which: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Its recommended rules: no error, and no warning either."""
    document = _saved(request.getfixturevalue(which), tmp_path)
    done = run(
        [needs("redocly"), "lint", "--extends", "recommended", "--format", "json", document], document.parent
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["problems"] == []


@pytest.mark.neighbour("spectral")
def test_spectral_finds_nothing(document: Path) -> None:
    """Its rules for OpenAPI: not even a hint."""
    rules = document.parent / "rules.yaml"
    rules.write_text('extends: ["spectral:oas"]\n')
    done = run([needs("spectral"), "lint", "-r", rules, "-F", "hint", document], document.parent)
    assert (done.returncode, done.stdout) == (0, "No results with a severity of 'hint' or higher found!\n"), (
        done.stdout + done.stderr
    )


def test_each_form_and_operation_has_a_name(document: Path) -> None:
    """For generators: no inline forms, plain ids, servers, and keys exactly where they are asked for."""
    loaded = json.loads(document.read_text())
    operations = {its["operationId"]: its for path in loaded["paths"].values() for its in path.values()}
    assert set(operations) == {
        *("importBadges", "importBadgesByPost", "createToken", "getRun", "getRunResults", "getHealth"),
        *("importBadgesAtV2BadgesImport", "importBadgesAtV2BadgesImportByPost"),
    }
    for name, its in operations.items():
        assert its["tags"], name
        assert ("security" in its and not its["security"]) == (name in ("createToken", "getHealth")), name
        for body in (its.get("requestBody"), *its["responses"].values()):
            for kind, content in (body or {}).get("content", {}).items():
                schema = content["schema"].get("items", content["schema"])
                assert set(schema) == {"$ref"} or kind != "application/json", (name, schema)
    assert [server["url"] for server in loaded["servers"]] == ["."]
    assert {name for one in loaded["security"] for name in one} == set(
        loaded["components"]["securitySchemes"]
    )
    assert '"title"' not in json.dumps(loaded["components"])


def test_operations_of_any_paths_differ() -> None:
    """Also where an org has another path."""
    paths = ("/a/b", "/a-b/c", "/v2/badges_import", Org().api_path)
    names = [operation_id(path, method, Org().api_path) for path in paths for method in ("PUT", "POST")]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch("[A-Za-z0-9]+", name) for name in names)


@pytest.mark.parametrize("accept", ["gzip", "identity"])
def test_the_page_is_served_without_the_internet(intake: str, accept: str) -> None:
    """All that it loads is here, and under whatever path a proxy has put the intake."""
    with httpx.Client(headers={"Accept-Encoding": accept}) as http:
        page = http.get(f"{intake}/docs").raise_for_status()
        links = re.findall(r"""(?:src|href)=["']([^"']+)|url: ["']([^"']+)""", page.text)
        loaded = [one or other for one, other in links]
        assert "://" not in page.text
        assert {"docs/swagger-ui.css", "docs/swagger-ui-bundle.js", "openapi.json"} <= set(loaded)
        for link in loaded:
            if not link.startswith("data:"):
                assert http.get(urljoin(f"{intake}/docs", link)).raise_for_status().content
        script = http.get(f"{intake}/docs/swagger-ui-bundle.js")
        assert b"SwaggerUIBundle" in script.content[:1000]
        assert http.get(f"{intake}/docs/LICENSE").status_code == 404, "nothing but what the page needs"


@pytest.mark.neighbour("swagger-ui-dist")
@pytest.mark.parametrize("name", ["swagger-ui-bundle.js", "swagger-ui.css"])
def test_the_pages_files_are_swagger_uis_own(name: str) -> None:
    """Byte for byte those of the version that the lists name, with its licence beside them."""
    folder = resources.files("worker.web").joinpath("page")
    theirs = needs("swagger-ui-dist")
    assert gzip.decompress(folder.joinpath(f"{name}.gz").read_bytes()) == (theirs / name).read_bytes()
    assert folder.joinpath("LICENSE").read_text() == (theirs / "LICENSE").read_text()


@pytest.mark.neighbour("schemathesis")
def test_it_keeps_to_its_own_schema_whatever_is_called(intake: str, tmp_path: Path) -> None:
    """Schemathesis calls what the schema allows, and what it doesn't: no answer is outside of it."""
    (tmp_path / "schemathesis.toml").write_text(SCHEMATHESIS)
    done = run(
        [needs("schemathesis"), "run", f"{intake}/openapi.json", "--header", f"X-API-Key: {KEY}",
         "--phases", "examples,coverage,fuzzing", "--max-examples", "10", "--generation-deterministic",
         "--workers", "1", "--no-color", "--max-time", "15"], tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


@pytest.mark.neighbour("openapi-python-client")
def test_a_generated_client_reads_well_and_works(intake: str, document: Path, tmp_path: Path) -> None:
    """What is generated has names that a person would give, and does what they say."""
    generator = needs("openapi-python-client")
    run([generator, "generate", "--path", document, "--meta", "none", "--output-path",
         tmp_path / "badge_intake_client"], tmp_path)  # fmt: skip
    names = {file.stem for file in (tmp_path / "badge_intake_client/models").glob("*.py")}
    assert {"badge_issue", "accepted", "item_row", "run_progress", "failure", "token_request"} <= names
    command = [generator.with_name("python"), NEIGHBOURS / "programs/use_generated_client.py"]
    done = run([*command, intake, KEY, BADGE], tmp_path)
    assert (done.returncode, done.stdout) == (0, "1 1 404\n"), done.stdout + done.stderr

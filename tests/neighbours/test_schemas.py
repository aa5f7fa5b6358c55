"""What is written for other programs, held against their own schemas; and the documentation as a site."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from support import needs

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
KUBERNETES = "1.34"
ELSEWHERE = ("keda.sh", "monitoring.coreos.com")  # kinds that Kubernetes doesn't bring


def run(name: str, *arguments: object, cwd: Path) -> None:
    """Run a neighbour, which is to find nothing wrong."""
    command = [str(needs(name)), *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.neighbour("check-jsonschema")
def test_the_compose_file_is_valid(tmp_path: Path) -> None:
    """The file is what the compose specification says."""
    file = ROOT / "docker-compose.yml"
    run("check-jsonschema", "--builtin-schema", "vendor.compose-spec", file, cwd=tmp_path)


@pytest.mark.neighbour("kubernetes-validate")
@pytest.mark.parametrize("file", sorted((DEPLOY / "kubernetes").glob("*.yaml")), ids=lambda file: file.stem)
def test_kubernetes_objects_are_valid(file: Path, tmp_path: Path) -> None:
    """Kubernetes' own kinds keep its schema, strictly."""
    if file.stem == "kustomization":
        return
    documents = [
        document
        for document in yaml.safe_load_all(file.read_text())
        if document["apiVersion"].partition("/")[0] not in ELSEWHERE
    ]
    (tmp_path / file.name).write_text(yaml.safe_dump_all(documents))
    run("kubernetes-validate", "--strict", "-k", KUBERNETES, file.name, cwd=tmp_path)


@pytest.mark.neighbour("zensical")
def test_the_site_is_whole_and_needs_no_other_server(tmp_path: Path) -> None:
    """Built with broken links as failures; nothing that it loads is elsewhere."""
    shutil.copytree(DEPLOY / "docs", tmp_path / "docs")
    shutil.copy(DEPLOY / "zensical.toml", tmp_path)
    run("zensical", "build", "--strict", "-f", tmp_path / "zensical.toml", cwd=tmp_path)
    pages = list((tmp_path / "site").glob("*.html"))
    assert {page.stem for page in (DEPLOY / "docs").glob("*.md")} <= {page.stem for page in pages}
    for page in pages:
        tags = [part.partition(">")[0] for part in page.read_text().split("<")]
        loads = [tag for tag in tags if tag.startswith(("script", "link", "img", "iframe"))]
        assert not [tag for tag in loads if "//" in tag]

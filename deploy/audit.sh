#!/usr/bin/env bash
# Looks up known vulnerabilities of everything the image holds, and writes what that is: sbom.json (CycloneDX).
# Fails where a package couldn't be looked up, too: no news is no good news. Wants a package index with advisories.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/tools" && "$work/tools/bin/pip" install -q pip-audit==2.10.1 cyclonedx-bom==7.5.0
python3 -m venv --without-pip "$work/image"
"$work/tools/bin/pip" --python "$work/image/bin/python" install -q --require-hashes -r deploy/requirements.txt
"$work/tools/bin/cyclonedx-py" environment "$work/image/bin/python" --pyproject pyproject.toml \
  --output-reproducible --output-file "${1:-sbom.json}"
"$work/tools/bin/pip-audit" --strict --disable-pip --require-hashes -r deploy/requirements.txt

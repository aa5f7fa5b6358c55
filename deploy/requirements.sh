#!/usr/bin/env bash
# Writes anew what the image is built from: every package it holds, and what builds it, each file by its hash.
#   python3 -m venv /tmp/uv && /tmp/uv/bin/pip install -q uv && PATH=/tmp/uv/bin:$PATH deploy/requirements.sh
set -euo pipefail
cd "$(dirname "$0")/.."
options=(--constraint deploy/constraints.txt --python-version 3.11.9 --python-platform linux
  --generate-hashes --no-header --no-annotate --quiet)
uv pip compile pyproject.toml --extra flower --extra intake --extra tracing --extra console "${options[@]}" \
  --output-file deploy/requirements.txt
uv pip compile <(sed -n 's/^requires = \["\(hatchling.*\)"\]$/\1/p' pyproject.toml) "${options[@]}" \
  --output-file deploy/requirements-build.txt

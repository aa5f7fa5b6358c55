"""The command ``badges`` where a package isn't installed: ``without.py PACKAGE COMMAND…``."""

from __future__ import annotations

import sys

sys.modules[sys.argv.pop(1)] = None  # type: ignore[assignment] # what importing it then raises is the case

from worker.cli import main  # noqa: E402

main()

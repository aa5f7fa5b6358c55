"""The command ``badges`` of a later version, which writes and reads records of a further version."""

from __future__ import annotations

from worker.cli import main
from worker.store import record

record.RECORD_VERSION += 1
main()

"""``python -m worker.cli`` is ``badges``."""

from worker.cli import main

main()

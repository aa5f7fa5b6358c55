"""``python -m worker.cli`` is ``badges``."""

from worker.cli.root import main

main()

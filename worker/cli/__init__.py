"""The command ``badges``: ``root.py`` puts the commands together; each is thin, and calls ``operate``."""

from worker.cli.root import cli, main

__all__ = ["cli", "main"]

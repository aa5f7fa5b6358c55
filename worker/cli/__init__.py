"""The command ``badges``: ``root.py`` puts the commands together; each is thin, and calls ``operate``.

Nothing is loaded here but what must come before everything else (``start.py``).
"""

from typing import NoReturn

from worker.cli import start


def main() -> NoReturn:
    """Run the command line; the process ends with its exit status."""
    start.prepare()
    from worker.cli import root  # noqa: PLC0415 - it takes a second, in which Ctrl-C must be quiet already

    root.main()

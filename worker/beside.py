"""One of our programs in a process of its own beside this one: it ends with the block that runs it.

And with this process, if that is killed without a chance to end it: so the program itself looks after its
parent (``end_with``).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO

END_S = 10.0
LOOK_S = 1.0


@contextmanager
def running(
    module: str,
    *arguments: object,
    environment: Mapping[str, str] | None,
    output: IO[bytes] | None = None,
    end_s: float = END_S,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a module for as long as the block lasts.

    Args:
        module: what ``python -m`` runs.
        arguments: its arguments, which everybody on the machine sees.
        environment: its environment; this process's own where it is ``None``.
        output: where its output goes; where ours does by default.
        end_s: how long it may take to end, before it is killed.
    """
    command = [sys.executable, "-P", "-m", module, *map(str, arguments)]
    # In a session of its own: Ctrl-C is for this process, which then ends the other one.
    process = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(end_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def end_with(parent: int) -> None:
    """End this process by SIGTERM once its parent is gone; until somebody listens, that is an exit."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    threading.Thread(target=_watch, args=(parent,), name="parent", daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK_S)
    os.kill(os.getpid(), signal.SIGTERM)

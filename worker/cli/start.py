"""What comes before anything is loaded: usable standard streams, and a Ctrl-C without a traceback."""

from __future__ import annotations

import gc
import io
import os
import signal
import sys
from types import FrameType

AGAIN_S = 0.01  # after which a lost interrupt comes again
GARBAGE_AFTER = 5_000  # new objects, after which it is looked for; at Python's 700 a tenth of an import


def prepare() -> None:
    """Make the process fit for a command line; to be called once, before the heavy modules are loaded."""
    # While modules are loaded, Ctrl-C ends the process as it ends any other program; root.py takes over.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    gc.set_threshold(GARBAGE_AFTER)
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # one that knows ASCII only must not end a command half-way
            stream.reconfigure(errors="backslashreplace")


def take_over_interrupts() -> None:
    """Let Ctrl-C raise ``KeyboardInterrupt`` again, once everything is loaded."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGALRM, _heard_late)
        sys.unraisablehook = _interrupt_again


def _interrupt_again(lost: sys.UnraisableHookArgs) -> None:
    """Repeat an interrupt that met a finalizer or a callback of Python's own, which drops what it raises."""
    if issubclass(lost.exc_type, KeyboardInterrupt):
        signal.setitimer(signal.ITIMER_REAL, AGAIN_S)
    else:
        sys.__unraisablehook__(lost)


def _heard_late(_number: int, frame: FrameType | None) -> None:
    """Raise the interrupt that was lost, unless what repeats it is still at it, which would lose it too."""
    while frame:
        if frame.f_code is _interrupt_again.__code__:
            signal.setitimer(signal.ITIMER_REAL, AGAIN_S)
            return
        frame = frame.f_back
    raise KeyboardInterrupt


def _open_closed_streams() -> None:
    """Give a closed stream's number to the null device: a socket with it would get what is written there.

    Standard input stays ``None``, so that a command that wants to read it can say that it is closed.
    """
    for number, stream in enumerate((sys.stdin, sys.stdout, sys.stderr)):
        if stream is None:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
            os.set_inheritable(number, True)
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", closefd=False)

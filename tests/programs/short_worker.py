"""A worker that holds for stuck within seconds what takes minutes; its first argument is a fault to have.

``pool``: calls of the vendor never end. ``wake-up``: that thread hangs. ``consumer``: its loop hangs.
``dies``: the wake-up thread dies. ``heartbeat-dies``: that one does. ``unrecoverable``: no consumer begins.
``none``: it has none.
"""

from __future__ import annotations

import sys
import threading
from typing import NoReturn

from worker.app import app
from worker.cli import main
from worker.process import consumer, heartbeat, wakeup
from worker.process.timing import Timing
from worker.vendor.client import VendorClient


def _hang(*_: object, **__: object) -> NoReturn:
    threading.Event().wait()
    raise AssertionError


def _fail(*_: object, **__: object) -> NoReturn:
    raise ValueError("something that nobody thought of")


def _die(*_: object, **__: object) -> NoReturn:
    sys.exit()


FAULTS = {
    "pool": (VendorClient, "put", _hang),
    "wake-up": (wakeup, "send_due", _hang),
    "dies": (wakeup, "send_due", _die),
    "unrecoverable": (consumer.Consumer, "create_task_handler", _fail),
    "heartbeat-dies": (heartbeat.Heartbeat, "stuck", _fail),
    "consumer": (consumer, "fault_of", _hang),
}

fault = sys.argv.pop(1)
if fault != "none":
    setattr(*FAULTS[fault])
# A call may take 2 seconds (HTTP_TIMEOUT_S=1, and one for a token): 4 seconds for everything.
app.conf.timing = Timing(beat_s=0.5, sweep_s=1, loop_stuck_s=4, delivery_spare_s=2)
main()

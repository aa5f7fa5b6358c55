"""The task that imports a file which was uploaded to the console, slice by slice (``operate/staging.py``)."""

from __future__ import annotations

import time

from celery import Task

from worker.app import app, services
from worker.errors import BadgesError
from worker.operate.staging import Staging

PAUSE_S = 2.0  # where there is no room


@app.task(name="badges.import_staged", bind=True, throws=(BadgesError,))
def import_staged(self: Task[..., object], staged_id: str) -> dict[str, object]:
    """Import the next slice, and ask for the one behind it. Delivered twice, it imports nothing twice."""
    here = services()
    staging = Staging(here.queue, here.settings)
    more = staging.go_on(staged_id)
    about = staging.get(staged_id)
    if more:
        if about.state == "no room":
            time.sleep(PAUSE_S)
        self.apply_async((staged_id,))
    return {"state": about.state, "run": about.run, "rows": about.rows}

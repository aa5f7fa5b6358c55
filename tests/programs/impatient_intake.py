"""``badges intake`` that waits for half a second for the head of a request."""

from __future__ import annotations

from worker.cli.session import session
from worker.web.intake_app import serve

with session() as here:
    serve(
        here.queue.client,
        here.settings,
        alone=None,
        rate="6000/minute",
        host="127.0.0.1",
        port=0,
        on_ready=lambda url: print(f"intake on {url}"),
        head_within_s=0.5,
    )

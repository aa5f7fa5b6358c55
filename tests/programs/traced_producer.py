"""Hands in a badge where a worker is loaded as well, and prints what of OpenTelemetry's SDK that has loaded.

With the argument ``without`` it runs where OpenTelemetry isn't installed.
"""

from __future__ import annotations

import sys

if "without" in sys.argv:
    sys.modules["opentelemetry"] = None  # type: ignore[assignment] # what importing it then raises is the case

from worker import BadgeQueue

with BadgeQueue.from_env() as queue:
    print(queue.enqueue([{"badgeMetaId": "696f0fd40772ad476ecf74ac", "customerId": 1}]).accepted)
theirs = ("opentelemetry.sdk.trace", "opentelemetry.exporter")
print([name for name in sys.modules if name.startswith(theirs)])

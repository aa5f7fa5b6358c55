"""Wants credentials at a time that others like it wait for, and prints which token it was given."""

from __future__ import annotations

import json
import sys
import time

import redis

from worker.domain.org import Org
from worker.store.queue import Queue
from worker.vendor.auth import Authenticator, Credentials
from worker.vendor.client import VendorClient

redis_url, settings, start_at = sys.argv[1:]
with redis.Redis.from_url(redis_url, decode_responses=True, protocol=2) as store:
    client = VendorClient()
    auth = Authenticator(queue=Queue(store), client=client)
    org = Org(**json.loads(settings))
    time.sleep(max(0, float(start_at) - time.time()))
    while not isinstance(credentials := auth.credentials(org), Credentials):
        time.sleep(0.02)
    client.close()
    print(credentials.token_id)

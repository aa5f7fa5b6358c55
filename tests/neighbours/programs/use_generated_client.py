"""Hand a badge in by a generated client, and read what became of it: ``URL KEY BADGE``."""

from __future__ import annotations

import sys

from badge_intake_client import AuthenticatedClient
from badge_intake_client.api.badges import import_badges
from badge_intake_client.api.runs import get_run, get_run_results
from badge_intake_client.models import Accepted, BadgeIssue, Failure, RunProgress

url, key, badge = sys.argv[1:]
client = AuthenticatedClient(base_url=url, token=key)
body = [BadgeIssue(badge_meta_id=badge, customer_id=910_000_001)]
taken = import_badges.sync(client=client, body=body, run="generated")
assert isinstance(taken, Accepted), taken
run = get_run.sync("generated", client=client)
assert isinstance(run, RunProgress), run
assert get_run_results.sync_detailed("generated", client=client).status_code == 200
refused = get_run.sync("nowhere", client=client)
assert isinstance(refused, Failure), refused
print(taken.accepted + taken.duplicates, run.total, refused.errors[0].code)

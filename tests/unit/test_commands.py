"""No command makes a worker useless; what an operator may want of the pool goes on."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from celery.worker.control import Panel
from structlog.testing import capture_logs

import worker.process.commands  # noqa: F401 - Celery knows them then


class Pool:
    """One of four places."""

    num_processes = 4

    def shrink(self, n: int) -> None:
        """Give places back."""
        self.num_processes -= n


@pytest.fixture
def state() -> SimpleNamespace:
    """What Celery hands to a command."""
    pool = Pool()
    consumer = SimpleNamespace(
        pool=pool, controller=SimpleNamespace(autoscaler=None), _update_prefetch_count=lambda _: None
    )
    return SimpleNamespace(consumer=consumer)


@pytest.mark.parametrize(
    ("wanted", "left"), [(1, 3), (3, 1), (4, 4), (100, 4), (0, 4), (-5, 4), ("x", 4), (None, 4)]
)
def test_the_pool_keeps_a_place(state: SimpleNamespace, wanted: object, left: int) -> None:
    """Fewer is an operator's business; none at all is a worker that looks well."""
    with capture_logs() as logged:
        said = Panel.data["pool_shrink"](state, n=wanted)
    assert state.consumer.pool.num_processes == left
    assert ("error" in said) == (left == 4)
    assert [line["event"] for line in logged] == ["message.refused"] * (left == 4)


@pytest.mark.parametrize(
    ("command", "instead"),
    [
        *((name, "badges pause") for name in ("add_consumer", "cancel_consumer", "rate_limit", "time_limit")),
        *((name, "badges run cancel") for name in ("revoke", "revoke_by_stamped_headers", "terminate")),
        ("shutdown", "SIGTERM"),
        ("pool_grow", "badges worker"),
    ],
)
def test_what_would_make_it_useless_is_refused(state: SimpleNamespace, command: str, instead: str) -> None:
    """With a word of what to do instead, whatever its arguments."""
    for arguments in ({}, {"queue": 5}, {"task_name": "badges.deliver", "hard": 1, "rate_limit": "1/h"}):
        with capture_logs() as logged:
            assert instead in Panel.data[command](state, **arguments)["error"]
        assert [line["task"] for line in logged] == [command]

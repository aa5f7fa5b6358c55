"""Prints how many pairs of exchange and routing key the worker's queues have, and how many queues it has."""

from __future__ import annotations

from worker.app import app

queues = app.amqp.queues.values()
print(len({(queue.exchange.name, queue.routing_key) for queue in queues}), len(queues))

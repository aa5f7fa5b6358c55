"""The queue in Redis: every transition of a job is one Lua script (``lua/``).

The connection is in ``server``, what a settlement is in ``domain``. Read ``keys.py``, then ``queue.py``.
When a batch may start, and what becomes of one whose worker died, is decided in ``lua/claim.lua``.
"""

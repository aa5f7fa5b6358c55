"""A Celery worker process: its tasks, what wakes it up, its sign of life.

What a task does is in ``worker/delivery.py``; the app is ``worker/app.py``. Read ``tasks.py`` first. What
becomes of a batch whose worker died is decided by the others, in ``store/lua/claim.lua``.
"""
